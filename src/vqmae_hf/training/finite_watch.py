"""The watch for NaN and infinity in training: which quantity left the numbers at which step, before anything is saved.

Looking at a value makes the host wait for the device. So what is seen stays on the device, as the first bad step of each
quantity, and is read where the host waits anyway: when averages are logged, before a validation, before a checkpoint.
On a CPU there is nothing to wait for; one process looks at every step, before its optimizer spoils the weights.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

NEVER = torch.iinfo(torch.int64).max
GRADIENT_NORM = "gradient norm"
INPUT, WEIGHT = "input ", "weight "


class DivergedTrainingError(RuntimeError):
    """Something in training became NaN or infinite.

    Attributes:
        step: the optimizer step, counted from 1, of which it is the first.
        quantities: what was not finite at that step; causes before what follows from them: inputs, terms of the loss,
            the loss, the gradient norm, weights.
    """

    def __init__(self, step: int, quantities: Sequence[str], remedy: str):
        self.step = step
        self.quantities = tuple(quantities)
        shown = list(self.quantities[:6])
        more = len(self.quantities) - len(shown)
        listed = ", ".join(shown) + (f" and {more} more" if more else "")
        super().__init__(f"training diverged at step {step}: not finite is {listed}. {remedy}")


class FiniteWatch:
    """Remembers, on the device, the first step at which each of some quantities was not finite."""

    def __init__(self) -> None:
        self.first_bad_steps: dict[str, Tensor] = {}

    def observe(self, name: str, value: Tensor, step: int) -> None:
        """Look at the tensor of one step; on the device alone."""
        value = value.detach()
        value = value.full_tensor() if isinstance(value, DTensor) else value
        before = self.first_bad_steps.get(name)
        if before is None:
            before = torch.full((), NEVER, device=value.device)
        self.first_bad_steps[name] = torch.where(torch.isfinite(value).all(), before, before.clamp(max=step))

    def found(self) -> dict[str, int]:
        """First bad step by quantity, of those that have one. Waits for the device."""
        if not self.first_bad_steps:
            return {}
        steps = torch.stack(list(self.first_bad_steps.values())).tolist()
        return {name: step for name, step in zip(self.first_bad_steps, steps, strict=True) if step != NEVER}


class FiniteWatchCallback(TrainerCallback):
    """Reads a watch, and looks through the weights, before a log, a validation, a checkpoint or the end.

    Args:
        watch: what the trainer shows its losses and gradients to.
        accelerator: of the trainer; all processes stop together, with the same error.
    """

    def __init__(self, watch: FiniteWatch, accelerator: Accelerator):
        self.watch = watch
        self.accelerator = accelerator

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self.accelerator.device.type == "cpu" and self.accelerator.num_processes == 1:
            self.check(args)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        keeps = control.should_evaluate or control.should_save or control.should_training_stop
        if keeps or control.should_log:
            # A finite gradient can still carry a weight away, and codebooks move without one.
            self.check(args, _weights_that_left(model, state.global_step) if keeps else {})

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        self.check(args, _weights_that_left(model, state.global_step))

    def check(self, args: TrainingArguments, further: Mapping[str, int] | None = None) -> None:
        """Raise `DivergedTrainingError` if any process saw anything."""
        seen = gather_object([{**self.watch.found(), **(further or {})}])
        steps = [step for found in seen for step in found.values()]
        if not steps:
            return
        first = min(steps)
        names = sorted(
            dict.fromkeys(n for found in seen for n, step in found.items() if step == first), key=_causes_first
        )
        raise DivergedTrainingError(first, names, _remedy(args, names))


def _causes_first(name: str) -> int:
    """Processes see different things: all see the gradient norm, one the term that spoilt it."""
    known = {"loss": 2, GRADIENT_NORM: 3}
    if name.startswith(WEIGHT):
        return 4
    return 0 if name.startswith(INPUT) else known.get(name, 1)


def _weights_that_left(model: nn.Module, step: int) -> dict[str, int]:
    """Parameters and buffers that are not finite after a step; waits for the device once."""
    names, flags = [], []
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if local.is_floating_point():
            names.append(name)
            flags.append(torch.isfinite(local.detach()).all())
    finite = torch.stack(flags).tolist() if flags else []
    return {f"{WEIGHT}{name}": step for name, is_finite in zip(names, finite, strict=True) if not is_finite}


def _remedy(args: TrainingArguments, names: Sequence[str]) -> str:
    """What to do, and where the last good checkpoint is."""
    folder = Path(str(args.output_dir))
    checkpoint = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    kept = f"the last good checkpoint is {checkpoint}" if checkpoint else "there is no checkpoint from before"
    if any(name.startswith(INPUT) for name in names):
        advice = (
            "The batch itself holds such values: make its store or clips again, or leave out the clips they come from."
        )
    else:
        advice = (
            f"Lower learning_rate (now {args.learning_rate:g}) or lengthen warmup_steps (now {args.warmup_steps:g}), in "
            "a new output_dir, since a resumed run keeps the learning rates of its checkpoint; or lower max_grad_norm (now "
            f"{args.max_grad_norm:g})."
        )
        if args.fp16:
            advice += " Or set bf16 in place of fp16, which knows nothing above 65504."
    return f"{advice} Nothing was saved since: {kept}. debug='underflow_overflow' names the layer in which it begins."
