"""Clips decoded and cropped once, on disk: media are not opened, nor faces tracked, again in every epoch."""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, Value, concatenate_datasets

from vqmae_hf.data.clip_shards import (
    ClipFailure,
    NoClipPreparedError,
    Row,
    fill_shards,
    finish_shards,
    load_failures,
    write_record_batches,
)
from vqmae_hf.data.clips import Clip, load_clip
from vqmae_hf.data.shards import (
    ShardPlan,
    check_complete,
    digest_rows,
    is_complete,
    label_columns,
    open_folder,
    plan_from_manifest,
)
from vqmae_hf.data.worker_pool import WorkerLoss, map_in_order

__all__ = [
    "ClipArrays",
    "ClipFailure",
    "NoClipPreparedError",
    "clip_arrays",
    "load_failures",
    "load_prepared_clips",
    "prepare_clips",
]

KIND = "prepared_clips"
MEDIA_COLUMNS = ("video", "audio")
MEDIA_FEATURES = {
    "frames": Value("large_binary"),
    "num_frames": Value("int32"),
    "face_size": Value("int32"),
    "waveform": Value("large_binary"),
    "num_samples": Value("int64"),
    "content_digest": Value("string"),
}
# Only where silence was cut off: what is trained on such clips has to be given such clips.
TRIM_COLUMN = "trim_silence_db"
PREPARED_COLUMNS = (*MEDIA_FEATURES, TRIM_COLUMN)


class ClipArrays(NamedTuple):
    """Face crops (T, size, size, 3) uint8 and waveform (N,) float32 of one clip, read-only; None where it has none."""

    frames: np.ndarray | None
    waveform: np.ndarray | None


def prepare_clips(
    corpus: Dataset,
    folder: str | Path,
    *,
    num_processes: int = 1,
    seconds_per_clip: float | None = None,
    clips_per_shard: int = 64,
    **clip_options,
) -> Dataset:
    """Decode every clip of a corpus, crop its face, and keep the result; done once, reused afterwards.

    Runs that are interrupted continue with the shards that are missing. A clip that cannot be used never stops the run:
    it is left out and written, with its reason, to `failures.jsonl` in the folder.

    Args:
        corpus: as of `load_corpus`; `audio`, where filled, is taken instead of the video's own sound.
        folder: new, empty, or left by an earlier call with the same corpus and options.
        num_processes: processes that decode. They take some seconds to start, so a few hundred clips are the least that
            is worth a second one; call from under `if __name__ == "__main__"` then, since they import the program anew.
            A file that crashes one of them is left out; one that crashes the only process ends the run.
        seconds_per_clip: with more processes than one, a clip that takes longer is left out; None waits for ever.
        clips_per_shard: clips per file; what an interruption costs at most.
        **clip_options: those of `load_clip`: `frames_per_second`, `sampling_rate`, `face_size`, `modalities`,
            the policies for missing faces and sound, ... They must be JSON-like, `face_detector` a path.

    Returns:
        The memory-mapped dataset: the corpus' describing columns, then `frames` (bytes of (num_frames, face_size,
        face_size, 3) uint8 or null), `num_frames`, `face_size`, `waveform` (bytes of (num_samples,) float32 or null),
        `num_samples`, `content_digest`, and `trim_silence_db` where silence was cut off. About 0.7 MB per second of clip at
        96 pixels and 25 frames per second. `clip_arrays` reads one row.

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
        inputs=digest_rows(map(describe_row, corpus), list(corpus.features)),
        parameters=json.loads(json.dumps(clip_options)),
    )
    open_folder(folder, plan)
    if not is_complete(folder, plan):
        pending = plan.pending(folder)
        prepare = partial(prepare_row, clip_options=clip_options)
        outcomes = clip_outcomes(prepare, corpus, plan, pending, num_processes, seconds_per_clip)
        write_shard = partial(write_record_batches, schema=_schema(corpus, clip_options))
        fill_shards(folder, plan, pending, outcomes, write_shard, description="preparing clips")
    finish_shards(folder, plan, dict)
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


def clip_arrays(clips: Dataset, i: int) -> ClipArrays:
    """Frames and waveform of row i, without copying where `clips` has the format "arrow"."""
    row = (clips if clips.format["type"] == "arrow" else clips.with_format("arrow"))[i]
    frames, waveform = row["frames"][0], row["waveform"][0]
    return _arrays(
        frames.as_buffer() if frames.is_valid else None,
        row["face_size"][0].as_py(),
        waveform.as_buffer() if waveform.is_valid else None,
    )


def row_arrays(row: Row) -> ClipArrays:
    """Frames and waveform of a prepared row."""
    return _arrays(row["frames"], row["face_size"], row["waveform"])


def _arrays(frames: Any, face_size: int, waveform: Any) -> ClipArrays:
    return ClipArrays(
        None if frames is None else np.frombuffer(frames, np.uint8).reshape(-1, face_size, face_size, 3),
        None if waveform is None else np.frombuffer(waveform, np.float32),
    )


def describe_row(row: dict[str, Any]) -> dict[str, Any]:
    """What identifies a clip wherever its corpus lies: its labels and the size of its files."""
    media = {name: _media_bytes(row[name]) for name in MEDIA_COLUMNS if row.get(name) is not None}
    return {**{name: value for name, value in row.items() if name not in MEDIA_COLUMNS}, **media}


def _media_bytes(source: dict[str, Any]) -> int | None:
    if source["bytes"] is not None:
        return len(source["bytes"])
    path = Path(source["path"])
    return path.stat().st_size if path.exists() else None


def clip_outcomes(
    function: Callable[[Row], Row | ClipFailure],
    clips: Dataset,
    plan: ShardPlan,
    shards: list[int],
    num_processes: int,
    seconds_per_clip: float | None,
) -> Iterator[Row | ClipFailure]:
    """What a function makes of the planned rows of some shards, in order, where a lost process is one clip's failure."""
    rows = [i for shard in shards for i in plan.rows(shard)]
    sources = (clips[i] for i in rows)
    outcomes = map_in_order(function, sources, num_processes, seconds_per_item=seconds_per_clip)
    for i, outcome in zip(rows, outcomes, strict=True):
        lost = isinstance(outcome, WorkerLoss)
        yield ClipFailure(clips[i]["clip_id"], "WorkerLoss", outcome.reason) if lost else outcome


def prepare_row(row: Row, clip_options: dict[str, Any]) -> Row | ClipFailure:
    """Decode one row of a corpus: its describing columns and those of `PREPARED_COLUMNS`."""
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
        **{name: value for name, value in row.items() if name not in MEDIA_COLUMNS},
        "frames": None if frames is None else frames.tobytes(),
        "num_frames": 0 if frames is None else frames.shape[0],
        "face_size": 0 if frames is None else frames.shape[1],
        "waveform": None if waveform is None else waveform.tobytes(),
        "num_samples": 0 if waveform is None else len(waveform),
        "content_digest": digest.hexdigest(),
        **_trimming(clip_options),
    }


def _trimming(clip_options: dict[str, Any]) -> dict[str, float]:
    threshold = clip_options.get(TRIM_COLUMN)
    return {} if threshold is None else {TRIM_COLUMN: float(threshold)}


def _load_row(row: dict[str, Any], clip_options: dict[str, Any]) -> Clip:
    """The clip of a corpus row, whose sound may lie in a file of its own."""
    video, audio = row.get("video"), row.get("audio")
    if video is None:
        return load_clip(audio, **{**clip_options, "modalities": ("audio",)})
    return load_clip(video, audio_source=audio, **clip_options)


def _schema(corpus: Dataset, clip_options: dict[str, Any]) -> pa.Schema:
    trimming = dict.fromkeys(_trimming(clip_options), Value("float64"))
    return Features({**label_columns(corpus, MEDIA_COLUMNS).features, **MEDIA_FEATURES, **trimming}).arrow_schema
