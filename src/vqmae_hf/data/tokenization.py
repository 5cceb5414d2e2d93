"""From media to a token store: clips decoded, cropped and encoded by processes that share the work."""

import copy
import dataclasses
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, List, Value
from pyarrow import parquet
from transformers import PreTrainedModel, ProcessorMixin

from vqmae_hf.data.clip_shards import ClipFailure, Row, fill_shards, finish_shards
from vqmae_hf.data.prepared_clips import (
    MEDIA_COLUMNS,
    MEDIA_FEATURES,
    clip_outcomes,
    describe_row,
    prepare_row,
    row_arrays,
)
from vqmae_hf.data.shards import ShardPlan, digest_rows, is_complete, label_columns, open_folder
from vqmae_hf.data.token_store import (
    KIND,
    TokenizerRecord,
    TokenStoreInfo,
    read_token_store_info,
    tokenizer_fingerprint,
)

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

    Returns:
        The head of the store, which `load_token_store` opens; None where other ranks have not finished theirs.

    Raises:
        StaleStoreError: the folder holds codes of other clips or other tokenizers, or of clips decoded otherwise.
        NoClipPreparedError: every single clip failed.
        ValueError: no tokenizer, a tokenizer left in training mode, options for clips that are prepared already.
    """
    tokenizers = {"audio": audio_tokenizer, "visual": visual_tokenizer}
    tokenizers = {name: tokenizer for name, tokenizer in tokenizers.items() if tokenizer is not None}
    _check_tokenizers(tokenizers)
    folder = Path(folder)
    options = None if _are_prepared(clips, clip_options) else decoding_options(processor, tokenizers, clip_options)
    plan = _plan(clips, tokenizers, processor, options, clips_per_shard)
    open_folder(folder, plan)
    if not is_complete(folder, plan):
        own = [shard for shard in plan.pending(folder) if shard % num_ranks == rank]
        encode = ClipEncoder(tokenizers, processor, options)
        outcomes = clip_outcomes(encode, clips, plan, own, num_processes, seconds_per_clip)
        write_shard = partial(_write_shard, schema=_schema(clips, tokenizers))
        fill_shards(
            folder, plan, own, outcomes, write_shard, description="tokenizing clips", show_progress=show_progress
        )
        if plan.pending(folder):
            return None
    finish_shards(folder, plan, partial(_totals, plan, folder))
    return read_token_store_info(folder)


def decoding_options(
    processor: ProcessorMixin, tokenizers: dict[str, PreTrainedModel], clip_options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Options of `load_clip` that give what a processor takes, and only the modalities that there are tokenizers for."""
    return {
        "modalities": sorted(tokenizers),
        "frames_per_second": processor.video_processor.frames_per_second,
        "sampling_rate": processor.feature_extractor.sampling_rate,
        "face_size": processor.video_processor.size["height"],
        **(clip_options or {}),
    }


class ClipEncoder:
    """A row of a corpus, or of prepared clips, to the row of a token store; can be sent to another process.

    Args:
        tokenizers: by modality, in evaluation mode, on their device.
        processor: that fits them.
        clip_options: of `load_clip`, for rows of a corpus; None for prepared rows.
    """

    def __init__(
        self,
        tokenizers: dict[str, PreTrainedModel],
        processor: ProcessorMixin,
        clip_options: dict[str, Any] | None,
    ):
        self.tokenizers = tokenizers
        self.processor = processor
        self.clip_options = clip_options

    def __getstate__(self) -> dict[str, Any]:
        """Tokenizers travel as host memory, and go to their device where they arrive."""
        devices = {name: tokenizer.device for name, tokenizer in self.tokenizers.items()}
        tokenizers = {name: copy.deepcopy(tokenizer).cpu() for name, tokenizer in self.tokenizers.items()}
        return {**self.__dict__, "tokenizers": tokenizers, "devices": devices}

    def __setstate__(self, state: dict[str, Any]) -> None:
        devices = state.pop("devices")
        self.__dict__.update(state)
        for name, tokenizer in self.tokenizers.items():
            tokenizer.to(devices[name])

    def __call__(self, row: Row) -> Row | ClipFailure:
        """Encode one clip, alone: a tokenizer whose normalisation looks at the clip at hand must see no other."""
        prepared = row if self.clip_options is None else prepare_row(row, self.clip_options)
        if isinstance(prepared, ClipFailure):
            return prepared
        try:
            inputs = self._processed(prepared)
        except ValueError as error:
            return ClipFailure(prepared["clip_id"], type(error).__name__, str(error))
        audio = self._codes("audio", inputs.get("audio_values"), inputs.get("audio_attention_mask"))
        visual = self._codes("visual", inputs.get("pixel_values_videos"), inputs.get("visual_attention_mask"))
        return {
            **{name: value for name, value in prepared.items() if name not in MEDIA_FEATURES},
            "content_digest": prepared["content_digest"],
            "num_spectra": len(audio),
            "num_frames": len(visual),
            "audio_codes": audio.ravel(),
            "visual_codes": visual.ravel(),
        }

    def _processed(self, prepared: Row) -> Mapping[str, torch.Tensor]:
        """What the processor makes of the modalities that the clip has and that there are tokenizers for."""
        frames, waveform = row_arrays(prepared)
        given: dict[str, Any] = {}
        if "audio" in self.tokenizers and waveform is not None:
            given["audio"] = waveform
        if "visual" in self.tokenizers and frames is not None:
            given["videos"] = [frames]
        return self.processor(**given, return_tensors="pt") if given else {}

    @torch.no_grad()
    def _codes(self, modality: str, values: torch.Tensor | None, mask: torch.Tensor | None) -> np.ndarray:
        """Codes (steps, ...) of a clip's (1, steps + padding, ...) values, in the smallest integers that hold them."""
        if values is None:
            return np.zeros(0, np.uint8)
        tokenizer = self.tokenizers[modality]
        real = values[:, : int(mask.sum())]  # padding lies at the end
        parts = [real] if modality == "audio" else real.split(frames_at_once(tokenizer.device), dim=1)
        codes = [tokenizer.encode(part.to(tokenizer.device))[0].cpu().numpy() for part in parts]
        return np.concatenate(codes).astype(_code_type(tokenizer))


def frames_at_once(device: torch.device) -> int:
    """Frames that the visual tokenizer encodes at once.

    Activations of more do not fit a processor's cache: 75 frames of GRID take 0.46 s by 16 and 0.78 s at once on one core.
    On accelerators it only bounds the memory that a long clip takes.
    """
    return 16 if device.type == "cpu" else 256


def _are_prepared(clips: Dataset, clip_options: dict[str, Any] | None) -> bool:
    prepared = "frames" in clips.column_names
    if prepared and clip_options is not None:
        raise ValueError(
            f"clip_options={clip_options} was given, but these clips are decoded already; give them to prepare_clips, or "
            "give write_token_store the corpus."
        )
    return prepared


def _check_tokenizers(tokenizers: dict[str, PreTrainedModel]) -> None:
    if not tokenizers:
        raise ValueError("audio_tokenizer and visual_tokenizer are both None; there is nothing to encode with.")
    for modality, tokenizer in tokenizers.items():
        if tokenizer.training:
            raise ValueError(f"{modality}_tokenizer is in training mode, where codebooks move; call .eval() first.")


def _plan(
    clips: Dataset,
    tokenizers: dict[str, PreTrainedModel],
    processor: ProcessorMixin,
    options: dict[str, Any] | None,
    clips_per_shard: int,
) -> ShardPlan:
    records = {name: _record(name, tokenizers[name]) if name in tokenizers else None for name in ("audio", "visual")}
    if options is None:
        rows = label_columns(clips, set(MEDIA_FEATURES) - {"content_digest"})
    else:
        rows = map(describe_row, clips)
    parameters = {
        "tokenizers": {name: record and dataclasses.asdict(record) for name, record in records.items()},
        "sampling_rate": processor.feature_extractor.sampling_rate,
        "hop_length": processor.feature_extractor.hop_length,
        "frames_per_second": processor.video_processor.frames_per_second,
        "clip_options": options,
    }
    return ShardPlan(
        kind=KIND,
        suffix="parquet",
        num_rows=len(clips),
        rows_per_shard=clips_per_shard,
        inputs=digest_rows(rows, _labels(clips).features.to_dict()),
        parameters=json.loads(json.dumps(parameters)),
    )


def _labels(clips: Dataset) -> Dataset:
    return label_columns(clips, {*MEDIA_COLUMNS, *MEDIA_FEATURES})


def _record(modality: str, tokenizer: PreTrainedModel) -> TokenizerRecord:
    config = tokenizer.config
    shape = (config.codes_per_spectrum,) if modality == "audio" else (config.codes_per_side,) * 2
    return TokenizerRecord(tokenizer_fingerprint(tokenizer), config.codebook_size, shape)


def _schema(clips: Dataset, tokenizers: dict[str, PreTrainedModel]) -> pa.Schema:
    features = Features(
        {
            **_labels(clips).features,
            "content_digest": Value("string"),
            "num_spectra": Value("int32"),
            "num_frames": Value("int32"),
            "audio_codes": List(Value(_code_type(tokenizers.get("audio")))),
            "visual_codes": List(Value(_code_type(tokenizers.get("visual")))),
        }
    )
    return features.arrow_schema


def _write_shard(path: Path, rows: Iterator[Row], schema: pa.Schema) -> None:
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


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pydict({name: [row[name] for row in rows] for name in schema.names}, schema=schema)


def _code_type(tokenizer: PreTrainedModel | None) -> str:
    """The smallest unsigned integers that hold every code."""
    return "uint8" if tokenizer is None else np.min_scalar_type(tokenizer.config.codebook_size - 1).name


def _totals(plan: ShardPlan, folder: Path) -> dict[str, Any]:
    """Steps of all clips, and whose they are, so that a split needs no look into the shards."""
    totals, speakers = {"num_spectra": 0, "num_frames": 0}, set()
    for path in plan.paths(folder):
        shard = parquet.read_table(path, columns=[*totals, "speaker"])
        speakers.update(shard["speaker"].to_pylist())
        for name in totals:
            totals[name] += int(shard[name].to_numpy().sum())
    return {**totals, "speakers": sorted(speakers)}
