"""Latent stores: what the tokenizers make of a corpus before quantization, computed once, in Arrow shards that are mapped
into memory where they lie.

One row per clip: the columns that describe it (`clip_id`, `speaker`, `emotion`, ...), `content_digest`, `num_spectra`,
`num_frames`, and the features of an `MDVAEModel` ([MD], x_a and x_v) as flat lists: `audio_features` (num_spectra * audio
feature size), `visual_features` (num_frames * visual feature size); a modality that a clip lacks has 0 steps and an empty
list. Sizes are those of the tokenizers: 512 and 2048 in [MD]. Codes would not do: the model reconstructs what the codes
are chosen from. `latent_store.json` says which tokenizers made them, so that latents of one are never taken for those of
another.
"""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import torch
from datasets import Dataset, concatenate_datasets
from transformers import PreTrainedModel, ProcessorMixin

from vqmae_hf.data.clip_encoding import StoreFormat, code_shape, write_store
from vqmae_hf.data.clip_shards import Row, write_record_batches
from vqmae_hf.data.encoded_stores import (
    check_fingerprints,
    join_address,
    load_shards,
    map_arrow_shard,
    rates_and_totals,
    read_store_manifest,
    tokenizer_fingerprint,
    tokenizer_records,
)
from vqmae_hf.data.shards import plan_from_manifest
from vqmae_hf.modeling.mdvae_features import tokenizer_features

KIND = "latent_store"

Precision = Literal["float16", "float32"]


@dataclasses.dataclass(frozen=True)
class LatentRecord:
    """What a store knows of one tokenizer: `codes_per_step` is the shape of one step's codes, `code_dim` numbers each."""

    fingerprint: str
    codes_per_step: tuple[int, ...]
    code_dim: int
    precision: str

    @property
    def feature_size(self) -> int:
        """Numbers of the features of one step."""
        return math.prod(self.codes_per_step) * self.code_dim


@dataclasses.dataclass(frozen=True)
class LatentStoreInfo:
    """The head of a store: its tokenizers (None for a modality it lacks), its rates, its totals, who speaks, and how silence
    at the ends was cut off (see `load_clip`)."""

    audio: LatentRecord | None
    visual: LatentRecord | None
    sampling_rate: int
    hop_length: int
    frames_per_second: float
    num_clips: int
    num_spectra: int
    num_frames: int
    speakers: tuple[str, ...]
    trim_silence_db: float | None = None


class LatentFormat(StoreFormat):
    """Latents before quantization in the order of `MDVAEModel`'s features, as Arrow record batches of one clip each.

    Args:
        precision: of the numbers.
    """

    kind = KIND
    suffix = "arrow"
    content = "features"

    def __init__(self, precision: Precision):
        if precision not in ("float16", "float32"):
            raise ValueError(f"precision={precision!r} is unknown; 'float16' and 'float32' are accepted.")
        self.precision = precision

    def record(self, modality: str, tokenizer: PreTrainedModel) -> LatentRecord:
        code_dim = tokenizer.config.codebook_dim
        return LatentRecord(
            tokenizer_fingerprint(tokenizer), code_shape(modality, tokenizer), code_dim, self.precision
        )

    def value_type(self, tokenizer: PreTrainedModel | None) -> str:
        return self.precision

    def encode(self, modality: str, tokenizer: PreTrainedModel, values: torch.Tensor) -> torch.Tensor:
        """Features (steps, D) in float32."""
        return tokenizer_features(modality, values, None, tokenizer)[0].float()

    def write_shard(self, path: Path, rows: Iterator[Row], schema: pa.Schema) -> None:
        write_record_batches(path, rows, schema)

    def read_columns(self, path: Path, names: list[str]) -> pa.Table:
        return Dataset.from_file(str(path)).data.table.select(names)


def write_latent_store(
    clips: Dataset,
    audio_tokenizer: PreTrainedModel | None,
    visual_tokenizer: PreTrainedModel | None,
    folder: str | Path,
    *,
    processor: ProcessorMixin,
    precision: Precision = "float16",
    clip_options: dict[str, Any] | None = None,
    clips_per_shard: int = 64,
    num_processes: int = 1,
    seconds_per_clip: float | None = None,
    rank: int = 0,
    num_ranks: int = 1,
    show_progress: bool = True,
) -> LatentStoreInfo | None:
    """Encode the clips of a corpus, or clips that are prepared, with frozen tokenizers, and keep what comes before
    quantization. Resumes, skips bad clips, shares work between processes and ranks as `write_token_store` does.

    Args:
        processor: the `MDVAEProcessor` that fits the tokenizers; it also says how clips are decoded.
        precision: "float16" halves the store, 154 kB instead of 307 kB per second at the sizes of [MD], and is off by at
            most one part in 2048 of each number, far below what a model of a few dozen latents can reconstruct.
        clips_per_shard: clips per file; what an interruption costs at most.

    The other arguments, what is returned and raised: as of `write_token_store`.
    """
    written = write_store(
        LatentFormat(precision),
        clips,
        {"audio": audio_tokenizer, "visual": visual_tokenizer},
        Path(folder),
        processor=processor,
        clip_options=clip_options,
        clips_per_shard=clips_per_shard,
        num_processes=num_processes,
        seconds_per_clip=seconds_per_clip,
        rank=rank,
        num_ranks=num_ranks,
        show_progress=show_progress,
    )
    return read_latent_store_info(folder) if written else None


def read_latent_store_info(folder: str | Path) -> LatentStoreInfo:
    """The head of a store, local or at any address that fsspec opens.

    Raises:
        FileNotFoundError: no store there.
        IncompleteStoreError: its making was interrupted.
    """
    manifest = read_store_manifest(str(folder), KIND)
    return LatentStoreInfo(**tokenizer_records(manifest, LatentRecord), **rates_and_totals(manifest))


def load_latent_store(
    folder: str | Path,
    *,
    audio_tokenizer: PreTrainedModel | str | None = None,
    visual_tokenizer: PreTrainedModel | str | None = None,
    cache_dir: str | Path | None = None,
) -> Dataset:
    """Open a latent store, after checking whose latents it holds.

    Args:
        folder: local, or any address that fsspec opens.
        audio_tokenizer, visual_tokenizer: the tokenizer (or its `tokenizer_fingerprint`) that the latents must be of;
            None does not check.
        cache_dir: where `datasets` keeps the copy of a store that is not local; default: its usual cache.

    Returns:
        The dataset described at the head of this module, memory-mapped.

    Raises:
        StaleStoreError: the latents are those of another tokenizer.
        FileNotFoundError, IncompleteStoreError: no store there, or not a whole one.
        DamagedStoreError: its manifest or a shard is cut off or holds something else; the message names the file.
    """
    check_latent_store(folder, audio_tokenizer=audio_tokenizer, visual_tokenizer=visual_tokenizer)
    plan = plan_from_manifest(read_store_manifest(str(folder), KIND))
    if Path(folder).is_dir():
        shards = [map_arrow_shard(path) for path in plan.paths(Path(folder))]
        return concatenate_datasets([shard for shard in shards if len(shard)])
    addresses = [join_address(str(folder), path.name) for path in plan.paths(Path())]
    return load_shards("arrow", addresses, cache_dir)


def check_latent_store(
    folder: str | Path,
    *,
    audio_tokenizer: PreTrainedModel | str | None = None,
    visual_tokenizer: PreTrainedModel | str | None = None,
) -> None:
    """Refuse the latents of other tokenizers than these; arguments and errors as of `load_latent_store`."""
    info = read_latent_store_info(folder)
    check_fingerprints(
        str(folder),
        KIND,
        {"audio": info.audio, "visual": info.visual},
        {"audio": audio_tokenizer, "visual": visual_tokenizer},
    )
