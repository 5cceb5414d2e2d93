"""MDVAE against the authors' implementation, with the recorded noise, to 1e-5."""

import pytest
import torch

from vqmae_hf.conversion import ConversionError, convert_mdvae
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.losses import itakura_saito
from vqmae_hf.modeling.mdvae_losses import mean_over_real_items
from vqmae_hf.modeling.mdvae_networks import Gaussian

from .conftest import assert_matches

pytestmark = pytest.mark.shared

# Ours, theirs.
LATENTS = {"w": "w", "z_av": "zav", "z_a": "zaudio", "z_v": "zvisual"}
DYNAMIC = {ours: theirs for ours, theirs in LATENTS.items() if ours != "w"}
KL_TERMS = {"w": "kl_Zss", "z_av": "kl_Zds", "z_a": "kl_Zaudio", "z_v": "kl_Zvisual"}


@pytest.fixture(scope="module")
def recording(parity):
    return parity("mdvae_B2_T6_zero")


@pytest.fixture(scope="module")
def model(recording):
    return convert_mdvae(recording["state_dict"])


@pytest.fixture(scope="module")
def inputs(recording):
    noise = {ours: recording["eps"][theirs] for ours, theirs in LATENTS.items()}
    return {
        "audio_features": recording["x_audio"],
        "visual_features": recording["x_visual"],
        "noise": noise,
    }


@pytest.fixture(scope="module")
def output(model, inputs):
    with torch.no_grad():
        return model(**inputs)


def test_the_sizes_read_off_the_tensors_are_the_papers(model):
    expected, found = MDVAEConfig.from_preset("mdvae").to_dict(), model.config.to_dict()
    found.pop("architectures"), expected.pop("architectures")
    assert {key: value for key, value in found.items() if expected[key] != value} == {}


@pytest.mark.parametrize(("ours", "theirs"), LATENTS.items())
def test_posteriors(output, recording, ours, theirs):
    expected = recording["latents"][theirs]
    assert_matches(output.encoding[ours], expected["sample"], f"{ours} sample")
    for part in ("mean", "logvar"):
        assert_matches(output.encoding[f"{ours}_{part}"], expected[part], f"{ours} {part}")


@pytest.mark.parametrize(("ours", "theirs"), DYNAMIC.items())
def test_priors(output, recording, ours, theirs):
    expected = recording["latents"][f"{theirs}_prior"]
    for part in ("mean", "logvar"):
        assert_matches(output.encoding[f"{ours}_prior_{part}"], expected[part], f"{ours} prior {part}")
    prior = Gaussian(output.encoding[f"{ours}_prior_mean"], output.encoding[f"{ours}_prior_logvar"])
    assert_matches(prior.sample(recording["eps"][f"{theirs}_prior"]), expected["sample"], f"{ours} prior sample")


def test_reconstructions(output, recording):
    assert_matches(output.audio_features, recording["recon_audio"], "audio")
    assert_matches(output.visual_features, recording["recon_visual"], "visual")


def test_every_loss_term(output, recording):
    expected = recording["loss_terms"]
    for ours, theirs in KL_TERMS.items():
        assert_matches(output[f"{ours}_kl"], expected[theirs], f"KL of {ours}")
    assert_matches(sum(output[f"{ours}_kl"] for ours in KL_TERMS), expected["kl"], "all KL terms")
    assert_matches(output.visual_loss, expected["loss_visual"], "visual loss")
    assert_matches(output.audio_loss, recording["loss_audio_mse"], "audio loss")
    assert_matches(output.loss, recording["loss_total_with_audio_mse"], "total loss")


def test_itakura_saito_of_positive_features(output, recording):
    """Theirs of the raw features is NaN, which are not positive; the recording has it of magnitudes plus 1e-3."""
    assert recording["loss_total_is_nan"]
    errors = itakura_saito(recording["x_audio"].abs() + 1e-3, output.audio_features.abs() + 1e-3)
    loss = mean_over_real_items(errors.sum(dim=2, keepdim=True), None).squeeze()
    assert_matches(loss, recording["loss_audio_is_on_abs_plus_1e_3"], "Itakura-Saito")


def test_swapped_static_latents(model, output, recording):
    clips = recording["swap_w"]["perm"]
    source = type(output.encoding)(**{name: value[clips] for name, value in output.encoding.items()})
    with torch.no_grad():
        decoded = model.decode(model.swap(source, output.encoding, factors=("w",)))
    assert_matches(decoded.audio_features, recording["swap_w"]["recon_audio"], "audio")
    assert_matches(decoded.visual_features, recording["swap_w"]["recon_visual"], "visual")


def test_another_checkpoint_is_refused(recording):
    with pytest.raises(ConversionError, match="unknown"):
        convert_mdvae({**recording["state_dict"], "encoder.weight": torch.zeros(1)})
    without = {k: v for k, v in recording["state_dict"].items() if not k.startswith("inf_zss_mean")}
    with pytest.raises(ConversionError, match=r"static_latent\.posterior\.mean"):
        convert_mdvae(without)
