"""Which software, which commit and which machine a number comes from."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "numpy", "scipy", "scikit-learn", "librosa")


def describe_environment() -> dict[str, Any]:
    """`versions` of python and packages, git `commit`, `device`, `threads` of torch and `processors` of the machine."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    device = "cpu" if accelerator is None else torch.get_device_module(accelerator).get_device_name()
    return {
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}},
        "vqmae_hf": metadata.version("vqmae-hf"),
        "commit": git_commit(),
        "device": device,
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
    }


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, "+changes" where its files differ; None outside of one."""
    here = Path(__file__).resolve().parents[1]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(here), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    try:
        # An installed package may lie in a virtual environment within somebody else's checkout.
        if not git("ls-files", "version.py"):
            return None
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return None
