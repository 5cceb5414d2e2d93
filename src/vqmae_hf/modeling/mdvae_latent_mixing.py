"""
Latents of two clips combined: factors exchanged or interpolated ([MD], analysis of the latent space).

Letters: B clips, T frames, N weights.
"""

from collections.abc import Sequence

import torch

from .modeling_outputs_mdvae import MDVAELatents

FACTORS = ("w", "z_av", "z_a", "z_v")


def mix_latents(
    source: MDVAELatents, target: MDVAELatents, weight: float | torch.Tensor, factors: Sequence[str]
) -> MDVAELatents:
    """
    `target` with its `factors` moved towards those of `source`: `(1 - weight) target + weight source` ([MD], swapping and
    interpolation of factors).

    Args:
        source, target: of as many clips as each other, or one of them of a single clip.
        weight: between 0 and 1; or (N,), one per clip, which repeats a single clip N times.
        factors: any of `"w"`, `"z_av"`, `"z_a"`, `"z_v"` that the latents have.

    Returns:
        [`MDVAELatents`]. Dynamic factors can only be taken as far as both clips go: the result has the frames of the
        shorter one; with w alone it has those of `target`.

    Raises:
        ValueError: factors that are unknown, missing or none, numbers of clips that do not fit.
    """
    check_factors(source, target, factors)
    dynamic = [name for name in FACTORS[1:] if target.get(name) is not None]
    num_frames = [latents[dynamic[0]].shape[1] for latents in (source, target)]
    T = min(num_frames) if set(factors) & set(dynamic) else num_frames[1]
    weights = torch.as_tensor(weight, dtype=target["w"].dtype, device=target["w"].device).reshape(-1)
    B = common_batch(source["w"].shape[0], target["w"].shape[0], weights.shape[0])

    mixed = MDVAELatents()
    for name in ("w", *dynamic):
        values = target[name] if name == "w" else target[name][:, :T]
        if name in factors:
            other = source[name] if name == "w" else source[name][:, :T]
            values = torch.lerp(values, other, weights.view(-1, *[1] * (values.dim() - 1)))
        mixed[name] = values.expand(B, *values.shape[1:])
    involved = [target, source] if set(factors) & set(dynamic) else [target]
    masks = [mask[:, :T].expand(B, T) for latents in involved if (mask := latents.get("frame_mask")) is not None]
    if masks:
        mixed["frame_mask"] = torch.stack(masks).all(dim=0)
    return mixed


def check_factors(source: MDVAELatents, target: MDVAELatents, factors: Sequence[str]) -> None:
    """Refuses factors that are none, unknown, or not in both."""
    known = [name for name in FACTORS if source.get(name) is not None and target.get(name) is not None]
    if isinstance(factors, str) or not factors or not set(factors) <= set(known):
        raise ValueError(f"factors={factors!r}: accepted is a tuple of one or more of {known}.")


def common_batch(*sizes: int) -> int:
    """The number of clips that all `sizes` are, or are repeated to from one."""
    several = sorted({size for size in sizes if size != 1})
    if len(several) > 1:
        raise ValueError(f"source, target and weight are of {sizes} clips; accepted are equal numbers, or one.")
    return several[0] if several else 1
