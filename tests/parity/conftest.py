"""Recorded tensors of the authors' implementations, read from ../shared/parity."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

RELATIVE = 1e-5


@pytest.fixture(scope="session")
def parity(shared_dir: Path) -> Callable[[str], dict[str, Any]]:
    """Loads one recording by name, without its `.pt`."""

    def load(name: str) -> dict[str, Any]:
        return torch.load(shared_dir / "parity" / f"{name}.pt", weights_only=True)

    return load


def assert_matches(actual: torch.Tensor, expected: torch.Tensor, what: str, relative: float = RELATIVE) -> None:
    """Largest difference over the largest magnitude, so that elements near zero are not held to their own scale."""
    assert actual.shape == expected.shape, f"{what}: {tuple(actual.shape)} against {tuple(expected.shape)}"
    scale = expected.abs().max().clamp(min=1e-12)
    error = ((actual.detach().double() - expected.double()).abs().max() / scale).item()
    assert error <= relative, f"{what}: relative error {error:.2e} exceeds {relative:.0e}"
