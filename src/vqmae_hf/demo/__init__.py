"""
The web page on which one tries the models with clips of one's own: `vqmae_hf.demo.launch(checkpoint=...)`, or
`python -m vqmae_hf.demo --checkpoint FOLDER`.

Needs the extra `demo`: `pip install vqmae-hf[demo]`.
"""

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


__all__ = ["launch"]
