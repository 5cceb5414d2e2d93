"""The demo as a Space. Which models it shows is said in the Space's variables, as Hub ids; see README.md."""

import os

from vqmae_hf.demo import launch


def named(variable: str) -> str | None:
    """The value of a variable of the Space; None where it is not set or empty."""
    return os.environ.get(variable, "").strip() or None


launch(
    named("VQMAE_CHECKPOINT"),
    pretraining=named("VQMAE_PRETRAINING"),
    mdvae=named("VQMAE_MDVAE"),
    host="0.0.0.0",
    port=7860,
    max_seconds=float(named("VQMAE_MAX_SECONDS") or 15),
    max_megabytes=float(named("VQMAE_MAX_MEGABYTES") or 50),
)
