"""Configurations for `accelerate launch`: one YAML file per way to train in several processes, each with its command."""

from pathlib import Path

FOLDER = Path(__file__).parent


def launch_names() -> list[str]:
    """Names of the packaged configurations."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def launch_file(name: str) -> Path:
    """The file of a configuration.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in launch_names():
        raise ValueError(f"{name!r} is no launch configuration; {launch_names()} are.")
    return FOLDER / f"{name}.yaml"
