"""A griffe extension for mkdocstrings: docstrings in the form of transformers, ``name (`type`): text`` and [`Class`]."""

import re
from typing import Any

import griffe

LINK = re.compile(r"\[(`[^`\]]+`)\](?![(\[])")
NAME_AND_TYPE = re.compile(r"^ +[\w, *]+ \(`.*?\):", re.MULTILINE)


class TransformersDocstrings(griffe.Extension):
    """Takes the marks out that only transformers' own documentation builder knows."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = plain_marks(obj.docstring.value)


def plain_marks(text: str) -> str:
    """[`Class`] as `Class`, and types without the backticks that they would otherwise be shown with."""
    text = NAME_AND_TYPE.sub(lambda match: match[0].replace("`", ""), text)
    return LINK.sub(r"\1", text)
