"""
The web page on which one tries the models with clips of one's own: `vqmae_hf.demo.launch(checkpoint=...)`, or
`python -m vqmae_hf.demo --checkpoint FOLDER`.

Needs the extra `demo`: `pip install vqmae-hf[demo]`.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def launch(*args: Any, **options: Any) -> Any:
    """
    Start the web page; arguments and return value are those of [`vqmae_hf.demo.server.launch_demo`].

    Raises:
        ImportError: Gradio, which the extra `demo` brings, is not installed.
    """
    if find_spec("gradio") is None:
        raise ImportError("the demo needs Gradio, which is not installed; run `pip install vqmae-hf[demo]`.")
    return import_module("vqmae_hf.demo.server").launch_demo(*args, **options)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that what is kept for visitors is deleted; later it does what it did."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


__all__ = ["ended_by_sigterm", "launch"]
