"""The synthetic corpus on disk: mp4 files, the table of their factors, and how to load both.

root/corpus.json               parameters, and whether the corpus is complete
root/factors.parquet           one row per clip: labels, identity, expression
root/frame_factors.parquet     one row per clip: lists with one value per frame
root/clips/metadata.csv        makes root/clips a `videofolder`
root/clips/<emotion>/<clip_id>.mp4
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, Features, Value, Video
from tqdm.auto import tqdm

from vqmae_hf.data.media import write_clip
from vqmae_hf.data.shards import atomic_path, write_json
from vqmae_hf.data.synthetic.clip_maker import SyntheticCorpusParameters, describe_clip, make_clip
from vqmae_hf.data.synthetic.factors import DEFAULT_EMOTIONS, ClipKey, as_columns
from vqmae_hf.data.synthetic.trajectories import FRAMES_PER_SECOND
from vqmae_hf.data.synthetic.voice_synthesizer import SAMPLING_RATE

_FORMAT = "vqmae-hf synthetic corpus"
_VERSION = 1  # of the generator: raise it whenever the same parameters give other clips
_MANIFEST, _FACTORS, _FRAME_FACTORS, _CLIPS = "corpus.json", "factors.parquet", "frame_factors.parquet", "clips"


def write_synthetic_corpus(
    root: str | os.PathLike,
    *,
    num_speakers: int = 24,
    emotions: Sequence[str] = DEFAULT_EMOTIONS,
    clips_per_emotion: int = 4,
    clip_seconds: float = 2.0,
    image_size: int = 128,
    seed: int = 0,
    jitter_scale: float = 1.0,
    jitter_tilt_db: float = 0.0,
    num_workers: int | None = None,
    show_progress: bool = True,
) -> Path:
    """Writes a corpus of synthetic talking faces as mp4 files with the table of their true factors.

    A complete corpus made with the same parameters is kept as it is; an interrupted one is finished: clips that are
    there stay, the others are made. Every file appears under its name only when it is complete. The factors are the
    same on every machine, factors and files the same for every `num_workers`.

    Args:
        root: folder of the corpus; new, empty, or holding a corpus with the same parameters.
        num_speakers: identities; the first ones are the same in corpora of any size.
        emotions: some of `DEFAULT_EMOTIONS`; their order is the order of the class labels.
        clips_per_emotion: clips of each emotion by each speaker.
        clip_seconds: length of each clip, rounded to whole frames of 40 ms; at least 1.
        image_size: side of the square frames in pixels; even, at least 64.
        seed: of everything random.
        jitter_scale: times the usual random unsteadiness of the pitch, of 0.05 to 0.35 semitones, which can be heard but
            hardly be seen in one short-time spectrum.
        jitter_tilt_db: by how many dB per octave a semitone of jitter brightens the voice; 0 leaves its color steady.
        num_workers: threads (nearly all the time is spent outside of the interpreter, in drawing and encoding);
            default: one per usable processor.
        show_progress: show a progress bar.

    Returns:
        root.

    Raises:
        ValueError: for parameters out of range (all of them named at once), or if `root` holds something else.
    """
    root = Path(root)
    parameters = SyntheticCorpusParameters(
        num_speakers, emotions, clips_per_emotion, clip_seconds, image_size, seed, jitter_scale, jitter_tilt_db
    )
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers is {num_workers}; choose 1 or more threads, or None for one per processor")
    complete = _claim(root, parameters)
    missing = [key for key in parameters.clip_keys() if not _clip_path(root, key).is_file()]
    if complete and not missing:
        return root
    _write_tables(root, parameters)
    with tqdm(total=len(missing), desc="synthetic clips", unit="clip", disable=not show_progress) as progress:
        for _ in _make_all(partial(_write_one, root, parameters), missing, num_workers or _num_usable_processors()):
            progress.update()
    _write_manifest(root, parameters, complete=True)
    return root


def load_synthetic_corpus(root: str | os.PathLike) -> Dataset:
    """Lists the clips of a corpus without opening them.

    Returns:
        A dataset with a row per clip: `clip_id`, `video` (`Video(decode=False)`: path and bytes), `speaker`, `emotion`
        (`ClassLabel`), `intensity`, `num_frames`, and every factor of `SpeakerFactors` and `ClipFactors`. The sound is
        the video's own.

    Raises:
        ValueError: if `root` holds no complete synthetic corpus.
    """
    root = Path(root)
    parameters = read_synthetic_parameters(root)
    table = pq.read_table(root / _FACTORS)
    columns = table.drop_columns(["file_name"]).to_pydict()
    paths = [str((root / _CLIPS / name).resolve()) for name in table["file_name"].to_pylist()]
    columns = {
        "clip_id": columns.pop("clip_id"),
        "video": [{"path": path, "bytes": None} for path in paths],
        **columns,
    }
    features = {name: Value(str(table.schema.field(name).type)) for name in columns if name != "video"}
    features |= {"video": Video(decode=False), "emotion": ClassLabel(names=list(parameters.emotions))}
    return Dataset.from_dict(columns, features=Features({name: features[name] for name in columns}))


def load_synthetic_factors(root: str | os.PathLike) -> Dataset:
    """Loads what moves within the clips.

    Returns:
        A dataset with a row per clip, in the order of `load_synthetic_corpus`: `clip_id` and, per track of `FrameFactors`, a
        list of T values. In numpy format: rows give (T,) arrays.

    Raises:
        ValueError: if `root` holds no complete synthetic corpus.
    """
    root = Path(root)
    read_synthetic_parameters(root)
    return Dataset(pq.read_table(root / _FRAME_FACTORS)).with_format("numpy")


def read_synthetic_parameters(root: str | os.PathLike) -> SyntheticCorpusParameters:
    """What a corpus was made with.

    Raises:
        ValueError: if `root` holds no complete synthetic corpus.
    """
    root = Path(root)
    manifest = _read_manifest(root)
    if manifest["version"] != _VERSION or not manifest["complete"]:
        found = "is not complete" if manifest["version"] == _VERSION else "was made by another version"
        raise ValueError(f"the synthetic corpus in {root} {found}; make it with write_synthetic_corpus")
    return SyntheticCorpusParameters(**manifest["parameters"])


def _claim(root: Path, parameters: SyntheticCorpusParameters) -> bool:
    """Marks `root` as the place of this corpus; returns whether the corpus is there already."""
    if (root / _MANIFEST).is_file():
        manifest = _read_manifest(root)
        if manifest["version"] != _VERSION or manifest["parameters"] != parameters.as_dict():
            raise ValueError(
                f"{root} holds another synthetic corpus: {_differences(manifest, parameters)}. "
                "Choose another folder, delete that one, or ask for the corpus that is there"
            )
        return manifest["complete"]
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"{root} exists and is no synthetic corpus (no {_MANIFEST}); choose a new or an empty folder")
    root.mkdir(parents=True, exist_ok=True)
    _write_manifest(root, parameters, complete=False)
    return False


def _differences(manifest: dict, parameters: SyntheticCorpusParameters) -> str:
    there = {"version": manifest["version"], **manifest["parameters"]}
    asked = {"version": _VERSION, **parameters.as_dict()}
    names = [name for name in asked if there.get(name) != asked[name]]
    return ", ".join(f"{name} is {there.get(name)!r} there, {asked[name]!r} was asked for" for name in names)


def _read_manifest(root: Path) -> dict:
    path = root / _MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("format") != _FORMAT:
        raise ValueError(
            f"{path} does not describe a synthetic corpus; make one with write_synthetic_corpus({str(root)!r})"
        )
    return manifest


def _write_manifest(root: Path, parameters: SyntheticCorpusParameters, *, complete: bool) -> None:
    manifest = {"format": _FORMAT, "version": _VERSION, "complete": complete, "parameters": parameters.as_dict()}
    write_json(root / _MANIFEST, manifest)


def _clip_path(root: Path, key: ClipKey) -> Path:
    return root / _CLIPS / _file_name(key)


def _file_name(key: ClipKey) -> str:
    return f"{key.emotion}/{key.clip_id}.mp4"


def _write_tables(root: Path, parameters: SyntheticCorpusParameters) -> None:
    """Factors need no media: both tables and the metadata come from the seed alone."""
    rows, tracks = [], []
    for key in parameters.clip_keys():
        description = describe_clip(
            key, num_frames=parameters.num_frames, seed=parameters.seed, jitter_scale=parameters.jitter_scale
        )
        labels = {"clip_id": key.clip_id, "file_name": _file_name(key), "speaker": key.speaker, "emotion": key.emotion}
        labels["intensity"] = key.intensity
        rows.append(labels | {"num_frames": parameters.num_frames} | as_columns(description.speaker, description.clip))
        tracks.append({"clip_id": key.clip_id} | description.frames.as_dict())
    for name, records in ((_FACTORS, rows), (_FRAME_FACTORS, tracks)):
        with atomic_path(root / name) as unfinished:
            pq.write_table(pa.Table.from_pylist(records), unfinished)
    (root / _CLIPS).mkdir(exist_ok=True)
    columns = ["file_name", "clip_id", "speaker", "emotion", "intensity"]
    with (
        atomic_path(root / _CLIPS / "metadata.csv") as unfinished,
        unfinished.open("w", encoding="utf-8", newline="") as stream,
    ):
        writer = csv.DictWriter(stream, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _write_one(root: Path, parameters: SyntheticCorpusParameters, key: ClipKey) -> None:
    clip = make_clip(
        key,
        num_frames=parameters.num_frames,
        image_size=parameters.image_size,
        seed=parameters.seed,
        jitter_scale=parameters.jitter_scale,
        jitter_tilt_db=parameters.jitter_tilt_db,
    )
    write_clip(
        _clip_path(root, key),
        clip.frames,
        clip.waveform,
        frames_per_second=FRAMES_PER_SECOND,
        sampling_rate=SAMPLING_RATE,
    )


def _make_all(make: Callable[[ClipKey], None], keys: list[ClipKey], num_workers: int) -> Iterator[None]:
    """Runs `make` on every key in threads, and yields as the clips are done."""
    executor = ThreadPoolExecutor(num_workers)
    try:
        yield from executor.map(make, keys)
    finally:
        executor.shutdown(cancel_futures=True)


def _num_usable_processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
