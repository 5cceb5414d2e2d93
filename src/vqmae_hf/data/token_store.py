"""Token stores: the codes of a corpus, computed once, in Parquet shards that `datasets` reads.

One row per clip: the columns that describe it (`clip_id`, `speaker`, `emotion`, ...), `content_digest` (equal for
recordings that are equal once decoded), `num_spectra`, `num_frames`, and the codes as flat lists of small integers:
`audio_codes` (num_spectra * codes per spectrum), `visual_codes` (num_frames * codes per frame, rows before columns); a
modality that a clip lacks has 0 steps and an empty list. `token_store.json` says which tokenizers made them, so that the
codes of one are never taken for those of another.

A store may hold copies of its clips at other speeds, see `speed_copies`. Numbers of clips and steps, and whatever opens a
store with `load_token_store`, know nothing of them; training draws from those that `load_speed_copies` gives.
"""

import dataclasses
from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel

from vqmae_hf.data.encoded_stores import (
    check_fingerprints,
    join_address,
    load_shards,
    rates_and_totals,
    read_store_manifest,
    tokenizer_fingerprint,
    tokenizer_records,
)
from vqmae_hf.data.shards import plan_from_manifest
from vqmae_hf.data.speed_copies import ORIGINAL, SPEED_COLUMN

__all__ = [
    "TokenStoreInfo",
    "TokenizerRecord",
    "check_token_store",
    "load_speed_copies",
    "load_token_store",
    "read_token_store_info",
    "shard_addresses",
    "tokenizer_fingerprint",
]

KIND = "token_store"


@dataclasses.dataclass(frozen=True)
class TokenizerRecord:
    """What a store knows of one tokenizer: `codes_per_step` is the shape of one step's codes, (64,) or (24, 24)."""

    fingerprint: str
    codebook_size: int
    codes_per_step: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TokenStoreInfo:
    """The head of a store: its tokenizers (None for a modality it lacks), its rates, its totals, who speaks, how silence at
    the ends was cut off (see `load_clip`), and at which speeds there are copies of each clip, the clip itself (1) first."""

    audio: TokenizerRecord | None
    visual: TokenizerRecord | None
    sampling_rate: int
    hop_length: int
    frames_per_second: float
    num_clips: int
    num_spectra: int
    num_frames: int
    speakers: tuple[str, ...]
    trim_silence_db: float | None = None
    speed_factors: tuple[float, ...] = (ORIGINAL,)


def read_token_store_info(folder: str | Path) -> TokenStoreInfo:
    """The head of a store, local or at any address that fsspec opens (`s3://`, `hf://datasets/`, ...).

    Raises:
        FileNotFoundError: no store there.
        IncompleteStoreError: its making was interrupted.
    """
    manifest = read_store_manifest(str(folder), KIND)
    return TokenStoreInfo(
        **tokenizer_records(manifest, TokenizerRecord),
        **rates_and_totals(manifest),
        speed_factors=tuple(manifest["plan"]["parameters"].get("speed_factors", [ORIGINAL])),
    )


def load_token_store(
    folder: str | Path,
    *,
    audio_tokenizer: PreTrainedModel | str | None = None,
    visual_tokenizer: PreTrainedModel | str | None = None,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Open a token store, after checking whose codes it holds.

    Args:
        folder: local, or any address that fsspec opens.
        audio_tokenizer, visual_tokenizer: the tokenizer (or its `tokenizer_fingerprint`) that the codes must be of;
            None does not check.
        cache_dir: where `datasets` keeps its memory-mapped copy; default: its usual cache.

    Returns:
        The dataset described at the head of this module, memory-mapped: one row per clip, without copies.

    Raises:
        StaleStoreError: the codes are those of another tokenizer.
        FileNotFoundError, IncompleteStoreError: no store there, or not a whole one.
        DamagedStoreError: its manifest or a shard is cut off or holds something else; the message names the file.
    """
    check_token_store(folder, audio_tokenizer=audio_tokenizer, visual_tokenizer=visual_tokenizer)
    rows = load_shards("parquet", shard_addresses(folder), cache_dir)
    if len(read_token_store_info(folder).speed_factors) == 1:
        return rows
    return rows.select(np.flatnonzero(np.asarray(rows[SPEED_COLUMN][:]) == ORIGINAL))


def load_speed_copies(folder: str | Path, *, cache_dir: str | Path | None = None) -> Dataset | None:
    """The copies of the clips of a store at other speeds, in rows like theirs; None for a store without any.

    Arguments and errors as of `load_token_store`.
    """
    if len(read_token_store_info(folder).speed_factors) == 1:
        return None
    rows = load_shards("parquet", shard_addresses(folder), cache_dir)
    return rows.select(np.flatnonzero(np.asarray(rows[SPEED_COLUMN][:]) != ORIGINAL))


def shard_addresses(folder: str | Path) -> list[str]:
    """Addresses of the Parquet files of a store, in order; errors as of `read_token_store_info`."""
    plan = plan_from_manifest(read_store_manifest(str(folder), KIND))
    return [join_address(str(folder), path.name) for path in plan.paths(Path())]


def check_token_store(
    folder: str | Path,
    *,
    audio_tokenizer: PreTrainedModel | str | None = None,
    visual_tokenizer: PreTrainedModel | str | None = None,
) -> None:
    """Refuse the codes of other tokenizers than these; arguments and errors as of `load_token_store`."""
    info = read_token_store_info(folder)
    check_fingerprints(
        str(folder),
        KIND,
        {"audio": info.audio, "visual": info.visual},
        {"audio": audio_tokenizer, "visual": visual_tokenizer},
    )
