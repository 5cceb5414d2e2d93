"""Filling a folder of shards with what is made of clips, where some clips fail."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from tqdm.auto import tqdm

from vqmae_hf.data.shards import ShardPlan, atomic_path, close_folder, is_complete, write_lines

logger = logging.getLogger(__name__)

FAILURES_NAME = "failures.jsonl"

Row = dict[str, Any]


class ClipFailure(NamedTuple):
    """Why a clip was left out: type of the error and its message."""

    clip_id: str
    error: str
    reason: str


class NoClipPreparedError(ValueError):
    """Every clip of a corpus failed; the message quotes the first reasons."""


def fill_shards(
    folder: Path,
    plan: ShardPlan,
    shards: Iterable[int],
    outcomes: Iterator[Row | ClipFailure],
    write_shard: Callable[[Path, Iterator[Row]], None],
    *,
    description: str,
    show_progress: bool = True,
) -> None:
    """Write shards one after the other, each of them at once and with its failures or not at all.

    Args:
        folder: opened with the plan.
        shards: numbers of those to write.
        outcomes: one per planned row of these shards, in order; drawn as they are needed.
        write_shard: writes the rows that succeeded to a path.
        description: of the progress bar.
        show_progress: draw it.
    """
    shards = list(shards)
    num_rows = sum(len(plan.rows(shard)) for shard in shards)
    with tqdm(total=num_rows, desc=description, unit="clip", disable=not show_progress) as bar:
        for shard in shards:
            failures: list[ClipFailure] = []
            path = plan.path(folder, shard)
            with atomic_path(path) as unfinished:
                write_shard(unfinished, _successes(islice(outcomes, len(plan.rows(shard))), failures, bar))
                # First, so that a shard that is there has its failures beside it.
                write_lines(_failures_path(path), (failure._asdict() for failure in failures))


def write_record_batches(path: Path, rows: Iterable[Row], schema: pa.Schema) -> None:
    """Write an Arrow file of one record batch per clip, so that a shard is never in memory."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for row in rows:
            writer.write_batch(pa.RecordBatch.from_pylist([row], schema=schema))


def finish_shards(folder: Path, plan: ShardPlan, count: Callable[[], dict[str, Any]]) -> None:
    """Gather the failures of all shards in one file, note the totals and mark the folder complete.

    Any number of processes may see that the last shard has arrived, and do this at the same time.

    Args:
        folder: whose shards are all there.
        count: totals of what the shards hold, for the manifest.

    Raises:
        NoClipPreparedError: every clip failed; the shards are deleted, so that the run can be repeated.
    """
    failure_paths = [_failures_path(path) for path in plan.paths(folder)]
    if not is_complete(folder, plan):
        _complete(folder, plan, failure_paths, count)
    # Killed runs leave the file they were writing, or what they had no time to clean up.
    _delete([*failure_paths, *folder.glob(".shard-*.tmp")])


def _complete(folder: Path, plan: ShardPlan, failure_paths: list[Path], count: Callable[[], dict[str, Any]]) -> None:
    try:
        failures = [failure for path in failure_paths for failure in _read_failures(path)]
    except FileNotFoundError:
        if is_complete(folder, plan):
            return  # another process was faster, and cleans up
        raise
    if len(failures) == plan.num_rows:
        _delete([*plan.paths(folder), *failure_paths, folder / f"{plan.kind}.json"])
        reasons = " | ".join(dict.fromkeys(failure.reason for failure in failures[:3]))
        raise NoClipPreparedError(f"none of the {plan.num_rows} clips could be prepared. The first reasons: {reasons}")
    write_lines(folder / FAILURES_NAME, (failure._asdict() for failure in failures))
    if failures:
        left_out = f"{len(failures)} of {plan.num_rows} clips were left out"
        logger.warning("%s; %s says why.", left_out, folder / FAILURES_NAME)
    totals = {"num_clips": plan.num_rows - len(failures), "num_failures": len(failures)}
    close_folder(folder, plan, {**totals, **count()})


def load_failures(folder: str | Path) -> list[ClipFailure]:
    """Clips that were left out of a finished folder of clips or codes, with the reasons."""
    return _read_failures(Path(folder) / FAILURES_NAME)


def _successes(outcomes: Iterable[Row | ClipFailure], failures: list[ClipFailure], bar: tqdm) -> Iterator[Row]:
    """The rows among outcomes; failures are set aside."""
    for outcome in outcomes:
        bar.update()
        if isinstance(outcome, ClipFailure):
            failures.append(outcome)
        else:
            yield outcome


def _failures_path(shard: Path) -> Path:
    return shard.with_suffix(".failures.jsonl")


def _read_failures(path: Path) -> list[ClipFailure]:
    return [ClipFailure(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
