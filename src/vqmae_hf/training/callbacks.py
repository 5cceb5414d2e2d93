"""What happens beside the training loop: epochs made known to the data, files written, pictures drawn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from vqmae_hf.data.shards import write_lines

LOG_HISTORY_NAME = "log_history.jsonl"
PICTURES_FOLDER = "pictures"
TENSORBOARD_FOLDER = "tensorboard"

Painter = Callable[[torch.nn.Module], dict[str, Image.Image]]


class EpochCallback(TrainerCallback):
    """Tells the training data which epoch it is.

    accelerate does so too, but not through the samplers that it puts around sharded and resumed loaders; there, every
    epoch would draw the same windows.
    """

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.dataset.set_epoch(int(state.epoch or 0))


class LogHistoryCallback(TrainerCallback):
    """Keeps `log_history.jsonl`, one line per logged step, equal to the trainer's own history."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            write_lines(Path(args.output_dir) / LOG_HISTORY_NAME, state.log_history)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            with (Path(args.output_dir) / LOG_HISTORY_NAME).open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(state.log_history[-1]) + "\n")


class PictureCallback(TrainerCallback):
    """Draws the same clips after every evaluation, as PNG files and in TensorBoard.

    Args:
        paint: the model -> pictures by name.
        tensorboard: whose log the pictures join.
    """

    def __init__(self, paint: Painter, tensorboard: TensorBoardCallback):
        self.paint = paint
        self.tensorboard = tensorboard

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, model: Any = None, **kwargs: Any
    ) -> None:
        if not state.is_world_process_zero:
            return
        was_training = model.training
        model.eval()
        with torch.no_grad():
            pictures = self.paint(model)
        model.train(was_training)
        folder = Path(args.output_dir) / PICTURES_FOLDER
        folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            picture.save(folder / f"{name}-step{state.global_step:07d}.png")
            if self.tensorboard.tb_writer is not None:
                pixels = np.asarray(picture)
                self.tensorboard.tb_writer.add_image(name, pixels, state.global_step, dataformats="HWC")


def tensorboard_callback(output_dir: str | Path) -> TensorBoardCallback:
    """Scalars in one place, `output_dir/tensorboard`, however often a run is resumed."""
    callback = TensorBoardCallback()
    callback.logging_dir = str(Path(output_dir) / TENSORBOARD_FOLDER)
    return callback
