"""Weights under other names as weights of our models: renamed, compared name by name and size by size, loaded."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig, PreTrainedModel

from vqmae_hf.modeling.vector_quantizer import VectorQuantizer

StateDict = Mapping[str, torch.Tensor]
KeyMap = tuple[tuple[str, str], ...]  # (pattern of the authors' name, our name), the first full match wins
ModelT = TypeVar("ModelT", bound=PreTrainedModel)
ConfigT = TypeVar("ConfigT", bound=PreTrainedConfig)

# What the authors' checkpoints do not hold, because it follows from the configuration.
COMPUTED = ("quantizer.average_started", "_sinusoids")


class ConversionError(ValueError):
    """A checkpoint that is not what the converter was asked to read; nothing was written."""


def rename(key: str, key_map: KeyMap) -> str | None:
    """Our name of a parameter, None where no rule of the map knows it."""
    return next((re.sub(pattern, ours, key) for pattern, ours in key_map if re.fullmatch(pattern, key)), None)


def map_keys(state: StateDict, key_map: KeyMap) -> dict[str, torch.Tensor]:
    """
    `state` under our names.

    Raises:
        ConversionError: naming the parameters that no rule of the map knows, or that two names stand for.
    """
    renamed = {key: rename(key, key_map) for key in state}
    unknown = [key for key, name in renamed.items() if name is None]
    if unknown:
        raise ConversionError(
            f"{len(unknown)} of {len(state)} parameters are unknown: {some(unknown)}; this is not a checkpoint of the "
            "kind that was asked for."
        )
    mapped = {name: state[key] for key, name in renamed.items() if name is not None}
    if len(mapped) < len(state):
        twice = [key for key, name in renamed.items() if list(renamed.values()).count(name) > 1]
        raise ConversionError(f"several parameters have one meaning: {some(twice)}; each may be there once.")
    return mapped


def split_attention(mapped: StateDict) -> dict[str, torch.Tensor]:
    """torch's joint input projections of attention, as one projection each for query, key and value."""
    split: dict[str, torch.Tensor] = {}
    for name, value in mapped.items():
        match = re.fullmatch(r"(.*)\.in_proj_(weight|bias)", name)
        if match and value.dim():
            for part, tensor in zip(("query", "key", "value"), value.tensor_split(3), strict=True):
                split[f"{match[1]}.{part}.{match[2]}"] = tensor
        else:
            split[name] = value
    return split


def make_config(config_class: type[ConfigT], sizes: Mapping[str, Any], overrides: Mapping[str, Any]) -> ConfigT:
    """
    A configuration of sizes read off a checkpoint; `overrides` win.

    Raises:
        ConversionError: an override that the configuration does not have, or sizes that cannot be.
    """
    known = [field.name for field in fields(config_class)]
    if unknown := sorted(set(overrides) - set(known)):
        raise ConversionError(f"config_overrides names {some(unknown)}; {config_class.__name__} has {sorted(known)}.")
    try:
        return config_class(**{**sizes, **overrides})
    except (StrictDataclassError, ValueError, TypeError) as error:
        raise ConversionError(f"the sizes of the parameters make no {config_class.__name__}: {error}") from error


def load_converted(model_class: type[ModelT], config: PreTrainedConfig, mapped: StateDict) -> ModelT:
    """
    A model of `config` with exactly the `mapped` weights, in float32 and evaluation mode.

    Raises:
        ConversionError: parameters that are missing, too many or of another size. They are compared before any memory is
            taken, since sizes in `config` may come from the file.
    """
    with torch.device("meta"):
        expected = {name: tuple(value.shape) for name, value in model_class(config).state_dict().items()}
    missing = [name for name in expected if name not in mapped and not name.endswith(COMPUTED)]
    unexpected = [name for name in mapped if name not in expected]
    # Their tokens and positions carry axes of length one that ours do without.
    other_sizes = [
        f"{name} {tuple(value.shape)} instead of {expected[name]}"
        for name, value in mapped.items()
        if name in expected and long_axes(value.shape) != long_axes(expected[name])
    ]
    if missing or unexpected or other_sizes:
        found = {"missing": missing, "not expected": unexpected, "of another size": other_sizes}
        problems = "; ".join(f"{what}: {some(names)}" for what, names in found.items() if names)
        raise ConversionError(f"the checkpoint does not fit a {model_class.__name__}; {problems}.")
    model = model_class(config)
    model.load_state_dict({name: value.reshape(expected[name]) for name, value in mapped.items()}, strict=False)
    quantizer = getattr(model, "quantizer", None)
    if isinstance(quantizer, VectorQuantizer):
        quantizer.average_started.fill_(True)
    return model.eval()


def long_axes(shape: Sequence[int]) -> tuple[int, ...]:
    """A shape without its axes of length one."""
    return tuple(size for size in shape if size != 1)


def count_layers(mapped: StateDict, pattern: str) -> int:
    """
    How many layers there are, where `pattern` begins a parameter's name and its group is the number of the layer.

    Raises:
        ConversionError: numbers are left out. Without this, one high number would ask for as many layers.
    """
    numbers = {int(match[1]) for name in mapped if (match := re.match(pattern, name))}
    if numbers != set(range(len(numbers))):
        raise ConversionError(
            f"layers are left out: {len(numbers)} are there, the last of them is number {max(numbers)}, counted from 0."
        )
    return len(numbers)


def some(names: Sequence[str], count: int = 5) -> str:
    """The first few names, for a message, cut where they are long."""
    shown = ", ".join(name if len(name) <= 80 else f"{name[:80]}..." for name in map(str, names[:count]))
    return f"{shown} and {len(names) - count} more" if len(names) > count else shown
