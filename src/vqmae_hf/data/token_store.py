"""Token stores: the codes of a corpus, computed once, in Parquet shards that `datasets` reads.

One row per clip: the columns that describe it (`clip_id`, `speaker`, `emotion`, ...), `num_spectra`, `num_frames`, and
the codes as flat lists of small integers: `audio_codes` (num_spectra * codes per spectrum), `visual_codes` (num_frames *
codes per frame, rows before columns); a modality that a clip lacks has 0 steps and an empty list. `token_store.json`
says which tokenizers made them, so that the codes of one are never taken for those of another.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, Features, List, Value, load_dataset
from pyarrow import parquet
from tqdm.auto import tqdm
from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

from vqmae_hf.data.prepared_clips import MEDIA_FEATURES, clip_arrays
from vqmae_hf.data.shards import (
    ShardPlan,
    StaleStoreError,
    atomic_path,
    check_complete,
    close_folder,
    digest_rows,
    is_complete,
    label_columns,
    open_folder,
    plan_from_manifest,
)

KIND = "token_store"


@dataclasses.dataclass(frozen=True)
class TokenizerRecord:
    """What a store knows of one tokenizer: `codes_per_step` is the shape of one step's codes, (64,) or (24, 24)."""

    fingerprint: str
    codebook_size: int
    codes_per_step: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TokenStoreInfo:
    """The head of a store: its tokenizers (None for a modality it lacks), its rates, its totals."""

    audio: TokenizerRecord | None
    visual: TokenizerRecord | None
    sampling_rate: int
    hop_length: int
    frames_per_second: float
    num_clips: int
    num_spectra: int
    num_frames: int


def tokenizer_fingerprint(tokenizer: PreTrainedModel) -> str:
    """Digest (32 hexadecimal digits) of everything that a tokenizer's codes depend on: its configuration and weights.

    It is the same before and after saving, and inside a `VQMAE` checkpoint; another precision is another tokenizer.
    """
    inherited = {field.name for field in dataclasses.fields(PreTrainedConfig)}
    own = {field.name for field in dataclasses.fields(tokenizer.config)} - inherited
    digest = hashlib.sha256(tokenizer.config.model_type.encode())
    digest.update(json.dumps({name: getattr(tokenizer.config, name) for name in sorted(own)}).encode())
    for name, tensor in sorted(tokenizer.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:32]


def write_token_store(
    clips: Dataset,
    audio_tokenizer: PreTrainedModel | None,
    visual_tokenizer: PreTrainedModel | None,
    folder: str | Path,
    *,
    processor: ProcessorMixin,
    clips_per_shard: int = 256,
    process_index: int = 0,
    num_processes: int = 1,
    show_progress: bool = True,
) -> Dataset | None:
    """Encode prepared clips with frozen tokenizers and keep the codes.

    Interrupted runs continue with the shards that are missing; a shard is there whole or not at all. Several processes
    (each with its own accelerator, on any number of machines with one file system) share the work when each gets its
    number; whoever writes the last shard completes the store.

    Args:
        clips: as of `prepare_clips`.
        audio_tokenizer, visual_tokenizer: models with `encode`, in evaluation mode, on the device to use; None leaves
            a modality out.
        folder: local; new, empty, or left by an earlier call with the same clips and tokenizers.
        processor: the `VQMAEProcessor` that fits the tokenizers.
        clips_per_shard: clips per Parquet file.
        process_index, num_processes: this process among those that share the work.
        show_progress: draw a progress bar.

    Returns:
        The store as of `load_token_store`; None where other processes have not finished theirs.

    Raises:
        StaleStoreError: the folder holds codes of other clips or other tokenizers.
        ValueError: no tokenizer, or a tokenizer left in training mode.
    """
    tokenizers = {"audio": audio_tokenizer, "visual": visual_tokenizer}
    _check_tokenizers(tokenizers)
    folder = Path(folder)
    plan = _plan(clips, tokenizers, processor, clips_per_shard)
    open_folder(folder, plan)
    if not is_complete(folder, plan):
        own = [shard for shard in plan.pending(folder) if shard % num_processes == process_index]
        rows = sum(len(plan.rows(shard)) for shard in own)
        with tqdm(total=rows, desc="tokenizing clips", unit="clip", disable=not show_progress) as bar:
            for shard in own:
                encoded = _encode_rows(clips, plan.rows(shard), tokenizers, processor, bar)
                _write_shard(plan.path(folder, shard), clips, list(encoded), tokenizers)
        if plan.pending(folder):
            return None
        close_folder(folder, plan, _totals(plan, folder))
    return load_token_store(folder)


def read_token_store_info(folder: str | Path) -> TokenStoreInfo:
    """The head of a store, local or at any address that fsspec opens (`s3://`, `hf://datasets/`, ...).

    Raises:
        FileNotFoundError: no store there.
        IncompleteStoreError: its making was interrupted.
    """
    manifest = _read_manifest(str(folder))
    parameters = manifest["plan"]["parameters"]
    records = {
        name: None
        if record is None
        else TokenizerRecord(**{**record, "codes_per_step": tuple(record["codes_per_step"])})
        for name, record in parameters["tokenizers"].items()
    }
    totals = {name: manifest[name] for name in ("num_clips", "num_spectra", "num_frames")}
    rates = {name: parameters[name] for name in ("sampling_rate", "hop_length", "frames_per_second")}
    return TokenStoreInfo(**records, **rates, **totals)


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
        The dataset described at the head of this module, memory-mapped.

    Raises:
        StaleStoreError: the codes are those of another tokenizer.
        FileNotFoundError, IncompleteStoreError: no store there, or not a whole one.
    """
    check_token_store(folder, audio_tokenizer=audio_tokenizer, visual_tokenizer=visual_tokenizer)
    plan = plan_from_manifest(_read_manifest(str(folder)))
    paths = [_join(str(folder), path.name) for path in plan.paths(Path())]
    cache = None if cache_dir is None else str(cache_dir)
    return load_dataset("parquet", data_files=paths, split="train", cache_dir=cache)


def check_token_store(
    folder: str | Path,
    *,
    audio_tokenizer: PreTrainedModel | str | None = None,
    visual_tokenizer: PreTrainedModel | str | None = None,
) -> None:
    """Refuse the codes of other tokenizers than these; arguments and errors as of `load_token_store`."""
    info = read_token_store_info(folder)
    for modality, expected in (("audio", audio_tokenizer), ("visual", visual_tokenizer)):
        if expected is not None:
            _check_fingerprint(str(folder), modality, getattr(info, modality), expected)


def _check_tokenizers(tokenizers: dict[str, PreTrainedModel | None]) -> None:
    if all(tokenizer is None for tokenizer in tokenizers.values()):
        raise ValueError("audio_tokenizer and visual_tokenizer are both None; there is nothing to encode with.")
    for modality, tokenizer in tokenizers.items():
        if tokenizer is not None and tokenizer.training:
            raise ValueError(f"{modality}_tokenizer is in training mode, where codebooks move; call .eval() first.")


def _plan(
    clips: Dataset, tokenizers: dict[str, PreTrainedModel | None], processor: ProcessorMixin, clips_per_shard: int
) -> ShardPlan:
    records = {
        modality: None if tokenizer is None else dataclasses.asdict(_record(modality, tokenizer))
        for modality, tokenizer in tokenizers.items()
    }
    columns = label_columns(clips, set(MEDIA_FEATURES) - {"content_digest"})
    return ShardPlan(
        kind=KIND,
        suffix="parquet",
        num_rows=len(clips),
        rows_per_shard=clips_per_shard,
        inputs=digest_rows(columns, columns.features.to_dict()),
        parameters={
            "tokenizers": records,
            "sampling_rate": processor.feature_extractor.sampling_rate,
            "hop_length": processor.feature_extractor.hop_length,
            "frames_per_second": processor.video_processor.frames_per_second,
        },
    )


def _record(modality: str, tokenizer: PreTrainedModel) -> TokenizerRecord:
    config = tokenizer.config
    shape = (config.codes_per_spectrum,) if modality == "audio" else (config.codes_per_side,) * 2
    return TokenizerRecord(tokenizer_fingerprint(tokenizer), config.codebook_size, shape)


@torch.no_grad()
def _encode_rows(
    clips: Dataset,
    rows: range,
    tokenizers: dict[str, PreTrainedModel | None],
    processor: ProcessorMixin,
    bar: tqdm,
) -> Iterator[dict[str, Any]]:
    """One clip at a time: tokenizers whose normalisation looks at the clip at hand must see it alone."""
    media, labels = clips.with_format("arrow"), label_columns(clips, MEDIA_FEATURES)
    for i in rows:
        frames, waveform = clip_arrays(media, i)
        given = {}
        if tokenizers["audio"] is not None and waveform is not None:
            given["audio"] = waveform
        if tokenizers["visual"] is not None and frames is not None:
            given["videos"] = [frames]
        try:
            inputs = processor(**given, return_tensors="pt") if given else {}
        except ValueError as error:
            raise ValueError(f"clip {labels[i]['clip_id']!r}: {error}") from error
        row = {**labels[i], "num_spectra": 0, "num_frames": 0, "audio_codes": [], "visual_codes": []}
        if "audio" in given:
            codes = _encode(tokenizers["audio"], inputs["audio_values"], inputs["audio_attention_mask"])
            row.update(num_spectra=len(codes), audio_codes=codes.ravel())
        if "videos" in given:
            codes = _encode(tokenizers["visual"], inputs["pixel_values_videos"], inputs["visual_attention_mask"])
            row.update(num_frames=len(codes), visual_codes=codes.ravel())
        bar.update()
        yield row


def _encode(tokenizer: PreTrainedModel, values: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """Codes (steps, ...) of the real steps of one clip; padding, which lies at the end, is cut off first."""
    steps = int(mask.sum())
    return tokenizer.encode(values[:, :steps].to(tokenizer.device))[0].cpu().numpy()


def _write_shard(
    path: Path, clips: Dataset, rows: list[dict[str, Any]], tokenizers: dict[str, PreTrainedModel | None]
) -> None:
    labels = label_columns(clips, MEDIA_FEATURES)
    features = Features(
        {
            **labels.features,
            "num_spectra": Value("int32"),
            "num_frames": Value("int32"),
            "audio_codes": List(Value(_code_type(tokenizers["audio"]))),
            "visual_codes": List(Value(_code_type(tokenizers["visual"]))),
        }
    )
    columns = {name: [row[name] for row in rows] for name in features}
    with atomic_path(path) as unfinished:
        parquet.write_table(pa.Table.from_pydict(columns, schema=features.arrow_schema), unfinished)


def _code_type(tokenizer: PreTrainedModel | None) -> str:
    """The smallest unsigned integers that hold every code."""
    return "uint8" if tokenizer is None else np.min_scalar_type(tokenizer.config.codebook_size - 1).name


def _totals(plan: ShardPlan, folder: Path) -> dict[str, int]:
    totals = {"num_clips": plan.num_rows, "num_spectra": 0, "num_frames": 0}
    for path in plan.paths(folder):
        shard = parquet.read_table(path, columns=["num_spectra", "num_frames"])
        for name in shard.column_names:
            totals[name] += int(shard[name].to_numpy().sum())
    return totals


def _read_manifest(folder: str) -> dict[str, Any]:
    path = _join(folder, f"{KIND}.json")
    try:
        with fsspec.open(path, encoding="utf-8", mode="r") as lines:
            manifest = json.load(lines)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} is no token store: it has no {KIND}.json. Make one with write_token_store or "
            "`python -m vqmae_hf.training.tokenize_corpus`."
        ) from error
    check_complete(manifest, folder)
    return manifest


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"


def _check_fingerprint(
    folder: str, modality: str, record: TokenizerRecord | None, expected: PreTrainedModel | str
) -> None:
    wanted = expected if isinstance(expected, str) else tokenizer_fingerprint(expected)
    if record is None:
        raise StaleStoreError(
            f"{folder} has no {modality} codes; tokenize the corpus with the {modality} tokenizer too."
        )
    if record.fingerprint != wanted:
        raise StaleStoreError(
            f"{folder} holds the codes of another {modality} tokenizer (fingerprint {record.fingerprint}, expected "
            f"{wanted}). Tokenize the corpus again, into a new folder, or use the tokenizer that made it."
        )
