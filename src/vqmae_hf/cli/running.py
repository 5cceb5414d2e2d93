"""How every verb runs: what it prints where, how errors look, and what the exit code says.

Answers go to stdout, everything else (progress, logs, warnings, errors) to stderr. With `--json`, stdout is one JSON
document; of a verb that failed, `{"error": {"type", "message"}}`.
"""

import functools
import inspect
import json
import logging
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NoReturn, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

DONE, FAILED, USAGE, SOME_FAILED, DEFECT, INTERRUPTED, PIPE_CLOSED = 0, 1, 2, 3, 4, 130, 141

# Wide enough for tables that go to a file or another program.
WIDTH_WITHOUT_TERMINAL = 200


@dataclass
class Answer:
    """What a verb has to say.

    Args:
        document: what `--json` prints.
        shown: what people read, one after the other: lines, which are printed as they are, or rich renderables.
        exit_code: DONE, or SOME_FAILED where some of several inputs could not be used.
    """

    document: Any
    shown: Sequence[Any] = field(default_factory=list)
    exit_code: int = DONE


# Whether errors shall show their trace.
_debug: ContextVar[bool] = ContextVar("debug", default=False)


class Verbs(TyperGroup):
    """The group of all verbs; takes `--debug` wherever it stands, and `_` for `-` in the names of options."""

    def main(self, args: Sequence[str] | None = None, *positional: Any, **options: Any) -> Any:
        args = list(sys.argv[1:] if args is None else args)
        end = args.index("--") if "--" in args else len(args)
        _debug.set("--debug" in args[:end])
        args = [arg for i, arg in enumerate(args) if arg != "--debug" or i > end]
        return super().main(args, *positional, **options)


def verb(function: Callable[..., Answer | None]) -> Callable[..., None]:
    """Make a command of a function that returns an `Answer` (None: nothing to say).

    Its docstring is the help text: paragraphs flow, those that are indented (examples) keep their lines.
    """

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        as_json = bool(kwargs.get("as_json"))
        with _errors_as_lines(as_json):
            with redirect_stdout(sys.stderr), _readable_warnings():
                _register_models()
                answer = function(*args, **kwargs)
            if answer is not None:
                emit(answer, as_json)
                if answer.exit_code:
                    raise typer.Exit(answer.exit_code)

    command.__doc__ = _flow(function.__doc__ or "")
    return command


def _flow(text: str) -> str:
    """Lines of each paragraph joined, but for indented ones; the terminal breaks them where it ends."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(part if part.startswith(" ") else " ".join(part.split("\n")) for part in paragraphs)


def emit(answer: Answer, as_json: bool) -> None:
    """Print an answer to stdout."""
    if as_json:
        print(json.dumps(_finite(answer.document), ensure_ascii=False), flush=True)
        return
    console = console_for(sys.stdout)
    for item in answer.shown:
        if isinstance(item, str):
            print(item)
        else:
            console.print(item)
    sys.stdout.flush()


def console_for(stream: TextIO) -> Console:
    """A console on a stream; one that is no terminal gets long lines."""
    width = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_WITHOUT_TERMINAL
    return Console(file=stream, width=width, soft_wrap=False, highlight=False)


def say(text: str, style: str = "") -> None:
    """A line of prose to stderr."""
    Console(file=sys.stderr, soft_wrap=True, highlight=False).print(escape(text), style=style)


def usage_error(message: str, parameter: str | None = None) -> NoReturn:
    """Refuse a command line that makes no sense; exit code 2."""
    raise typer.BadParameter(message, param_hint=parameter)


def shows_progress(quiet: bool) -> bool:
    """Whether to draw progress bars: to a terminal, unless asked not to."""
    return not quiet and sys.stderr.isatty()


def _register_models() -> None:
    """Importing the package did so, unless the command `vqmae-hf` put it off (see `vqmae_hf_command`)."""
    from vqmae_hf.registration import register_auto_classes

    register_auto_classes()


@contextmanager
def _errors_as_lines(as_json: bool) -> Iterator[None]:
    """Errors as one readable line and an exit code; with `--debug`, as they are."""
    if _debug.get():
        yield
        return
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except KeyboardInterrupt:
        _end(INTERRUPTED, "KeyboardInterrupt", "interrupted", as_json)
    except BrokenPipeError:
        # Who read our output has gone. Nothing is to be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(PIPE_CLOSED) from None
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        _end(FAILED, type(error).__name__, str(error) or type(error).__name__, as_json)
    except Exception as error:
        if type(error).__module__ == "huggingface_hub.errors":  # such as a configuration that refuses its fields
            _end(FAILED, type(error).__name__, str(error.__cause__ or error), as_json)
        message = f"{type(error).__name__}: {error}. This is a defect of vqmae-hf; --debug shows the trace to report."
        _end(DEFECT, type(error).__name__, message, as_json)


def _end(exit_code: int, kind: str, message: str, as_json: bool) -> NoReturn:
    console = Console(file=sys.stderr, soft_wrap=True, highlight=False)
    console.print(f"[bold red]Error:[/] {escape(message)}")
    if as_json:
        print(json.dumps({"error": {"type": kind, "message": message}}, ensure_ascii=False), flush=True)
    raise typer.Exit(exit_code)


@contextmanager
def _readable_warnings() -> Iterator[None]:
    """Warnings, of python and of the loggers of this package, as single lines on stderr, each once."""
    seen: set[str] = set()

    def show(message: Any, category: type[Warning], *_: Any, **__: Any) -> None:
        if str(message) not in seen and not issubclass(category, DeprecationWarning):
            seen.add(str(message))
            say(f"Warning: {message}", "yellow")

    handler = _LogLines()
    logger = logging.getLogger("vqmae_hf")
    with warnings.catch_warnings():
        warnings.showwarning = show
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)


class _LogLines(logging.Handler):
    """Records of a logger as lines on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage(), "yellow" if record.levelno >= logging.WARNING else "")


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: null stands for both."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
