"""What can be said of an installation and of a path, as dictionaries that become JSON or a table."""

import json
import platform
from collections import Counter
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "accelerate", "datasets", "huggingface-hub", "av", "opencv-python-headless")
OPTIONAL_PACKAGES = ("gradio", "peft", "onnxruntime")
MOST_CLASSES_SHOWN = 20

Description = dict[str, Any]


def describe_installation() -> Description:
    """Versions and devices."""
    import torch

    from vqmae_hf.version import __version__

    versions = {name: _version(name) for name in (*PACKAGES, *OPTIONAL_PACKAGES)}
    devices = ["cpu"]
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        devices += [f"{accelerator.type}:{i}" for i in range(torch.accelerator.device_count())]
    return {
        "vqmae-hf": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "devices": devices,
        "threads": torch.get_num_threads(),
        **{name: version or "not installed" for name, version in versions.items()},
    }


def describe_path(path: Path) -> Description:
    """What a file or folder holds.

    Raises:
        ValueError: nothing there, or nothing that any verb takes.
    """
    if path.is_file():
        return describe_clip(path)
    if not path.is_dir():
        raise ValueError(f"{path} does not exist; accepted are a checkpoint, clip, token store, corpus or run.")
    for name, describe in _KINDS.items():
        if (path / name).is_file():
            return describe(path)
    return describe_corpus(path)


def describe_clip(path: Path) -> Description:
    """What the header of a media file says."""
    from vqmae_hf.data.media import probe_media

    found = probe_media(str(path))
    described: Description = {"kind": "clip", "path": str(path), "duration_seconds": found.duration_seconds}
    described["video"] = found.has_video
    if found.has_video:
        described |= {"width": found.width, "height": found.height, "frames_per_second": found.frames_per_second}
    described["audio"] = found.has_audio
    if found.has_audio:
        described |= {"sampling_rate": found.sampling_rate, "channels": found.num_channels}
    return described


def describe_checkpoint(path: Path) -> Description:
    """Configuration and size of a checkpoint, and its results, where there are any."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    described: Description = {
        "kind": "checkpoint",
        "path": str(path),
        "model_type": config.get("model_type"),
        "architectures": config.get("architectures"),
    }
    described["parameters"] = _count_parameters(path)
    for name in ("modalities", "num_hidden_layers", "encoder_fusion", "codebook_size", "image_size"):
        if name in config:
            described[name] = config[name]
    if "modalities" in config:
        there = [name for name in ("audio", "visual") if config.get(f"{name}_tokenizer_config")]
        described["tokenizers_inside"] = there
    labels = config.get("id2label")
    if labels and any("Classification" in name for name in config.get("architectures") or ()):
        described["emotions"] = list(labels.values())
    described["processor"] = any(
        (path / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")
    )
    if (path / "results.json").is_file():
        described["accuracy_on_test_speakers"] = _accuracies(path / "results.json")
    return described


def describe_token_store(path: Path) -> Description:
    """The head of a token store, and what was left out of it."""
    from vqmae_hf.data.token_store import read_token_store_info

    info = read_token_store_info(path)
    described = _describe_store("token store", path, info)
    if len(info.speed_factors) > 1:
        described["speeds"] = list(info.speed_factors)
    return described


def describe_latent_store(path: Path) -> Description:
    """The same of a store of latents, for MDVAE."""
    from vqmae_hf.data.latent_store import read_latent_store_info

    return _describe_store("latent store", path, read_latent_store_info(path))


def _describe_store(kind: str, path: Path, found: Any) -> Description:
    from vqmae_hf.data.clip_shards import load_failures

    failures = load_failures(path)
    num_bytes = sum(shard.stat().st_size for shard in path.glob("shard-*"))
    seconds = max(
        found.num_frames / found.frames_per_second, found.num_spectra * found.hop_length / found.sampling_rate
    )
    described: Description = {
        "kind": kind,
        "path": str(path),
        "clips": found.num_clips,
        "left_out": len(failures),
        "reasons": dict(Counter(failure.error for failure in failures)),
        "hours": round(seconds / 3600, 4),
        "speakers": len(found.speakers),
        "bytes": num_bytes,
        "bytes_per_second": round(num_bytes / seconds, 1) if seconds else None,
    }
    for name, record in (("audio", found.audio), ("visual", found.visual)):
        if record is not None:
            described[f"{name}_tokenizer"] = record.fingerprint
    return described


def describe_prepared_clips(path: Path) -> Description:
    """Clips that were decoded and cropped for the tokenizers."""
    from vqmae_hf.data.clip_shards import load_failures
    from vqmae_hf.data.prepared_clips import load_prepared_clips

    clips, failures = load_prepared_clips(path), load_failures(path)
    return {
        "kind": "prepared clips",
        "path": str(path),
        "clips": len(clips),
        "left_out": len(failures),
        "reasons": dict(Counter(failure.error for failure in failures)),
        "speakers": len(set(clips["speaker"])),
    }


def describe_synthetic_corpus(path: Path) -> Description:
    """A corpus of drawn faces."""
    from vqmae_hf.data.synthetic import load_synthetic_corpus

    return {**_describe_clips(load_synthetic_corpus(path), path), "layout": "synthetic"}


def describe_corpus(path: Path) -> Description:
    """A folder of clips, as `videofolder` or, where there is sound alone, as `audiofolder` reads it.

    Raises:
        CorpusError: the folder holds neither.
    """
    from vqmae_hf.data.corpora import list_corpus
    from vqmae_hf.own_corpus.clips import folder_layout

    layout = folder_layout(path)
    listing = list_corpus(layout, path)
    described = {**_describe_clips(listing.dataset, path), "layout": layout}
    if listing.surprises:
        described["left_out"] = len(listing.surprises)
    return described


def _describe_clips(clips: Any, path: Path) -> Description:
    from vqmae_hf.data.corpora import UNKNOWN_SPEAKER

    speakers = set(clips["speaker"])
    described: Description = {"kind": "corpus", "path": str(path), "clips": len(clips)}
    described["speakers"] = None if UNKNOWN_SPEAKER in speakers else len(speakers)
    if "emotion" in clips.column_names:
        names = clips.features["emotion"].names
        counts = Counter(clips["emotion"])
        described["emotions"] = {names[i]: counts[i] for i in sorted(counts)[:MOST_CLASSES_SHOWN]}
    return described


def describe_run(path: Path) -> Description:
    """A training run that has not written its model yet."""
    from transformers.trainer_utils import get_last_checkpoint

    arguments = json.loads((path / "arguments.json").read_text(encoding="utf-8"))
    last = get_last_checkpoint(str(path))
    return {
        "kind": "unfinished training run",
        "path": str(path),
        "last_checkpoint": None if last is None else Path(last).name,
        "arguments": {name: value for name, value in arguments.items() if value is not None},
    }


# By the file that tells what a folder is; the first one that is there decides.
_KINDS: dict[str, Callable[[Path], Description]] = {
    "config.json": describe_checkpoint,
    "token_store.json": describe_token_store,
    "latent_store.json": describe_latent_store,
    "prepared_clips.json": describe_prepared_clips,
    "corpus.json": describe_synthetic_corpus,
    "arguments.json": describe_run,
}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _count_parameters(path: Path) -> int | None:
    """Numbers in the safetensors files, read off their heads."""
    from safetensors import safe_open

    total = 0
    for weights in path.glob("*.safetensors"):
        with safe_open(weights, framework="numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - no dictionary
                count = 1
                for side in tensors.get_slice(name).get_shape():
                    count *= side
                total += count
    return total or None


def _accuracies(path: Path) -> dict[str, float]:
    results = json.loads(path.read_text(encoding="utf-8"))
    return {name: round(part["metrics"]["accuracy"], 4) for name, part in results.get("test", {}).items()}
