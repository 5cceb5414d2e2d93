"""Clips decoded and cropped once, on disk: media are not opened, nor faces tracked, again in every epoch."""

import hashlib
import json
import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value, concatenate_datasets
from tqdm.auto import tqdm

from vqmae_hf.data.clips import Clip, load_clip
from vqmae_hf.data.shards import (
    ShardPlan,
    atomic_path,
    check_complete,
    close_folder,
    digest_rows,
    is_complete,
    label_columns,
    open_folder,
    plan_from_manifest,
    write_lines,
)

logger = logging.getLogger(__name__)

KIND = "prepared_clips"
FAILURES_NAME = "failures.jsonl"
MEDIA_FEATURES = {
    "frames": Value("large_binary"),
    "num_frames": Value("int32"),
    "face_size": Value("int32"),
    "waveform": Value("large_binary"),
    "num_samples": Value("int64"),
    "content_digest": Value("string"),
}


class NoClipPreparedError(ValueError):
    """Every clip of a corpus failed; the message quotes the first reasons."""


class ClipFailure(NamedTuple):
    """Why a clip was left out: type of the error and its message."""

    clip_id: str
    error: str
    reason: str


class ClipArrays(NamedTuple):
    """Face crops (T, size, size, 3) uint8 and waveform (N,) float32 of one clip, read-only; None where it has none."""

    frames: np.ndarray | None
    waveform: np.ndarray | None


def prepare_clips(
    corpus: Dataset,
    folder: str | Path,
    *,
    num_processes: int = 1,
    clips_per_shard: int = 64,
    **clip_options,
) -> Dataset:
    """Decode every clip of a corpus, crop its face, and keep the result; done once, reused afterwards.

    Runs that are interrupted continue with the shards that are missing. A clip that cannot be used never stops the run:
    it is left out and written, with its reason, to `failures.jsonl` in the folder.

    Args:
        corpus: as of `load_corpus`; `audio`, where filled, is taken instead of the video's own sound.
        folder: new, empty, or left by an earlier call with the same corpus and options.
        num_processes: processes that decode. Each takes some seconds to start, so a few hundred clips are the least
            that is worth a second one; call from under `if __name__ == "__main__"` then, since they are spawned.
        clips_per_shard: clips per file; what an interruption costs at most.
        **clip_options: those of `load_clip`: `frames_per_second`, `sampling_rate`, `face_size`, `modalities`,
            the policies for missing faces and sound, ... They must be JSON-like, `face_detector` a path.

    Returns:
        The memory-mapped dataset: the corpus' describing columns, then `frames` (bytes of (num_frames, face_size,
        face_size, 3) uint8 or null), `num_frames`, `face_size`, `waveform` (bytes of (num_samples,) float32 or null),
        `num_samples`, `content_digest`. About 0.7 MB per second of clip at 96 pixels and 25 frames per second.
        `clip_arrays` reads one row.

    Raises:
        StaleStoreError: the folder was made from another corpus or with other options.
        NoClipPreparedError: every single clip failed.
    """
    folder = Path(folder)
    plan = ShardPlan(
        kind=KIND,
        suffix="arrow",
        num_rows=len(corpus),
        rows_per_shard=clips_per_shard,
        inputs=digest_rows(map(_describe_row, corpus), list(corpus.features)),
        parameters=json.loads(json.dumps(clip_options)),
    )
    open_folder(folder, plan)
    if not is_complete(folder, plan):
        _write_pending(corpus, folder, plan, num_processes, clip_options)
        _finish(folder, plan)
    return load_prepared_clips(folder)


def load_prepared_clips(folder: str | Path) -> Dataset:
    """The dataset that `prepare_clips` left in a folder.

    Raises:
        FileNotFoundError: there is none.
        IncompleteStoreError: its making was interrupted.
    """
    folder = Path(folder)
    manifest_path = folder / f"{KIND}.json"
    if not manifest_path.exists():
        raise FileNotFoundError(f"{folder} has no {manifest_path.name}; make it with prepare_clips(corpus, folder).")
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    check_complete(manifest, str(folder))
    shards = [Dataset.from_file(str(path)) for path in plan_from_manifest(manifest).paths(folder)]
    return concatenate_datasets([shard for shard in shards if len(shard)])


def load_failures(folder: str | Path) -> list[ClipFailure]:
    """Clips that `prepare_clips` left out."""
    return _read_failures(Path(folder) / FAILURES_NAME)


def clip_arrays(clips: Dataset, i: int) -> ClipArrays:
    """Frames and waveform of row i, without copying where `clips` has the format "arrow"."""
    row = (clips if clips.format["type"] == "arrow" else clips.with_format("arrow"))[i]
    frames, waveform = row["frames"][0], row["waveform"][0]
    size = row["face_size"][0].as_py()
    return ClipArrays(
        np.frombuffer(frames.as_buffer(), np.uint8).reshape(-1, size, size, 3) if frames.is_valid else None,
        np.frombuffer(waveform.as_buffer(), np.float32) if waveform.is_valid else None,
    )


def _describe_row(row: dict[str, Any]) -> dict[str, Any]:
    """What identifies a clip wherever its corpus lies: its labels and the size of its files."""
    media = {name: _media_bytes(row[name]) for name in ("video", "audio") if row.get(name) is not None}
    return {**{name: value for name, value in row.items() if name not in ("video", "audio")}, **media}


def _media_bytes(source: dict[str, Any]) -> int | None:
    if source["bytes"] is not None:
        return len(source["bytes"])
    path = Path(source["path"])
    return path.stat().st_size if path.exists() else None


def _write_pending(
    corpus: Dataset, folder: Path, plan: ShardPlan, num_processes: int, clip_options: dict[str, Any]
) -> None:
    labels = label_columns(corpus, ("video", "audio"))
    schema = Features({**labels.features, **MEDIA_FEATURES}).arrow_schema
    pending = plan.pending(folder)
    rows = [i for shard in pending for i in plan.rows(shard)]
    prepared = _prepare_rows(corpus, rows, num_processes, clip_options)
    with tqdm(total=plan.num_rows, initial=plan.num_rows - len(rows), desc="preparing clips", unit="clip") as bar:
        for shard in pending:
            _write_shard(plan.path(folder, shard), schema, islice(prepared, len(plan.rows(shard))), bar)


def _write_shard(path: Path, schema: pa.Schema, prepared: Iterator[dict[str, Any] | ClipFailure], bar: tqdm) -> None:
    """One record batch per clip, so that a shard is never in memory; failures go to a file beside it, first."""
    failures = []
    with atomic_path(path) as unfinished, pa.OSFile(str(unfinished), "wb") as sink:
        with pa.ipc.new_stream(sink, schema) as writer:
            for row in prepared:
                if isinstance(row, ClipFailure):
                    failures.append(row._asdict())
                else:
                    writer.write_batch(pa.RecordBatch.from_pylist([row], schema=schema))
                bar.update()
        write_lines(_failures_path(path), failures)


def _prepare_rows(
    corpus: Dataset, rows: list[int], num_processes: int, clip_options: dict[str, Any]
) -> Iterator[dict[str, Any] | ClipFailure]:
    """Prepared rows or failures, in order; only a few are under way at any time."""
    prepare = partial(_prepare_row, clip_options=clip_options)
    if num_processes == 1:
        yield from (prepare(corpus[i]) for i in rows)
        return
    with ProcessPoolExecutor(num_processes, get_context("spawn"), _use_one_thread) as pool:
        under_way: deque[tuple[int, Future]] = deque()
        for i in rows:
            under_way.append((i, pool.submit(prepare, corpus[i])))
            if len(under_way) >= 4 * num_processes:
                yield _await_row(corpus, *under_way.popleft())
        while under_way:
            yield _await_row(corpus, *under_way.popleft())


def _await_row(corpus: Dataset, i: int, future: Future) -> dict[str, Any] | ClipFailure:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a process that prepares clips died at or after clip {corpus[i]['clip_id']!r} (out of memory, or a codec "
            "that crashed). What is done is kept; run again with num_processes=1 to see which file it is."
        ) from error


def _use_one_thread() -> None:
    """Processes share the cores already."""
    cv2.setNumThreads(1)


def _prepare_row(row: dict[str, Any], clip_options: dict[str, Any]) -> dict[str, Any] | ClipFailure:
    try:
        clip = _load_row(row, clip_options)
    # One bad file among thousands must not end the run, and media libraries raise whatever they like.
    except Exception as error:
        return ClipFailure(row["clip_id"], type(error).__name__, str(error))
    frames = None if clip.frames is None else np.ascontiguousarray(clip.frames, dtype=np.uint8)
    waveform = None if clip.waveform is None else np.ascontiguousarray(clip.waveform, dtype=np.float32)
    digest = hashlib.blake2b(digest_size=16)
    for array in (frames, waveform):
        digest.update(b"none" if array is None else array.data)
    return {
        **{name: value for name, value in row.items() if name not in ("video", "audio")},
        "frames": None if frames is None else frames.tobytes(),
        "num_frames": 0 if frames is None else frames.shape[0],
        "face_size": 0 if frames is None else frames.shape[1],
        "waveform": None if waveform is None else waveform.tobytes(),
        "num_samples": 0 if waveform is None else len(waveform),
        "content_digest": digest.hexdigest(),
    }


def _load_row(row: dict[str, Any], clip_options: dict[str, Any]) -> Clip:
    """The clip of a corpus row, whose sound may lie in a file of its own."""
    video, audio = row.get("video"), row.get("audio")
    if video is None:
        return load_clip(audio, **{**clip_options, "modalities": ("audio",)})
    return load_clip(video, audio_source=audio, **clip_options)


def _finish(folder: Path, plan: ShardPlan) -> None:
    """Gather the failures, count, and mark the folder complete."""
    failure_paths = [_failures_path(path) for path in plan.paths(folder)]
    failures = [failure for path in failure_paths for failure in _read_failures(path)]
    if len(failures) == plan.num_rows:
        for path in (*plan.paths(folder), *failure_paths, folder / f"{KIND}.json"):
            path.unlink()
        reasons = " | ".join(dict.fromkeys(failure.reason for failure in failures[:3]))
        raise NoClipPreparedError(f"none of the {plan.num_rows} clips could be prepared. The first reasons: {reasons}")
    write_lines(folder / FAILURES_NAME, [failure._asdict() for failure in failures])
    if failures:
        left_out = f"{len(failures)} of {plan.num_rows} clips were left out"
        logger.warning("%s; %s says why.", left_out, folder / FAILURES_NAME)
    for path in failure_paths:
        path.unlink()
    close_folder(folder, plan, {"num_clips": plan.num_rows - len(failures), "num_failures": len(failures)})


def _failures_path(shard: Path) -> Path:
    return shard.with_suffix(".failures.jsonl")


def _read_failures(path: Path) -> list[ClipFailure]:
    return [ClipFailure(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
