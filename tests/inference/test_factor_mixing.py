"""Factors of two clips, each with a weight of its own."""

import pytest
import torch

from vqmae_hf.inference.factor_mixing import mix_factors
from vqmae_hf.modeling.modeling_outputs_mdvae import MDVAELatents

SIZES = {"z_av": 3, "z_a": 2, "z_v": 2}


def latents(value, frames):
    return MDVAELatents(
        w=torch.full((1, 4), value), **{name: torch.full((1, frames, size), value) for name, size in SIZES.items()}
    )


def test_each_factor_goes_its_own_way():
    mixed = mix_factors(latents(1.0, 6), latents(0.0, 8), {"w": 0.25, "z_av": 0.5, "z_a": 0.0, "z_v": 1.0})
    assert {name: mixed[name].unique().tolist() for name in ("w", *SIZES)} == {
        "w": [0.25],
        "z_av": [0.5],
        "z_a": [0.0],
        "z_v": [1.0],
    }
    assert mixed["z_a"].shape[1] == 6, "as long as the shorter clip"


def test_with_w_alone_the_length_stays_and_without_weights_everything():
    target = latents(0.0, 8)
    assert mix_factors(latents(1.0, 6), target, {"w": 1.0, "z_v": 0.0})["z_v"].shape[1] == 8
    assert mix_factors(latents(1.0, 6), target, {}) is target


@pytest.mark.parametrize(("weights", "message"), [({"w": 1.5}, "weights="), ({"z_x": 0.5}, r"found \['z_x'\]")])
def test_wrong_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        mix_factors(latents(1.0, 6), latents(0.0, 6), weights)
