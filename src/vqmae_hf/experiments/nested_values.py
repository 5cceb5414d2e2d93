"""Nested values of YAML files: one layer over another, and names that nobody knows."""

import copy
import difflib
from collections.abc import Mapping
from typing import Any


def merge(values: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """`values` with those of `layer` over them, mapping by mapping; anything else is replaced."""
    merged = copy.deepcopy(dict(values))
    for name, value in layer.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = merge(merged[name], value) if both else copy.deepcopy(value)
    return merged


def unknown_names(what: str, names: Any, known: Any) -> list[str]:
    """A sentence for each of `names` that is not among `known`, with the one that was probably meant."""
    problems = []
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(str(name), list(known), n=1)
            problems.append(f"unknown {what} {name!r}" + (f", did you mean {close[0]}?" if close else ""))
    return problems
