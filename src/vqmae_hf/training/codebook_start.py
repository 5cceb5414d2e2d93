"""A first codebook that lies where the latents are.

Normal code vectors lie far from what an untrained encoder puts out: all latents fall to one code, the decoder learns to
ignore them, and the codes that are revived later find latents that no longer differ.
"""

from collections.abc import Mapping

import torch
from transformers import PreTrainedModel


@torch.no_grad()
def start_codebook(tokenizer: PreTrainedModel, batch: Mapping[str, torch.Tensor], seed: int = 0) -> None:
    """Replace the code vectors of an untrained tokenizer by randomly chosen latents of a batch; nothing else changes.

    Args:
        tokenizer: with a `quantizer`; its latents are those of training mode (batch statistics).
        batch: inputs of its forward; the more clips, the more varied the codes.
        seed: of the choice.
    """
    seen: list[torch.Tensor] = []
    state = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    was_training = tokenizer.training
    hook = tokenizer.quantizer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tokenizer.train()(**batch)
    hook.remove()
    tokenizer.train(was_training)
    tokenizer.load_state_dict(state)

    latents, codebook = seen[0].float().flatten(0, -2), tokenizer.quantizer.codebook
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(len(latents), (len(codebook),), generator=generator)
    codebook.copy_(latents[rows.to(latents.device)])
