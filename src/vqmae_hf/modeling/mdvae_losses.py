"""
The loss of MDVAE ([MD], training objective): reconstruction of both modalities and four Kullback-Leibler divergences.

Letters: B clips, T frames, D features of a frame, Z numbers of a latent.
"""

import math

import torch
from torch.nn import functional as F

from .losses import itakura_saito
from .mdvae_networks import Gaussian


def gaussian_kl(posterior: Gaussian, prior: Gaussian) -> torch.Tensor:
    """
    Kullback-Leibler divergence of diagonal Gaussians, number by number ([MD], training objective), in nats and float32:
    `(logvar_p - logvar_q + exp(logvar_q - logvar_p) + (mean_q - mean_p)^2 exp(-logvar_p) - 1) / 2`. Shapes are kept.
    """
    (q_mean, q_logvar), (p_mean, p_logvar) = ((g.mean.float(), g.logvar.float()) for g in (posterior, prior))
    difference = (q_mean - p_mean).square() * torch.exp(-p_logvar)
    return 0.5 * (p_logvar - q_logvar + torch.exp(q_logvar - p_logvar) + difference - 1)


def standard_normal(like: torch.Tensor) -> Gaussian:
    """The prior of the static latent: zero mean, unit variance, in the shape of `like`."""
    return Gaussian(torch.zeros_like(like), torch.zeros_like(like))


def mean_over_real_items(values: torch.Tensor, real: torch.Tensor | None) -> torch.Tensor:
    """
    Mean over clips and frames that are no padding: `values` (..., Z), `real` (...) bool or None -> (Z,).

    What stands at padding takes no part, not even if it is infinite; 0 where nothing is real.
    """
    if real is None:
        return values.flatten(0, -2).mean(dim=0)
    values = torch.where(real.unsqueeze(-1), values, 0)
    return values.flatten(0, -2).sum(dim=0) / real.sum().clamp(min=1)


def with_free_bits(divergences: torch.Tensor, free_bits: float, overall: torch.Tensor | None = None) -> torch.Tensor:
    """
    Sum of the mean divergences (Z,) of a latent's numbers, in nats, of which the first `free_bits` bits of each cost
    nothing and give no gradient: a number that carries less is not pushed to carry nothing -> ().

    Where several processes have each a part of the batch, `overall` (Z,), the means over all of it, say which do.
    """
    if free_bits <= 0:
        return divergences.sum()
    free = free_bits * math.log(2)
    return torch.where((divergences if overall is None else overall) >= free, divergences, free).sum()


def reconstruction_loss(
    target: torch.Tensor,
    reconstruction: torch.Tensor,
    kind: str,
    frame_mask: torch.Tensor | None,
    movement_weight: float = 1.0,
) -> torch.Tensor:
    """
    Sum over the features of `"squared_error"` or `"itakura_saito"`, mean over the real frames ([MD], training objective).

    Args:
        target, reconstruction: (B, T, D); for Itakura-Saito, which compares ratios, nothing may be negative.
        frame_mask: (B, T), True = real; None where all are.
        movement_weight: of squared errors, how often what changes from frame to frame counts, where an error that all
            frames of a clip share counts once (ours).

    Raises:
        ValueError: negative targets of Itakura-Saito (looked for on the CPU only: elsewhere it would wait for the device).
    """
    target, reconstruction = target.float(), reconstruction.float()
    if kind == "itakura_saito":
        check_positive(target)
        errors = itakura_saito(target, reconstruction)
    else:
        errors = F.mse_loss(reconstruction, target, reduction="none")  # its gradient is one pass
    loss = mean_over_real_items(errors.sum(dim=2, keepdim=True), frame_mask).squeeze()
    if movement_weight == 1:
        return loss
    return movement_weight * loss + (1 - movement_weight) * standing_error(target, reconstruction, frame_mask)


def standing_error(
    target: torch.Tensor, reconstruction: torch.Tensor, frame_mask: torch.Tensor | None
) -> torch.Tensor:
    """The part of the squared error (sum over features, mean over real frames) that is the same in all frames of a clip:
    (B, T, D), (B, T, D), (B, T) True = real -> ()."""
    difference = reconstruction - target
    if frame_mask is None:
        return difference.mean(dim=1).square().sum(dim=1).mean()
    counts = frame_mask.sum(dim=1)
    total = torch.where(frame_mask.unsqueeze(2), difference, 0).sum(dim=1)
    return (total.square().sum(dim=1) / counts.clamp(min=1)).sum() / counts.sum().clamp(min=1)


def check_positive(target: torch.Tensor) -> None:
    """Refuses features that Itakura-Saito is not defined for."""
    if target.device.type == "cpu" and not torch.compiler.is_compiling() and (lowest := target.detach().min()) < 0:
        raise ValueError(
            f"features reach down to {float(lowest):.3g}, and the Itakura-Saito divergence is defined for features that are "
            "never negative, such as power spectra; set audio_reconstruction_loss and visual_reconstruction_loss to "
            "'squared_error' for the latents of tokenizers."
        )
