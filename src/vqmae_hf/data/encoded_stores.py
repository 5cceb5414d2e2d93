"""What stores of encoded clips share: the fingerprint of a tokenizer, and how their heads are read and checked."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import fsspec
import torch
from transformers import PreTrainedConfig, PreTrainedModel

from vqmae_hf.data.shards import StaleStoreError, check_complete

# How people call a folder of each kind, what it keeps of a clip, and how it is made.
DESCRIPTIONS = {
    "token_store": ("token store", "codes", "Make one with `vqmae-hf tokenize`."),
    "latent_store": (
        "latent store",
        "latents",
        "Make one with `python -m vqmae_hf.training.encode_corpus`.",
    ),
}


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
    """
    try:
        with fsspec.open(join_address(folder, f"{kind}.json"), encoding="utf-8", mode="r") as lines:
            manifest = json.load(lines)
    except FileNotFoundError as error:
        name, _, remedy = DESCRIPTIONS[kind]
        raise FileNotFoundError(f"{folder} is no {name}: it has no {kind}.json. {remedy}") from error
    check_complete(manifest, folder)
    return manifest


def rates_and_totals(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """What the heads of all stores tell: rates, numbers of clips, spectra and frames, speakers."""
    parameters = manifest["plan"]["parameters"]
    return {
        **{name: parameters[name] for name in ("sampling_rate", "hop_length", "frames_per_second")},
        **{name: manifest[name] for name in ("num_clips", "num_spectra", "num_frames")},
        "speakers": tuple(manifest["speakers"]),
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
