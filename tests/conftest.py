"""A test environment stricter than production: no network, no torchvision, seeds set, state restored."""

import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A torchvision that cannot load its operators breaks `from transformers import Trainer`; the package needs none.
sys.modules["torchvision"] = None  # type: ignore[assignment]

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The recordings and parity tensors beside the checkout; tests that need them skip, visibly, without."""
    if not SHARED.is_dir():
        pytest.skip(f"NOT CHECKED AGAINST THE RECORDED REFERENCE: {SHARED} is absent")
    return SHARED


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
    np.random.seed(0)
