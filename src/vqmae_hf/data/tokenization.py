"""From media to a token store: clips decoded, cropped and tokenized by processes that share the work."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from pyarrow import parquet
from transformers import PreTrainedModel, ProcessorMixin

from vqmae_hf.data.clip_encoding import ClipEncoder, StoreFormat, code_shape, decoding_options, write_store
from vqmae_hf.data.clip_shards import Row
from vqmae_hf.data.encoded_stores import tokenizer_fingerprint
from vqmae_hf.data.token_store import KIND, TokenizerRecord, TokenStoreInfo, read_token_store_info

__all__ = ["ClipEncoder", "TokenFormat", "decoding_options", "write_token_store"]

# Codes that are gathered before they go to disk, as one row group: what a reader of the shard decompresses at once.
CODES_PER_ROW_GROUP = 2**23


def write_token_store(
    clips: Dataset,
    audio_tokenizer: PreTrainedModel | None,
    visual_tokenizer: PreTrainedModel | None,
    folder: str | Path,
    *,
    processor: ProcessorMixin,
    clip_options: dict[str, Any] | None = None,
    clips_per_shard: int = 256,
    num_processes: int = 1,
    seconds_per_clip: float | None = None,
    rank: int = 0,
    num_ranks: int = 1,
    show_progress: bool = True,
    speed_factors: Sequence[float] | None = None,
) -> TokenStoreInfo | None:
    """Encode the clips of a corpus, or clips that are prepared, with frozen tokenizers, and keep the codes.

    Interrupted runs continue with the shards that are missing; a shard is there whole or not at all. A clip that cannot be
    used never stops the run: it is left out and written, with its reason, to `failures.jsonl` in the folder. Several
    ranks (each with its own accelerator, on any number of machines with one file system) share the work when each gets
    its number; whoever writes the last shard completes the store.

    Args:
        clips: as of `load_corpus` or of `prepare_clips`.
        audio_tokenizer, visual_tokenizer: models with `encode`, in evaluation mode, on the device to use; None leaves
            a modality out.
        folder: local; new, empty, or left by an earlier call with the same clips, options and tokenizers.
        processor: the `VQMAEProcessor` that fits the tokenizers; it also says how clips are decoded.
        clip_options: of a corpus, further options of `load_clip`, such as the policies for missing faces and sound. They
            must be JSON-like, `face_detector` a path.
        clips_per_shard: clips per Parquet file; what an interruption costs at most.
        num_processes: processes of this rank, each of which decodes and encodes; see `prepare_clips`.
        seconds_per_clip: with more processes than one, a clip that takes longer is left out; None waits for ever.
        rank, num_ranks: this rank among those that share the work.
        show_progress: draw a progress bar.
        speed_factors: of sound alone, the speeds at which each clip is kept, 1 among them, such as (0.9, 1, 1.1). Copies are
            for training, see `load_speed_copies`; everything else sees the clips as they are.

    Returns:
        The head of the store, which `load_token_store` opens; None where other ranks have not finished theirs.

    Raises:
        StaleStoreError: the folder holds codes of other clips or other tokenizers, or of clips decoded otherwise.
        NoClipPreparedError: every single clip failed.
        ValueError: no tokenizer, a tokenizer left in training mode, options for clips that are prepared already, speed
            factors that are none or beside pictures.
    """
    written = write_store(
        TokenFormat(),
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
        speed_factors=speed_factors,
    )
    return read_token_store_info(folder) if written else None


class TokenFormat(StoreFormat):
    """Codes, in Parquet."""

    kind = KIND
    suffix = "parquet"
    content = "codes"

    def record(self, modality: str, tokenizer: PreTrainedModel) -> TokenizerRecord:
        codebook_size = tokenizer.config.codebook_size
        return TokenizerRecord(tokenizer_fingerprint(tokenizer), codebook_size, code_shape(modality, tokenizer))

    def value_type(self, tokenizer: PreTrainedModel | None) -> str:
        """The smallest unsigned integers that hold every code."""
        return "uint8" if tokenizer is None else np.min_scalar_type(tokenizer.config.codebook_size - 1).name

    def encode(self, modality: str, tokenizer: PreTrainedModel, values: torch.Tensor) -> torch.Tensor:
        """Codes (steps, ...)."""
        return tokenizer.encode(values)[0]

    def write_shard(self, path: Path, rows: Iterator[Row], schema: pa.Schema) -> None:
        """Codes as Parquet packs them best: a dictionary with as many bits per code as the codebook needs."""
        waiting: list[Row] = []
        num_codes = 0
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for row in rows:
                waiting.append(row)
                num_codes += len(row["audio_codes"]) + len(row["visual_codes"])
                if num_codes >= CODES_PER_ROW_GROUP:
                    writer.write_table(_table(waiting, schema))
                    waiting, num_codes = [], 0
            if waiting:  # `datasets` cannot read a row group without rows, and every clip of a shard may have failed
                writer.write_table(_table(waiting, schema))

    def read_columns(self, path: Path, names: list[str]) -> pa.Table:
        return parquet.read_table(path, columns=names)


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pydict({name: [row[name] for row in rows] for name in schema.names}, schema=schema)
