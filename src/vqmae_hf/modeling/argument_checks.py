"""Numbers that people hand to processors and pipelines, refused in one wording where they make no sense."""

import math
from numbers import Integral, Real
from typing import Any


def check_whole(name: str, value: Any) -> None:
    """Refuses anything but a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name}={value!r}: accepted is a positive whole number.")


def check_positive(name: str, value: Any) -> None:
    """Refuses anything but a positive, finite number."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < float(value) < math.inf:
        raise ValueError(f"{name}={value!r}: accepted is a positive, finite number.")
