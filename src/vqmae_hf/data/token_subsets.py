"""Token stores of some clips of another: without the speakers of a test, or with a share of the labels."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from vqmae_hf.data.shards import atomic_path, close_folder, digest_rows, is_complete, open_folder, plan_from_manifest
from vqmae_hf.data.token_store import KIND, TokenStoreInfo, read_token_store_info


def write_token_subset(store: str | Path, folder: str | Path, clip_ids: Collection[str]) -> TokenStoreInfo:
    """Copy the rows of some clips to a store of their own; interrupted calls go on with the shards that are missing.

    Args:
        store: a local token store.
        folder: new, empty, or left by an earlier call with the same arguments.
        clip_ids: of the clips to keep.

    Returns:
        The head of the new store, whose tokenizers and rates are those of the old one.

    Raises:
        ValueError: clips that are not in the store, or none.
        StaleStoreError: the folder holds something else.
        FileNotFoundError, IncompleteStoreError: no store there, or not a whole one.
    """
    store, folder = Path(store), Path(folder)
    read_token_store_info(store)  # whole?
    source = plan_from_manifest(json.loads((store / f"{KIND}.json").read_text(encoding="utf-8")))
    kept = sorted(set(clip_ids))
    _check_clips(source.paths(store), kept, store)
    plan = replace(source, inputs=digest_rows(kept, source.inputs))
    open_folder(folder, plan)
    if not is_complete(folder, plan):
        for shard in plan.pending(folder):
            _copy_rows(source.path(store, shard), plan.path(folder, shard), pa.array(kept, type=pa.string()))
        close_folder(folder, plan, _totals(plan.paths(folder)))
    return read_token_store_info(folder)


def draw_clips(speakers: Sequence[str], classes: Sequence[int], share: float, *, seed: int = 0) -> list[int]:
    """A share of the clips in which every speaker occurs and speakers and classes occur as evenly as they can.

    Each pick is of the class that has been picked least, and then of the speaker who has, at random among equals; speakers
    who have none yet come first, so that a split by speakers is the same with and without the other clips.

    Args:
        speakers, classes: (N,) of the clips.
        share: of the clips to draw, above 0; 1 is all.
        seed: of the draw.

    Returns:
        Row numbers, ascending.

    Raises:
        ValueError: a share out of range, or too small for one clip of each speaker.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must be above 0 and at most 1.")
    names, speaker = np.unique(np.asarray(speakers), return_inverse=True)
    labels = np.unique(np.asarray(classes), return_inverse=True)[1]
    count = round(share * len(speaker))
    if count < len(names):
        raise ValueError(
            f"share={share} of {len(speaker)} clips are {count}, fewer than the {len(names)} speakers, each of whom must "
            f"keep one; take {len(names) / len(speaker):.3f} or more, or a corpus with more clips per speaker."
        )
    noise = np.random.default_rng(seed).random(len(speaker))
    picked = np.zeros(len(speaker), dtype=bool)
    of_speaker, of_class = np.zeros(len(names), dtype=int), np.zeros(labels.max() + 1, dtype=int)
    for _ in range(count):
        # The last key counts first.
        order = np.lexsort((noise, of_speaker[speaker], of_class[labels], of_speaker[speaker] > 0, picked))
        row = order[0]
        picked[row] = True
        of_speaker[speaker[row]] += 1
        of_class[labels[row]] += 1
    return np.flatnonzero(picked).tolist()


def _check_clips(paths: Sequence[Path], kept: Sequence[str], store: Path) -> None:
    found = {clip for path in paths for clip in parquet.read_table(path, columns=["clip_id"])["clip_id"].to_pylist()}
    strangers = [clip for clip in kept if clip not in found]
    if strangers or not kept:
        raise ValueError(f"{store} has no clips {strangers[:5]}; name clips by its column clip_id, at least one.")


def _copy_rows(source: Path, target: Path, kept: pa.Array) -> None:
    table = parquet.read_table(source)
    rows = table.filter(pc.is_in(table["clip_id"], value_set=kept))
    with (
        atomic_path(target) as unfinished,
        parquet.ParquetWriter(unfinished, table.schema, compression="zstd") as writer,
    ):
        if len(rows):  # `datasets` cannot read a row group without rows
            writer.write_table(rows)


def _totals(paths: Sequence[Path]) -> dict[str, object]:
    """What the manifest of a store says of its clips."""
    tables = [parquet.read_table(path, columns=["speaker", "num_spectra", "num_frames"]) for path in paths]
    return {
        "num_clips": sum(map(len, tables)),
        "num_spectra": sum(pc.sum(table["num_spectra"]).as_py() or 0 for table in tables),
        "num_frames": sum(pc.sum(table["num_frames"]).as_py() or 0 for table in tables),
        "speakers": sorted({speaker for table in tables for speaker in table["speaker"].to_pylist()}),
    }
