"""What stores of encoded clips share: the fingerprint of a tokenizer, and how their heads are read and checked."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import torch
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError
from pyarrow import parquet
from transformers import PreTrainedConfig, PreTrainedModel

from vqmae_hf.data.shards import DamagedStoreError, StaleStoreError, check_complete

# How people call a folder of each kind, what it keeps of a clip, and how it is made.
DESCRIPTIONS = {
    "token_store": ("token store", "codes", "Make one with `vqmae-hf tokenize`."),
    "latent_store": (
        "latent store",
        "latents",
        "Make one with `python -m vqmae_hf.training.encode_corpus`.",
    ),
}

# What a finished store's manifest must say, by the path of keys to it.
MANIFEST_TYPES: dict[tuple[str, ...], type | tuple[type, ...]] = {
    ("plan",): dict,
    **{("plan", name): str for name in ("kind", "suffix", "inputs")},
    **{("plan", name): int for name in ("num_rows", "rows_per_shard")},
    ("plan", "parameters"): dict,
    ("plan", "parameters", "tokenizers"): dict,
    **{("plan", "parameters", name): (int, float) for name in ("sampling_rate", "hop_length", "frames_per_second")},
    **{(name,): int for name in ("num_clips", "num_spectra", "num_frames")},
    ("speakers",): list,
}
# What only some have.
OPTIONAL_MANIFEST_TYPES: dict[tuple[str, ...], type | tuple[type, ...]] = {
    ("plan", "parameters", "speed_factors"): list,
    ("plan", "parameters", "trim_silence_db"): (int, float),
}
DAMAGED = "Copy the file again from where the store was made, or make the store again, into a new folder."


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


def read_store_manifest(folder: str, kind: str) -> dict[str, Any]:
    """The manifest of a whole store, local or at any address that fsspec opens.

    Raises:
        FileNotFoundError: no store of this kind there.
        IncompleteStoreError: its making was interrupted.
        DamagedStoreError: the manifest is no manifest.
    """
    address = join_address(folder, f"{kind}.json")
    try:
        with fsspec.open(address, encoding="utf-8", mode="r") as lines:
            manifest = json.load(lines)
    except ValueError as error:  # of json, and of texts that are not UTF-8
        raise DamagedStoreError(f"{address}: found no whole JSON ({error}). {DAMAGED}") from error
    except FileNotFoundError as error:
        name, _, remedy = DESCRIPTIONS[kind]
        raise FileNotFoundError(f"{folder} is no {name}: it has no {kind}.json. {remedy}") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("complete"), bool):
        raise DamagedStoreError(f"{address}: found no object with 'complete', true or false. {DAMAGED}")
    check_complete(manifest, folder)
    _check_manifest(manifest, address)
    return manifest


def _check_manifest(manifest: Mapping[str, Any], address: str) -> None:
    """Refuse the manifest of a finished store that lacks something, or has something of another type."""
    problems = []
    for path, accepted in {**MANIFEST_TYPES, **OPTIONAL_MANIFEST_TYPES}.items():
        value: Any = manifest
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        absent = value is None and path in OPTIONAL_MANIFEST_TYPES
        if not absent and (not isinstance(value, accepted) or isinstance(value, bool)):
            problems.append(f"{'.'.join(path)} is {value!r}")
    tokenizers = {} if problems else manifest["plan"]["parameters"]["tokenizers"]
    problems += [
        f"plan.parameters.tokenizers.{name} is {record!r}"
        for name, record in tokenizers.items()
        if record is not None
        and not (
            isinstance(record, Mapping)
            and isinstance(record.get("fingerprint"), str)
            and isinstance(record.get("codes_per_step"), list)
        )
    ]
    if problems:
        raise DamagedStoreError(f"{address}: {'; '.join(problems)}, which no store has. {DAMAGED}")


def load_shards(file_type: str, addresses: list[str], cache_dir: str | Path | None) -> Dataset:
    """The rows of a store's shards, by way of `datasets`.

    Raises:
        FileNotFoundError: a shard is missing; the message names it, as do the others.
        DamagedStoreError: a shard cannot be read.
    """
    cache = None if cache_dir is None else str(cache_dir)
    try:
        return load_dataset(file_type, data_files=addresses, split="train", cache_dir=cache)
    except (DatasetGenerationError, pa.ArrowException) as error:
        for address in addresses:
            _check_shard(file_type, address)
        raise DamagedStoreError(f"{addresses[0]} and the shards beside it: {error}. {DAMAGED}") from error


def map_arrow_shard(path: Path) -> Dataset:
    """A local shard, mapped into memory; errors as of `load_shards`."""
    try:
        return Dataset.from_file(str(path))
    except FileNotFoundError:  # which pyarrow's errors are kin to, and which names the file
        raise
    except (OSError, pa.ArrowException) as error:
        raise DamagedStoreError(f"{path}: cut off or damaged ({error}). {DAMAGED}") from error


def _check_shard(file_type: str, address: str) -> None:
    """Read a shard to the end, and say which one it is that cannot be."""
    try:
        with fsspec.open(address, "rb") as file:
            if file_type == "parquet":
                parquet.read_table(file)
            else:
                pa.ipc.open_stream(file).read_all()
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise DamagedStoreError(f"{address}: cut off or damaged ({error}). {DAMAGED}") from error


def rates_and_totals(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the heads of all stores tell: rates, numbers of clips, spectra and frames, speakers, trimming."""
    parameters = manifest["plan"]["parameters"]
    return {
        **{name: parameters[name] for name in ("sampling_rate", "hop_length", "frames_per_second")},
        **{name: manifest[name] for name in ("num_clips", "num_spectra", "num_frames")},
        "speakers": tuple(manifest["speakers"]),
        "trim_silence_db": parameters.get("trim_silence_db"),
    }


def tokenizer_records(manifest: Mapping[str, Any], record_class: type) -> dict[str, Any]:
    """What a store knows of its tokenizers, by modality; None for one it lacks."""
    found = manifest["plan"]["parameters"]["tokenizers"]
    return {
        name: record and record_class(**{**record, "codes_per_step": tuple(record["codes_per_step"])})
        for name, record in found.items()
    }


def check_fingerprints(
    folder: str, kind: str, records: Mapping[str, Any], expected: Mapping[str, PreTrainedModel | str | None]
) -> None:
    """Refuse what was made by other tokenizers than the expected ones (or than their fingerprints); None is not checked.

    Raises:
        StaleStoreError: of another tokenizer, or without the modality.
    """
    _, content, _ = DESCRIPTIONS[kind]
    for modality, tokenizer in expected.items():
        if tokenizer is None:
            continue
        wanted = tokenizer if isinstance(tokenizer, str) else tokenizer_fingerprint(tokenizer)
        record = records[modality]
        if record is None:
            raise StaleStoreError(
                f"{folder} has no {modality} {content}; tokenize the corpus with the {modality} tokenizer too."
            )
        if record.fingerprint != wanted:
            raise StaleStoreError(
                f"{folder} holds the {content} of another {modality} tokenizer (fingerprint {record.fingerprint}, expected "
                f"{wanted}). Tokenize the corpus again, into a new folder, or use the tokenizer that made it."
            )


def join_address(folder: str, name: str) -> str:
    """The address of a file in a folder at any address."""
    return f"{folder.rstrip('/')}/{name}"
