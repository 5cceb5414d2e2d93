"""From media to a store of what frozen tokenizers make of them: clips decoded, cropped and encoded by processes that share
the work. `tokenization` keeps codes, `latent_store` what comes before quantization.
"""

import copy
import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, List, Value
from transformers import PreTrainedModel, ProcessorMixin

from vqmae_hf.data.clip_shards import ClipFailure, Row, fill_shards, finish_shards
from vqmae_hf.data.prepared_clips import (
    MEDIA_COLUMNS,
    PREPARED_COLUMNS,
    TRIM_COLUMN,
    clip_outcomes,
    describe_row,
    prepare_row,
    row_arrays,
)
from vqmae_hf.data.shards import ShardPlan, digest_rows, is_complete, label_columns, open_folder
from vqmae_hf.data.speed_copies import (
    SPEED_COLUMN,
    SpeedCopies,
    original_rows,
    sorted_speed_factors,
    speed_columns,
)

MODALITIES = ("audio", "visual")


class StoreFormat(ABC):
    """What a store keeps of a clip, and how; can be sent to another process.

    Attributes:
        kind: of the folder, see `ShardPlan`.
        suffix: of its files.
        content: of its columns `audio_<content>` and `visual_<content>`.
    """

    kind: ClassVar[str]
    suffix: ClassVar[str]
    content: ClassVar[str]

    @abstractmethod
    def record(self, modality: str, tokenizer: PreTrainedModel) -> Any:
        """What the manifest says of a tokenizer: a dataclass."""

    @abstractmethod
    def value_type(self, tokenizer: PreTrainedModel | None) -> str:
        """The type of the numbers; any where a modality has no tokenizer, and its lists no numbers."""

    @abstractmethod
    def encode(self, modality: str, tokenizer: PreTrainedModel, values: torch.Tensor) -> torch.Tensor:
        """Processed values (1, steps, ...) of a clip -> what is kept, (steps, ...)."""

    @abstractmethod
    def write_shard(self, path: Path, rows: Iterator[Row], schema: pa.Schema) -> None:
        """Write rows as they come."""

    @abstractmethod
    def read_columns(self, path: Path, names: list[str]) -> pa.Table:
        """Some columns of a shard."""


def write_store(
    store_format: StoreFormat,
    clips: Dataset,
    tokenizers: Mapping[str, PreTrainedModel | None],
    folder: Path,
    *,
    processor: ProcessorMixin,
    clip_options: dict[str, Any] | None,
    clips_per_shard: int,
    num_processes: int,
    seconds_per_clip: float | None,
    rank: int,
    num_ranks: int,
    show_progress: bool,
    speed_factors: Sequence[float] | None = None,
) -> bool:
    """Encode clips into a store of a format; arguments and errors as of `write_token_store`. False while other ranks are
    at work."""
    used = {name: tokenizer for name, tokenizer in tokenizers.items() if tokenizer is not None}
    _check_tokenizers(used)
    speeds = sorted_speed_factors(speed_factors)
    _check_speeds(speeds, clips, used)
    options = None if _are_prepared(clips, clip_options) else decoding_options(processor, used, clip_options)
    plan = _plan(store_format, clips, used, processor, options, clips_per_shard, speeds)
    open_folder(folder, plan)
    if not is_complete(folder, plan):
        own = [shard for shard in plan.pending(folder) if shard % num_ranks == rank]
        encoder = ClipEncoder(used, processor, options, store_format)
        schema = _schema(store_format, clips, used, speeds)
        if len(speeds) == 1:
            encode, write_shard = encoder, partial(store_format.write_shard, schema=schema)
        else:
            encode, write_shard = SpeedCopies(encoder, speeds), partial(_write_copies, store_format, schema)
        outcomes = clip_outcomes(encode, clips, plan, own, num_processes, seconds_per_clip)
        fill_shards(
            folder, plan, own, outcomes, write_shard, description="encoding clips", show_progress=show_progress
        )
        if plan.pending(folder):
            return False
    finish_shards(folder, plan, partial(_totals, store_format, plan, folder))
    return True


def decoding_options(
    processor: ProcessorMixin, tokenizers: Mapping[str, PreTrainedModel], clip_options: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Options of `load_clip` that give what a processor takes, and only the modalities that there are tokenizers for."""
    return {**processor.clip_options(sorted(tokenizers)), **(clip_options or {})}


class ClipEncoder:
    """A row of a corpus, or of prepared clips, to the row of a store; can be sent to another process.

    Args:
        tokenizers: by modality, in evaluation mode, on their device.
        processor: that fits them.
        clip_options: of `load_clip`, for rows of a corpus; None for prepared rows.
        store_format: what is kept.
    """

    def __init__(
        self,
        tokenizers: Mapping[str, PreTrainedModel],
        processor: ProcessorMixin,
        clip_options: dict[str, Any] | None,
        store_format: StoreFormat,
    ):
        self.tokenizers = dict(tokenizers)
        self.processor = processor
        self.clip_options = clip_options
        self.store_format = store_format

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
        prepared = self.prepare(row)
        return prepared if isinstance(prepared, ClipFailure) else self.encode_prepared(prepared)

    def prepare(self, row: Row) -> Row | ClipFailure:
        """Decode a row of a corpus; a prepared one is returned as it is."""
        return row if self.clip_options is None else prepare_row(row, self.clip_options)

    def encode_prepared(self, prepared: Row) -> Row | ClipFailure:
        """Encode one clip that is decoded."""
        try:
            inputs = self._processed(prepared)
        except ValueError as error:
            return ClipFailure(prepared["clip_id"], type(error).__name__, str(error))
        audio = self._encode("audio", inputs.get("audio_values"), inputs.get("audio_attention_mask"))
        visual = self._encode("visual", inputs.get("pixel_values_videos"), inputs.get("visual_attention_mask"))
        return {
            **{name: value for name, value in prepared.items() if name not in PREPARED_COLUMNS},
            "content_digest": prepared["content_digest"],
            "num_spectra": len(audio),
            "num_frames": len(visual),
            f"audio_{self.store_format.content}": audio.ravel(),
            f"visual_{self.store_format.content}": visual.ravel(),
        }

    def _processed(self, prepared: Row) -> Mapping[str, torch.Tensor]:
        """What the processor makes of the modalities that the clip has and that there are tokenizers for."""
        frames, waveform = row_arrays(prepared)
        if frames is not None and waveform is not None:
            self._check_rates(len(frames), len(waveform))
        given: dict[str, Any] = {}
        if "audio" in self.tokenizers and waveform is not None:
            given["audio"] = waveform
        if "visual" in self.tokenizers and frames is not None:
            given["videos"] = [frames]
        return self.processor(**given, return_tensors="pt") if given else {}

    def _check_rates(self, num_frames: int, num_samples: int) -> None:
        """Refuse clips that were prepared at other rates, of which the processor would trim what it takes for surplus."""
        frames_per_second = self.processor.video_processor.frames_per_second
        sampling_rate = self.processor.feature_extractor.sampling_rate
        expected = num_frames * sampling_rate / frames_per_second
        if abs(num_samples - expected) > sampling_rate / frames_per_second:
            found = num_frames * sampling_rate / num_samples
            raise ValueError(
                f"{num_frames} frames beside {num_samples} samples are {found:.3g} frames per second at {sampling_rate} Hz; "
                f"the processor takes {frames_per_second:g}. Prepare the clips with frames_per_second="
                f"{frames_per_second:g} and sampling_rate={sampling_rate}."
            )

    @torch.no_grad()
    def _encode(self, modality: str, values: torch.Tensor | None, mask: torch.Tensor | None) -> np.ndarray:
        """What is kept, (steps, ...), of a clip's (1, steps + padding, ...) values."""
        tokenizer = self.tokenizers.get(modality)
        value_type = self.store_format.value_type(tokenizer)
        if values is None or mask is None or tokenizer is None:
            return np.zeros(0, value_type)
        real = values[:, : int(mask.sum())]  # padding lies at the end
        parts = [real] if modality == "audio" else real.split(frames_at_once(tokenizer.device), dim=1)
        kept = [
            self.store_format.encode(modality, tokenizer, part.to(tokenizer.device)).cpu().numpy() for part in parts
        ]
        return np.concatenate(kept).astype(value_type)


def frames_at_once(device: torch.device) -> int:
    """Frames that the visual tokenizer encodes at once.

    Activations of more do not fit a processor's cache: 75 frames of GRID take 0.46 s by 16 and 0.78 s at once on one core.
    On accelerators it only bounds the memory that a long clip takes.
    """
    return 16 if device.type == "cpu" else 256


def code_shape(modality: str, tokenizer: PreTrainedModel) -> tuple[int, ...]:
    """Codes of one step: (64,) of a spectrum, (24, 24) of a frame."""
    config = tokenizer.config
    return (config.codes_per_spectrum,) if modality == "audio" else (config.codes_per_side,) * 2


def _are_prepared(clips: Dataset, clip_options: dict[str, Any] | None) -> bool:
    prepared = "frames" in clips.column_names
    if prepared and clip_options is not None:
        raise ValueError(
            f"clip_options={clip_options} was given, but these clips are decoded already; give them to prepare_clips, or "
            "encode the corpus itself."
        )
    return prepared


def _check_tokenizers(tokenizers: Mapping[str, PreTrainedModel]) -> None:
    if not tokenizers:
        raise ValueError("audio_tokenizer and visual_tokenizer are both None; there is nothing to encode with.")
    for modality, tokenizer in tokenizers.items():
        if tokenizer.training:
            raise ValueError(f"{modality}_tokenizer is in training mode, where codebooks move; call .eval() first.")


def _check_speeds(speeds: Sequence[float], clips: Dataset, tokenizers: Mapping[str, PreTrainedModel]) -> None:
    """Refuse copies at other speeds where pictures would have to follow, or where their column has another meaning."""
    if len(speeds) > 1 and "visual" in tokenizers:
        raise ValueError(
            f"speed_factors={list(speeds)} change the sound alone, and pictures would fall out of step; leave the visual "
            "tokenizer or speed_factors out."
        )
    if len(speeds) > 1 and SPEED_COLUMN in clips.column_names:
        raise ValueError(
            f"speed_factors={list(speeds)} would be written to a column {SPEED_COLUMN!r}, which the clips have already; "
            f'rename theirs: clips.rename_column("{SPEED_COLUMN}", ...).'
        )


def _write_copies(store_format: StoreFormat, schema: pa.Schema, path: Path, clips: Iterator[list[Row]]) -> None:
    store_format.write_shard(path, chain.from_iterable(clips), schema)


def _plan(
    store_format: StoreFormat,
    clips: Dataset,
    tokenizers: Mapping[str, PreTrainedModel],
    processor: ProcessorMixin,
    options: dict[str, Any] | None,
    clips_per_shard: int,
    speeds: Sequence[float],
) -> ShardPlan:
    records = {
        name: dataclasses.asdict(store_format.record(name, tokenizers[name])) if name in tokenizers else None
        for name in MODALITIES
    }
    if options is None:
        rows = label_columns(clips, set(PREPARED_COLUMNS) - {"content_digest"})
        trimming = clips[TRIM_COLUMN][0] if TRIM_COLUMN in clips.column_names else None
    else:
        rows = map(describe_row, clips)
        trimming = options.get(TRIM_COLUMN)
    parameters = {
        "tokenizers": records,
        "sampling_rate": processor.feature_extractor.sampling_rate,
        "hop_length": processor.feature_extractor.hop_length,
        "frames_per_second": processor.video_processor.frames_per_second,
        "clip_options": options,
        # Only where there are copies, or silence was cut off: stores of before say nothing of that.
        **({"speed_factors": list(speeds)} if len(speeds) > 1 else {}),
        **({TRIM_COLUMN: trimming} if trimming is not None else {}),
    }
    return ShardPlan(
        kind=store_format.kind,
        suffix=store_format.suffix,
        num_rows=len(clips),
        rows_per_shard=clips_per_shard,
        inputs=digest_rows(rows, _labels(clips).features.to_dict()),
        parameters=json.loads(json.dumps(parameters)),
    )


def _labels(clips: Dataset) -> Dataset:
    return label_columns(clips, {*MEDIA_COLUMNS, *PREPARED_COLUMNS})


def _schema(
    store_format: StoreFormat, clips: Dataset, tokenizers: Mapping[str, PreTrainedModel], speeds: Sequence[float]
) -> pa.Schema:
    kept = {
        f"{name}_{store_format.content}": List(Value(store_format.value_type(tokenizers.get(name))))
        for name in MODALITIES
    }
    described = {
        "content_digest": Value("string"),
        "num_spectra": Value("int32"),
        "num_frames": Value("int32"),
        **({SPEED_COLUMN: Value("float64")} if len(speeds) > 1 else {}),
    }
    return Features({**_labels(clips).features, **described, **kept}).arrow_schema


def _totals(store_format: StoreFormat, plan: ShardPlan, folder: Path) -> dict[str, Any]:
    """Steps of all clips, and whose they are, so that a split needs no look into the shards."""
    totals, speakers = {"num_spectra": 0, "num_frames": 0}, set()
    columns = [*totals, "speaker", *speed_columns(plan.parameters)]
    for path in plan.paths(folder):
        shard = original_rows(store_format.read_columns(path, columns), plan.parameters)
        speakers.update(shard["speaker"].to_pylist())
        for name in totals:
            totals[name] += int(shard[name].to_numpy().sum())
    return {**totals, "speakers": sorted(speakers)}
