"""Checkpoints that are there whole or not at all.

A checkpoint is written in a folder beside, listed with sizes and checksums in `files.json`, and moved to its name in one
step; older ones are deleted after that. What a killed process or a full disk leaves is no checkpoint, and one that was
damaged later (cut off by a copy, lost in a power failure) is found before a training goes on from it.
"""

import json
import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from vqmae_hf.data.shards import write_json

FILES_NAME = "files.json"
UNFINISHED = ".unfinished_checkpoint"
DAMAGED = "damaged-"

logger = logging.getLogger(__name__)


class DamagedCheckpointError(ValueError):
    """No checkpoint of a run is whole."""


class CheckpointNotWrittenError(OSError):
    """A checkpoint could not be written, mostly because the disk is full."""


def checkpoint_folders(output_dir: Path) -> list[Path]:
    """Folders of a run that are named as checkpoints, the newest first."""
    numbered = {}
    for path in output_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        step = path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")
        if path.is_dir() and step.isdecimal():
            numbered[int(step)] = path
    return [numbered[step] for step in sorted(numbered, reverse=True)]


def list_files(folder: Path) -> None:
    """Write `files.json`: size in bytes and CRC-32 of each file of a folder."""
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "crc32": _checksum(path)}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != FILES_NAME
    }
    write_json(folder / FILES_NAME, files)


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in words; None where it is whole.

    One without `files.json`, of another program, is whole if each of its files can be read and none is missing that resuming
    needs.
    """
    listing = folder / FILES_NAME
    if not listing.exists():
        return _find_unreadable(folder)
    try:
        files: dict[str, dict[str, Any]] = json.loads(listing.read_text(encoding="utf-8"))
    except ValueError:
        return f"{FILES_NAME} is no JSON"
    for name, expected in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (size := path.stat().st_size) != expected["bytes"]:
            return f"{name} has {size} bytes of {expected['bytes']}"
        if _checksum(path) != expected["crc32"]:
            return f"{name} holds other bytes than were written"
    return None


def last_whole_checkpoint(output_dir: Path) -> Path | None:
    """The newest whole checkpoint; None where there are none at all.

    Newer ones that are damaged become `damaged-checkpoint-...`, so that no later step takes them for checkpoints, and what
    an interrupted write has left is deleted; a warning names each.

    Raises:
        DamagedCheckpointError: there are checkpoints, and none is whole.
    """
    if (unfinished := output_dir / UNFINISHED).exists():
        logger.warning("%s was being written when the run ended; it is no checkpoint and was deleted.", unfinished)
        shutil.rmtree(unfinished)
    damaged: dict[Path, str] = {}
    for folder in checkpoint_folders(output_dir):
        damage = find_damage(folder)
        if damage is None:
            _set_aside(damaged, folder)
            return folder
        damaged[folder] = damage
    if damaged:
        listed = "; ".join(f"{folder}: {damage}" for folder, damage in damaged.items())
        raise DamagedCheckpointError(
            f"no checkpoint in {output_dir} is whole ({listed}). Bring one back from a backup, or delete these folders to "
            "train from the beginning, or choose another output_dir."
        )
    return None


def _set_aside(damaged: dict[Path, str], used: Path) -> None:
    for folder, damage in damaged.items():
        aside = folder.with_name(f"{DAMAGED}{folder.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(folder, aside)
        logger.warning(
            "%s is damaged (%s); %s is used in its place. It was renamed to %s and may be deleted.",
            folder,
            damage,
            used,
            aside.name,
        )


@contextmanager
def told_where_it_failed(checkpoint: Path) -> Iterator[None]:
    """What goes wrong while a checkpoint is written becomes a `CheckpointNotWrittenError`, and leaves nothing behind."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        shutil.rmtree(checkpoint.parent / UNFINISHED, ignore_errors=True)
        whole = [folder for folder in checkpoint_folders(checkpoint.parent) if folder != checkpoint]
        kept = f"the last one before, {whole[0]}, is untouched" if whole else "there is none from before"
        free = shutil.disk_usage(checkpoint.parent).free / 1e6
        raise CheckpointNotWrittenError(
            f"{checkpoint} could not be written ({error}); its parts were deleted, {kept}. {free:.0f} MB are free there: "
            "make room (save_total_limit says how many checkpoints are kept), then give the same command again."
        ) from error


def move_into_place(checkpoint: Path) -> None:
    """Let the checkpoint that lies, whole, among the unfinished take its name; a former one of that name goes."""
    unfinished = checkpoint.parent / UNFINISHED / checkpoint.name
    if not unfinished.exists():  # moved by another process, on the same file system
        return
    list_files(unfinished)
    if checkpoint.exists():
        shutil.rmtree(checkpoint)
    os.replace(unfinished, checkpoint)
    shutil.rmtree(checkpoint.parent / UNFINISHED, ignore_errors=True)


@contextmanager
def filled_in_one_go(folder: Path) -> Iterator[Path]:
    """A folder to write files to, which replace those of `folder`, each in one step, when the block ends well."""
    unfinished = folder / f".{os.getpid()}.tmp"
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        for path in unfinished.iterdir():
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _checksum(path: Path) -> str:
    value = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return f"{value:08x}"


def _find_unreadable(folder: Path) -> str | None:
    """The first missing or unreadable file of a checkpoint that does not list its files."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    names = {path.name for path in paths}
    for needed in (TRAINER_STATE_NAME, "scheduler.pt"):
        if needed not in names:
            return f"{needed} is missing"
    for kind, beginning in (
        ("the optimizer's state", "optimizer"),
        ("the model", ("model", "pytorch_model", "adapter_")),
    ):
        if not any(part.startswith(beginning) for path in paths for part in path.relative_to(folder).parts):
            return f"{kind} is missing"
    for path in paths:
        try:
            _read_through(path)
        except (OSError, ValueError, zipfile.BadZipFile, SafetensorError) as error:
            return f"{path.name} cannot be read ({error})"
    return None


def _read_through(path: Path) -> None:
    """Raise where a file of a known kind is cut off or another thing."""
    if path.suffix == ".json":
        json.loads(path.read_text(encoding="utf-8"))
    elif path.suffix == ".safetensors":
        with safe_open(path, framework="pt"):
            pass
    elif path.suffix in (".pt", ".pth", ".bin"):
        with zipfile.ZipFile(path) as archive:
            if (broken := archive.testzip()) is not None:
                raise ValueError(f"{broken} is damaged")
