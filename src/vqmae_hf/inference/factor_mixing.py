"""Latents of two clips mixed factor by factor ([MD], swapping and interpolation of factors)."""

from collections.abc import Mapping

from vqmae_hf.modeling.mdvae_latent_mixing import FACTORS, mix_latents
from vqmae_hf.modeling.modeling_outputs_mdvae import MDVAELatents


def mix_factors(source: MDVAELatents, target: MDVAELatents, weights: Mapping[str, float]) -> MDVAELatents:
    """
    `target` with each factor its own part of the way to that of `source`.

    Args:
        source, target: of as many clips as each other.
        weights: by factor, of "w", "z_av", "z_a", "z_v": 0 is the factor of `target`, 1 that of `source`. Factors without
            a weight stay.

    Returns:
        [`MDVAELatents`] as long as the shorter clip where a dynamic factor is mixed, otherwise as long as `target`.

    Raises:
        ValueError: a weight outside [0, 1]; factors that the latents do not have.
    """
    wrong = {name: weight for name, weight in weights.items() if not 0 <= weight <= 1}
    if wrong:
        raise ValueError(f"weights={wrong}: accepted are numbers from 0 (target) to 1 (source).")
    unknown = sorted(set(weights) - {name for name in FACTORS if target.get(name) is not None})
    if unknown:
        raise ValueError(f"weights: found {unknown}; accepted are factors that the latents have, of {list(FACTORS)}.")
    mixed = target
    for name, weight in weights.items():
        if weight:
            mixed = mix_latents(source, mixed, weight, (name,))
    return mixed
