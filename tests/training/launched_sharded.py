"""Pre-trains under FSDP on CPUs, for a test: `launched_sharded.py report.json pretrain_flags.json tokenizer_flags.json`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType

from vqmae_hf.training import pretrain, train_audio_tokenizer
from vqmae_hf.training.stage_trainer import StageTrainer

start = PartialState.__init__


def start_as_if_on_accelerators(self: PartialState, *args: Any, **options: Any) -> None:
    """Accelerate shards on accelerators only; torch does on CPUs, too, over gloo."""
    start(self, *args, **options)
    if self.distributed_type == DistributedType.MULTI_CPU:
        self._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        self.__dict__.update(self._shared_state)


def main() -> None:
    """Train, then see a tokenizer refused, and leave word of what was seen."""
    torch.set_num_threads(1)
    report, *flags = sys.argv[1:]
    pretraining, tokenizer = (json.loads(Path(path).read_text(encoding="utf-8")) for path in flags)
    PartialState.__init__ = start_as_if_on_accelerators
    seen: dict[str, Any] = {}
    step = StageTrainer.training_step

    def look(self: StageTrainer, model: Any, *args: Any, **options: Any) -> torch.Tensor:
        seen["parameters"] = sorted({type(parameter).__name__ for parameter in model.parameters()})
        return step(self, model, *args, **options)

    StageTrainer.training_step = look
    pretrain.main(pretraining)
    try:
        train_audio_tokenizer.main(tokenizer)
    except ValueError as error:
        seen["refusal"] = str(error)
    if PartialState().is_main_process:
        Path(report).write_text(json.dumps({**seen, "processes": PartialState().num_processes}), encoding="utf-8")
    PartialState().wait_for_everyone()
    os._exit(0)  # as in launched_programs.py


if __name__ == "__main__":
    main()
