"""Recipes: one YAML file per experiment that holds only what differs from the defaults.

Packaged ones lie in the folder `recipes/` as `<stage>-<name>.yaml`; `--recipe <name>` finds the stage's own. Flags and
keyword arguments override what a recipe says.
"""

import argparse
import difflib
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml
from transformers import HfArgumentParser

RECIPES = Path(__file__).parent / "recipes"

Arguments = TypeVar("Arguments")


def recipe_names(stage: str) -> list[str]:
    """Names of the packaged recipes of a stage ("audio_tokenizer", "visual_tokenizer", "pretrain", "finetune")."""
    return sorted(path.stem.removeprefix(f"{stage}-") for path in RECIPES.glob(f"{stage}-*.yaml"))


def recipe_path(stage: str, recipe: str) -> Path:
    """File of a packaged recipe, or of one named by its path.

    Raises:
        ValueError: neither exists.
    """
    if recipe in recipe_names(stage):
        return RECIPES / f"{stage}-{recipe}.yaml"
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    raise ValueError(f"recipe={recipe!r} is neither a YAML file nor one of the {stage} recipes {recipe_names(stage)}.")


def read_recipe(argument_class: type, recipe: str) -> dict[str, Any]:
    """Values of a recipe.

    Raises:
        ValueError: no such recipe, not a mapping, or keys that are no arguments of the stage (all are named).
    """
    path = recipe_path(argument_class.stage, recipe)
    values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}; a mapping of arguments to values is expected.")
    known = {field.name for field in fields(argument_class) if field.init} - {"recipe"}
    unknown = [f"{name}{_suggestion(name, known)}" for name in values if name not in known]
    if unknown:
        raise ValueError(f"{path} sets arguments that {argument_class.__name__} does not have: {', '.join(unknown)}.")
    return values


def parse_arguments(argument_class: type[Arguments], argv: Sequence[str] | None = None) -> Arguments:
    """Arguments of a program from its command line, over those of `--recipe`."""
    parser = _parser(argument_class)
    recipe = parser.parse_known_args(argv)[0].recipe
    return _parse(parser, argument_class, recipe, {}, argv)


def build_arguments(argument_class: type[Arguments], recipe: str | None = None, **values: Any) -> Arguments:
    """Arguments of a program from python: `values` over those of `recipe` over the defaults."""
    known = {field.name for field in fields(argument_class) if field.init}  # type: ignore[arg-type]
    unknown = [f"{name}{_suggestion(name, known)}" for name in values if name not in known]
    if unknown:
        raise ValueError(f"{argument_class.__name__} has no arguments {', '.join(unknown)}.")
    return _parse(_parser(argument_class), argument_class, recipe, values, [])


def read_flags(argument_class: type, argv: Sequence[str]) -> dict[str, Any]:
    """What a command line says, by argument; nothing of what it leaves to defaults. Unchecked, as recipes are."""
    parser = _parser(argument_class)
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return vars(parser.parse_args(list(argv)))


def describe_arguments(argument_class: type) -> str:
    """Every argument of a program with its meaning and default, as `--help` shows them."""
    return _parser(argument_class).format_help()


class _ArgumentParser(HfArgumentParser):
    """Says what is wrong in one line, where argparse would print two hundred arguments first."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()[0]
        known = {option for action in self._actions for option in action.option_strings}
        suggestion = _suggestion(unknown.split("=")[0], known) if unknown.startswith("--") else ""
        self.exit(2, f"error: {message}{suggestion}; --help lists all arguments\n")


def _parser(argument_class: type) -> HfArgumentParser:
    # Without abbreviations: --corpus must not be taken for --corpus_root.
    return _ArgumentParser(argument_class, description=argument_class.__doc__, allow_abbrev=False)


def _parse(
    parser: HfArgumentParser,
    argument_class: type,
    recipe: str | None,
    values: dict[str, Any],
    argv: Sequence[str] | None,
) -> Any:
    defaults = read_recipe(argument_class, recipe) if recipe is not None else {}
    # Through the parser, which also reads the numbers that YAML takes for text, such as 1e-3.
    parser.set_defaults(**{**defaults, **values, "recipe": recipe})
    return parser.parse_args_into_dataclasses(argv, look_for_args_file=False)[0]


def _suggestion(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
