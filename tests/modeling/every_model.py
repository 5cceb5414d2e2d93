"""One small model of each kind with inputs for it, for what has to hold of all of them."""

from collections.abc import Callable
from typing import Any

import torch
from small_mdvae import make, random_features
from small_models import (
    audio_tokenizer,
    build,
    random_codes,
    random_frames,
    random_spectra,
    seeded,
    visual_tokenizer,
    vqmae_config,
)

from vqmae_hf.modeling.modeling_mdvae import MDVAEForAudioVisualClassification
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining

LABELS = torch.tensor([0, 2, 1])
CROSS = {"encoder_fusion": "cross", "decoder_fusion": "cross", "classifier_pooling": "query2emo"}


def pretraining(**overrides: Any) -> tuple[Any, dict[str, Any]]:
    config = vqmae_config(**overrides)
    return build(VQMAEForPreTraining, config), random_codes(config)


def classifier(**overrides: Any) -> tuple[Any, dict[str, Any]]:
    config = vqmae_config(**overrides)
    return build(VQMAEForAudioVisualClassification, config), {**random_codes(config), "labels": LABELS}


# Model in evaluation mode, and what it takes.
EVERY_MODEL: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "audio tokenizer": lambda: (audio_tokenizer(), {"audio_values": random_spectra()}),
    "visual tokenizer": lambda: (visual_tokenizer(), {"pixel_values_videos": random_frames()}),
    "pre-training, self": pretraining,
    "pre-training, cross": lambda: pretraining(**CROSS),
    "classifier, attention": classifier,
    "classifier, query2emo": lambda: classifier(**CROSS),
    "MDVAE": lambda: (make(), random_features()),
    "MDVAE classifier": lambda: (make(MDVAEForAudioVisualClassification), {**random_features(), "labels": LABELS}),
}


def draws(model: Any) -> dict[str, Any]:
    """The source of what a model draws, where it draws anything; a new one for each call."""
    if isinstance(model, VQMAEForPreTraining):
        return {"generator": seeded(5)}
    if type(model).__name__ == "MDVAEModel":
        return {"generator": seeded(5), "sample": True}
    return {}


def named_tensors(output: Any) -> dict[str, torch.Tensor]:
    """The tensors of an output, those inside tuples included."""
    found = {}
    for name, value in output.items():
        entries = value if isinstance(value, (tuple, list)) else [value]
        found |= {f"{name}[{i}]": entry for i, entry in enumerate(entries) if isinstance(entry, torch.Tensor)}
    return found
