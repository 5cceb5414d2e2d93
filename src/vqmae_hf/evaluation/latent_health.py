"""
Whether an MDVAE learned anything: how much of the features its latents explain, and which of their numbers are in use.

Letters: B clips, T frames, D features of a frame, Z numbers of a latent.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from vqmae_hf.modeling.mdvae_features import FrameFeatures
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel

# Numbers of a latent whose divergence from the prior, in nats, is below this say nothing.
ACTIVE_NATS = 0.01


@torch.no_grad()
def latent_health(model: MDVAEModel, batches: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """
    Explained variance and used numbers, from the means of the latents.

    Args:
        model: in evaluation mode.
        batches: of `audio_features` (B, T, D), `visual_features` (B, T, D), those that the model has, and their masks.

    Returns:
        `explained_variance`, by modality: 1 - squared error / squared deviation from the mean features of these batches; 0
        is what the mean alone does. `divergence`, by latent: nats per clip for w, per frame for the others.
        `active_numbers`, by latent: how many of its numbers diverge by more than 0.01 nats; without any, it has collapsed.

    Raises:
        ValueError: no batch.
    """
    moments: dict[str, Moments] = {name: Moments() for name in model.config.modalities}
    divergences: dict[str, torch.Tensor] = {}
    num_clips = 0
    for batch in batches:
        inputs = model.prepare_features(
            audio_features=_on_device(batch.get("audio_features"), model),
            visual_features=_on_device(batch.get("visual_features"), model),
            audio_attention_mask=_on_device(batch.get("audio_attention_mask"), model),
            visual_attention_mask=_on_device(batch.get("visual_attention_mask"), model),
        )
        encoding = model.infer_latents(inputs)
        for name, decoded in model.decode_features(encoding).items():
            moments[name].add(*(_real(values, inputs) for values in (inputs.features[name], decoded)))
        B = len(encoding["w"])
        num_clips += B
        for name, nats in model.latent_divergences(encoding).items():
            divergences[name] = divergences.get(name, torch.zeros_like(nats)) + B * nats
    if not num_clips:
        raise ValueError("batches holds none; give those of at least one clip.")
    means = {name: total / num_clips for name, total in divergences.items()}
    return {
        "explained_variance": {name: moments[name].explained_variance() for name in moments},
        "divergence": {name: float(nats.sum()) for name, nats in means.items()},
        "active_numbers": {name: int((nats > ACTIVE_NATS).sum()) for name, nats in means.items()},
    }


class Moments:
    """Sums over frames, in double precision, of features (N, D) and of the errors of their reconstructions."""

    def __init__(self) -> None:
        self.count = 0
        self.error: float = 0.0
        self.total: torch.Tensor | float = 0.0
        self.squares: torch.Tensor | float = 0.0

    def add(self, features: torch.Tensor, reconstructions: torch.Tensor) -> None:
        """Count frames."""
        features, reconstructions = features.double().cpu(), reconstructions.double().cpu()
        self.count += len(features)
        self.error += float((features - reconstructions).square().sum())
        self.total = self.total + features.sum(dim=0)
        self.squares = self.squares + features.square().sum(dim=0)

    def explained_variance(self) -> float:
        """Share of the squared deviation from the mean that the reconstructions account for."""
        deviation = torch.as_tensor(self.squares - torch.as_tensor(self.total).square() / self.count).sum()
        return 1 - self.error / max(float(deviation), 1e-12)


def _real(values: torch.Tensor, inputs: FrameFeatures) -> torch.Tensor:
    """Frames that are no padding: (B, T, D) -> (N, D)."""
    return values.flatten(0, 1) if inputs.frame_mask is None else values[inputs.frame_mask]


def _on_device(value: torch.Tensor | None, model: MDVAEModel) -> torch.Tensor | None:
    return None if value is None else value.to(model.device)
