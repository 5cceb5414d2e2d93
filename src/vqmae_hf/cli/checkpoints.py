"""Opening checkpoints, with messages for what is usually wrong with them."""

import json
import os
from pathlib import Path
from typing import Any

from vqmae_hf.cli.running import say

QUICKSTART_MODEL = Path("quickstart/model")
CLASSIFIERS = ("VQMAEForAudioVisualClassification", "MDVAEForAudioVisualClassification")
HOW_TO_GET_ONE = (
    "`vqmae-hf train finetune FOLDER --output-dir my_model` makes one of your own clips, `make quickstart` one of drawn "
    "faces"
)


def find_model(model: str | None) -> str:
    """The checkpoint that was named, or that of the quickstart.

    Raises:
        ValueError: none was named and there is none, or a folder without a checkpoint.
    """
    if model is None:
        if not (QUICKSTART_MODEL / "config.json").is_file():
            raise ValueError(f"no model was named; pass --model CHECKPOINT. {HOW_TO_GET_ONE}.")
        say(f"model: {QUICKSTART_MODEL}", "dim")
        return str(QUICKSTART_MODEL)
    if os.path.isdir(model) and not (Path(model) / "config.json").is_file():
        raise ValueError(f"{model} is a folder without config.json, so no checkpoint; {HOW_TO_GET_ONE}.")
    if not os.path.isdir(model) and (model.count("/") != 1 or model.startswith((".", "/", "~"))):
        raise ValueError(f"{model} is no folder, and no Hub id such as name/model.")
    return model


def read_config(model: str) -> dict[str, Any]:
    """The content of a local checkpoint's config.json; empty for a Hub id."""
    path = Path(model) / "config.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def load_classifier(model: str | None, device: str) -> Any:
    """The pipeline "audiovisual-classification" of a checkpoint.

    Raises:
        ValueError: no checkpoint, or one of a model that classifies nothing.
    """
    model = find_model(model)
    architectures = read_config(model).get("architectures") or list(CLASSIFIERS)
    if not set(architectures) & set(CLASSIFIERS):
        raise ValueError(f"{model} is a {', '.join(architectures)}, which knows no emotions; {HOW_TO_GET_ONE}.")
    from transformers import pipeline

    task: Any = "audiovisual-classification"  # not among those that transformers' types know
    return pipeline(task, model=model, device=choose_device(device))


def choose_device(device: str) -> Any:
    """The device that an option names.

    Raises:
        ValueError: no such device.
    """
    import torch

    if device == "auto":
        return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"--device {device} cannot be used ({reason}); 'cpu' always can.") from error
    return chosen


def quieten_transformers() -> None:
    """No bar for a second of loading weights, no advice for programmers."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
