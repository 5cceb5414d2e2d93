"""The command `vqmae-hf`.

It stands outside of the package because importing the package registers its models, which takes torch and transformers:
seconds that `--help`, `--version`, completion and a mistyped option should not cost.
"""

import os

SWITCH = "VQMAE_HF_REGISTER_ON_IMPORT"


def main() -> None:
    """Run the command line; the verb that is asked for registers the models."""
    os.environ[SWITCH] = "0"
    try:
        from vqmae_hf.cli.__main__ import main as run
    finally:
        del os.environ[SWITCH]  # for processes that are started later
    run()
