"""
What an MDVAE makes of features that are partly missing: inferred and generated in turn until both agree.

[MD] encodes a damaged face as it is. Where the damage is known, the model can do better without more training: what is
missing is first guessed, then latents are inferred from guess and evidence, and the guess is replaced by what they decode
to (Rezende, Mohamed and Wierstra, "Stochastic backpropagation and approximate inference in deep generative models", 2014,
data imputation; means in place of samples). What is known never changes. All the sound missing gives the model's own answer
without sound.

Letters: B clips, T frames, D features, H x W pixels, G x G codes per frame, d numbers per code.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch.nn.functional import max_pool2d

from vqmae_hf.modeling.mdvae_features import visual_latents_to_features
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel
from vqmae_hf.modeling.modeling_outputs_mdvae import MDVAELatents

NUM_ROUNDS = 10
# How far, in codes, the encoder of the visual tokenizer is taken to carry damage beyond the pixels under a code.
DAMAGE_MARGIN = 1

Features = Mapping[str, torch.Tensor]


def missing_visual_features(damage: np.ndarray, model: MDVAEModel, margin: int = DAMAGE_MARGIN) -> torch.Tensor:
    """
    Which visual features damaged pixels spoil.

    Args:
        damage: (B, T, H, W) bool, True = damaged; H and W multiples of G.
        margin: codes around the damaged ones that count as damaged too.

    Returns:
        (B, T, D) bool.
    """
    side, code_dim = model.config.visual_codes_per_side, model.config.visual_code_dim
    B, T, H, W = damage.shape
    if H % side or W % side:
        raise ValueError(f"damage has shape {damage.shape}; accepted are height and width that {side} divides.")
    cells = torch.from_numpy(damage.reshape(B * T, side, H // side, side, W // side).any(axis=(2, 4)))
    grown = max_pool2d(cells.float().unsqueeze(1), 2 * margin + 1, stride=1, padding=margin).bool()
    spoiled = grown.view(B, T, side, side, 1).expand(B, T, side, side, code_dim)
    return visual_latents_to_features(spoiled)


def infer_damaged(
    model: MDVAEModel,
    features: Features,
    damage: np.ndarray | None,
    *,
    with_sound: bool = True,
    num_rounds: int = NUM_ROUNDS,
) -> MDVAELatents:
    """
    Latents (means) of clips whose face is damaged.

    Args:
        features: by modality, (B, T, D), of the damaged clips.
        damage: (B, T, H, W) bool, where it is known; None or False everywhere: the face is encoded as it is ([MD]).
        with_sound: False takes all the sound for missing.
        num_rounds: of inference and generation, where something is missing.
    """
    missing: dict[str, torch.Tensor] = {}
    if damage is not None and damage.any():
        missing["visual"] = missing_visual_features(damage, model).to(features["visual"].device)
    if not with_sound and "audio" in features:
        missing["audio"] = torch.ones_like(features["audio"], dtype=torch.bool)
    if missing:
        return infer_with_missing(model, features, missing, num_rounds)
    with torch.no_grad():
        return model.encode(**{f"{name}_features": values for name, values in features.items()})


@torch.no_grad()
def infer_with_missing(
    model: MDVAEModel, features: Features, missing: Features, num_rounds: int = NUM_ROUNDS
) -> MDVAELatents:
    """
    The latents (means) of clips of whose features some are missing.

    Args:
        features: by modality, (B, T, D); what stands at missing places is never looked at.
        missing: by modality, bool of the same shape or one that broadcasts to it, True = missing; modalities left out are
            complete.
        num_rounds: of inference and generation.

    Raises:
        ValueError: modalities that the model does not have, or no rounds.
    """
    if num_rounds < 1 or set(features) != set(model.config.modalities) or not set(missing) <= set(features):
        raise ValueError(
            f"found num_rounds={num_rounds}, features of {sorted(features)}, missing of {sorted(missing)}; accepted are at "
            f"least 1 round and the modalities {sorted(model.config.modalities)}, of which some may have missing features."
        )
    absent = {name: mask.expand_as(features[name]) for name, mask in missing.items()}
    filled = dict(features) | {name: _first_guess(model, name, features[name], absent[name]) for name in absent}
    for _ in range(num_rounds):
        latents = model.encode(**{f"{name}_features": values for name, values in filled.items()})
        decoded = model.decode_features(latents)
        for name, mask in absent.items():
            filled[name] = torch.where(mask, decoded[name].to(filled[name].dtype), features[name])
    return model.encode(**{f"{name}_features": values for name, values in filled.items()})


def _first_guess(model: MDVAEModel, modality: str, features: torch.Tensor, missing: torch.Tensor) -> torch.Tensor:
    """The mean over the frames where a feature is known; what latents of zero decode to where it never is."""
    B, T, _ = features.shape
    zeros = MDVAELatents(**{name: features.new_zeros(shape) for name, shape in model.noise_shapes(B, T).items()})
    known = (~missing).to(features.dtype)
    count = known.sum(dim=1, keepdim=True)
    mean = torch.where(missing, 0, features).sum(dim=1, keepdim=True) / count.clamp(min=1)
    guess = torch.where(count > 0, mean, model.decode_features(zeros)[modality].to(features.dtype))
    return torch.where(missing, guess, features)
