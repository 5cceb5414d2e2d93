"""Optimizers of masked autoencoders and classifiers, where they are not simply Trainer's own.

Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks") steps by the orthogonal matrix that is
nearest to the momentum, so that all directions are learned at one speed. It is torch's, with the step sizes of Liu et al.
2025 ("Muon is scalable for LLM training"): about those of AdamW, so that a learning rate holds for both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate.utils import parse_flag_from_env
from torch import nn
from transformers import PreTrainedModel, Trainer, TrainingArguments

from vqmae_hf.modeling.linear_products import Linear
from vqmae_hf.training.transfer import parameter_depth

Group = dict[str, Any]  # of parameters, and what the optimizer is told of them


class MuonWithOthers(torch.optim.Optimizer):
    """Muon for matrices, and another optimizer for whatever else a model has; to Trainer and its scheduler, one optimizer.

    Args:
        matrices: parameter groups of 2-D tensors, with `lr` and `weight_decay`.
        others: the optimizer of all other parameters.
    """

    def __init__(self, matrices: Sequence[Group], others: torch.optim.Optimizer):
        self.muon = torch.optim.Muon(matrices, adjust_lr_fn="match_rms_adamw")
        self.others = others
        # The very groups of both: a scheduler that changes one here changes it there.
        super().__init__([*self.muon.param_groups, *others.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.muon.step()
        self.others.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.muon.state_dict(), "others": self.others.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.muon.load_state_dict(state_dict["muon"])
        self.others.load_state_dict(state_dict["others"])
        self.param_groups = [*self.muon.param_groups, *self.others.param_groups]


def make_optimizer(
    model: PreTrainedModel, args: TrainingArguments, *, layer_decay: float = 1.0, muon: bool = False
) -> torch.optim.Optimizer | None:
    """The optimizer of a VQ-MAE; None where it is the one that Trainer makes by itself.

    Args:
        model: a VQ-MAE of any kind.
        args: learning rate, weight decay and the optimizer (AdamW) of what is not Muon's.
        layer_decay: the learning rate of a parameter is `learning_rate * layer_decay ** (depth of the top - its depth)`,
            as for BEiT and MAE: what pre-training has learned near the input is the most general, and moves the least.
        muon: Muon for the weight matrices of the transformer blocks, which are nearly all parameters.

    Raises:
        ValueError: under FSDP, which makes its own parameters, of parts of matrices.
    """
    if layer_decay == 1 and not muon:
        return None
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError(
            f"muon={muon} and layer_decay={layer_decay} need whole parameters, of which FSDP gives every process a part; "
            "set muon to false and layer_decay to 1, or train in several processes without FSDP (accelerate's "
            "distributed_type MULTI_GPU)."
        )
    matrices = block_matrices(model) if muon else set()
    groups = parameter_groups(model, args, matrices, layer_decay)
    optimizer_class, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
    others = optimizer_class([group for is_matrix, group in groups if not is_matrix], **options)
    of_matrices = [group for is_matrix, group in groups if is_matrix]
    return MuonWithOthers(of_matrices, others) if of_matrices else others


def block_matrices(model: nn.Module) -> set[str]:
    """Names of the weight matrices in transformer blocks: attention and MLP, not embeddings, code heads or classes."""
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Linear)}


def parameter_groups(
    model: PreTrainedModel, args: TrainingArguments, matrices: set[str], layer_decay: float
) -> list[tuple[bool, Group]]:
    """(Whether it is of the named matrices, group of parameters with its `lr` and `weight_decay`), the deepest last."""
    num_layers = model.config.num_hidden_layers
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    members: dict[tuple[int, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            kind = parameter_depth(name, num_layers), name in decayed, name in matrices
            members.setdefault(kind, []).append(parameter)
    return [
        (
            is_matrix,
            {
                "params": parameters,
                "lr": args.learning_rate * layer_decay ** (2 + num_layers - depth),
                "weight_decay": args.weight_decay if decays else 0.0,
            },
        )
        for (depth, decays, is_matrix), parameters in sorted(members.items(), key=lambda item: item[0])
    ]
