"""Folders of shards: made once, atomically, resumable shard by shard, and refused when made from something else.

A folder holds a manifest (JSON) and its shards. The manifest says from which rows and with which parameters the shards
are made, so a second run with the same plan continues, and one with another plan is told so instead of mixing the two.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset


class StaleStoreError(ValueError):
    """A folder of shards that was made from other data, with other parameters or by another tokenizer."""


class IncompleteStoreError(ValueError):
    """A folder of shards whose making was interrupted."""


class DamagedStoreError(ValueError):
    """A folder of shards with a file that cannot be read as what it should be."""


@dataclass(frozen=True)
class ShardPlan:
    """What a folder of shards is made of.

    Args:
        kind: what a shard holds; also names the manifest, `<kind>.json`.
        suffix: file type, "arrow" or "parquet".
        num_rows: rows of the input.
        rows_per_shard: input rows that go to one shard (a shard may hold fewer, where rows failed).
        inputs: digest of the input rows.
        parameters: everything else that the content depends on, as JSON.
    """

    kind: str
    suffix: str
    num_rows: int
    rows_per_shard: int
    inputs: str
    parameters: dict[str, Any]

    @property
    def num_shards(self) -> int:
        return -(-self.num_rows // self.rows_per_shard)

    def rows(self, shard: int) -> range:
        """Input rows of a shard."""
        return range(shard * self.rows_per_shard, min((shard + 1) * self.rows_per_shard, self.num_rows))

    def path(self, folder: Path, shard: int) -> Path:
        return folder / f"shard-{shard:05d}-of-{self.num_shards:05d}.{self.suffix}"

    def paths(self, folder: Path) -> list[Path]:
        return [self.path(folder, shard) for shard in range(self.num_shards)]

    def pending(self, folder: Path) -> list[int]:
        """Shards that are not there yet; a shard that is there is whole, since it arrived by renaming."""
        return [shard for shard, path in enumerate(self.paths(folder)) if not path.exists()]


def open_folder(folder: Path, plan: ShardPlan) -> None:
    """Create the folder with its manifest, or check that the one there follows the same plan.

    Raises:
        StaleStoreError: the folder follows another plan, or holds files but no manifest.
    """
    manifest = folder / f"{plan.kind}.json"
    if manifest.exists():
        found = json.loads(manifest.read_text(encoding="utf-8"))["plan"]
        wanted = json.loads(json.dumps(asdict(plan)))
        if found != wanted:
            raise StaleStoreError(
                f"{folder} holds {plan.kind} of another origin: {_describe_difference(found, wanted)}. "
                "Write to another folder, or delete this one."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    if any(not entry.name.startswith(".") for entry in folder.iterdir()):
        if manifest.exists():  # another rank, which has begun in this very moment
            open_folder(folder, plan)
            return
        raise StaleStoreError(f"{folder} is not empty and has no {manifest.name}; choose an empty or a new folder.")
    write_json(manifest, {"plan": asdict(plan), "complete": False})


def close_folder(folder: Path, plan: ShardPlan, totals: dict[str, Any]) -> None:
    """Mark the folder complete and note its totals (clips, spectra, ...)."""
    write_json(folder / f"{plan.kind}.json", {"plan": asdict(plan), "complete": True, **totals})


def is_complete(folder: Path, plan: ShardPlan) -> bool:
    """Whether a run with this plan has nothing left to do."""
    return json.loads((folder / f"{plan.kind}.json").read_text(encoding="utf-8"))["complete"]


def check_complete(manifest: dict[str, Any], folder: str) -> None:
    """Raise `IncompleteStoreError` unless the manifest says that all shards were written."""
    if not manifest["complete"]:
        raise IncompleteStoreError(
            f"{folder} is not finished: the run that wrote it was interrupted. Run the same command again; it "
            "continues with the shards that are missing."
        )


def plan_from_manifest(manifest: dict[str, Any]) -> ShardPlan:
    return ShardPlan(**manifest["plan"])


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path to write to that becomes `path` in one step when the block ends without an error."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """An empty folder to fill that becomes `path`, which must be absent or empty, in one step when the block ends well.

    Raises:
        FileExistsError: `path` is a file, or a folder that is not empty.
    """
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise FileExistsError(f"{path} is there already; choose an empty or a new folder, or delete this one.")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        unfinished.mkdir(parents=True)
        yield unfinished
        os.replace(unfinished, path)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON for people to read, atomically."""
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON lines, atomically."""
    with atomic_path(path) as unfinished, unfinished.open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def digest_rows(rows: Iterable[Any], *context: Any) -> str:
    """Digest (32 hexadecimal digits) of JSON-like rows and what gives them meaning (features, names)."""
    digest = hashlib.sha256()
    for item in (*context, *rows):
        digest.update(json.dumps(item, sort_keys=True, default=str).encode())
        digest.update(b"\n")
    return digest.hexdigest()[:32]


def label_columns(dataset: Dataset, without: Iterable[str]) -> Dataset:
    """The columns that describe a clip, without those that hold its media or codes."""
    return dataset.remove_columns([name for name in without if name in dataset.column_names])


def _describe_difference(found: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> str:
    differences = []
    for key in sorted({*found, *wanted}):
        old, new = found.get(key), wanted.get(key)
        if isinstance(old, dict) and isinstance(new, dict) and old != new:
            differences.append(_describe_difference(old, new, f"{prefix}{key}."))
        elif old != new:
            differences.append(f"{prefix}{key} is {old!r} there and {new!r} now")
    return "; ".join(differences)
