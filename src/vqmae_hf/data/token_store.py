"""Token stores: the codes of a corpus, computed once, in Parquet shards that `datasets` reads.

One row per clip: the columns that describe it (`clip_id`, `speaker`, `emotion`, ...), `content_digest` (equal for
recordings that are equal once decoded), `num_spectra`, `num_frames`, and the codes as flat lists of small integers:
`audio_codes` (num_spectra * codes per spectrum), `visual_codes` (num_frames * codes per frame, rows before columns); a
modality that a clip lacks has 0 steps and an empty list. `token_store.json` says which tokenizers made them, so that the
codes of one are never taken for those of another.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import fsspec
import torch
from datasets import Dataset, load_dataset
from transformers import PreTrainedConfig, PreTrainedModel

from vqmae_hf.data.shards import StaleStoreError, check_complete, plan_from_manifest

KIND = "token_store"


@dataclasses.dataclass(frozen=True)
class TokenizerRecord:
    """What a store knows of one tokenizer: `codes_per_step` is the shape of one step's codes, (64,) or (24, 24)."""

    fingerprint: str
    codebook_size: int
    codes_per_step: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TokenStoreInfo:
    """The head of a store: its tokenizers (None for a modality it lacks), its rates, its totals, who speaks."""

    audio: TokenizerRecord | None
    visual: TokenizerRecord | None
    sampling_rate: int
    hop_length: int
    frames_per_second: float
    num_clips: int
    num_spectra: int
    num_frames: int
    speakers: tuple[str, ...]


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
    return TokenStoreInfo(**records, **rates, **totals, speakers=tuple(manifest["speakers"]))


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
    cache = None if cache_dir is None else str(cache_dir)
    return load_dataset("parquet", data_files=shard_addresses(folder), split="train", cache_dir=cache)


def shard_addresses(folder: str | Path) -> list[str]:
    """Addresses of the Parquet files of a store, in order; errors as of `read_token_store_info`."""
    plan = plan_from_manifest(_read_manifest(str(folder)))
    return [_join(str(folder), path.name) for path in plan.paths(Path())]


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


def _read_manifest(folder: str) -> dict[str, Any]:
    path = _join(folder, f"{KIND}.json")
    try:
        with fsspec.open(path, encoding="utf-8", mode="r") as lines:
            manifest = json.load(lines)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} is no token store: it has no {KIND}.json. Make one with `vqmae-hf tokenize`."
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
