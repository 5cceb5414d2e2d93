"""Token stores of some clips of another, such as those that pre-training may see: none of the test speakers."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from vqmae_hf.data.shards import (
    ShardPlan,
    atomic_path,
    close_folder,
    digest_rows,
    is_complete,
    open_folder,
    plan_from_manifest,
)
from vqmae_hf.data.speed_copies import original_rows, speed_columns
from vqmae_hf.data.token_store import KIND, TokenStoreInfo, read_token_store_info


def write_token_subset(store: str | Path, folder: str | Path, clip_ids: Collection[str]) -> TokenStoreInfo:
    """Copy the rows of some clips to a store of their own, with those of their copies at other speeds; interrupted calls go
    on with the shards that are missing.

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
        close_folder(folder, plan, _totals(folder, plan))
    return read_token_store_info(folder)


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


def _totals(folder: Path, plan: ShardPlan) -> dict[str, object]:
    """What the manifest of a store says of its clips."""
    columns = ["speaker", "num_spectra", "num_frames", *speed_columns(plan.parameters)]
    tables = [original_rows(parquet.read_table(path, columns=columns), plan.parameters) for path in plan.paths(folder)]
    return {
        "num_clips": sum(map(len, tables)),
        "num_spectra": sum(pc.sum(table["num_spectra"]).as_py() or 0 for table in tables),
        "num_frames": sum(pc.sum(table["num_frames"]).as_py() or 0 for table in tables),
        "speakers": sorted({speaker for table in tables for speaker in table["speaker"].to_pylist()}),
    }
