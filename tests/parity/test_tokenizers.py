"""Both tokenizers against the authors' implementations: codes exactly, everything else to 1e-5."""

import re

import pytest
import torch
from torch.nn import functional as F

from vqmae_hf.conversion import convert_audio_vqvae, convert_visual_vqvae
from vqmae_hf.conversion.renaming import map_keys
from vqmae_hf.conversion.tokenizer_names import AUDIO_VQVAE_KEYS, visual_vqvae_keys
from vqmae_hf.modeling.losses import itakura_saito_divergence

from .conftest import assert_matches

pytestmark = pytest.mark.shared

AUDIO = ["speech_vqvae_random_tiny", "speech_vqvae_mdvae_random_tiny", "speech_vqvae_real_MDVAE"]
CANCELLED = re.compile(r"(encoder\.convs|decoder\.transposed_convs)\.\d\.bias|.*running_mean")
VISUAL = ["visual_vqvae_random_tiny", "visual_vqvae_mdvae_random_tiny"]


def same_codes(actual, recording):
    """An index may differ only where the two nearest codes are equally far to rounding."""
    different = actual.reshape(-1) != recording["indices"].reshape(-1)
    assert not (different & (recording["margin"].reshape(-1) > 1e-4)).any()
    assert different.float().mean() < 1e-3


@pytest.mark.parametrize("name", AUDIO)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_audio_tokenizer(parity, name, mode):
    recording = parity(name)
    # The authors' evaluation mode uses running statistics, their training mode those of the batch, here one clip.
    model = convert_audio_vqvae(
        recording["state_dict"], batch_norm_statistics={"eval": "running", "train": "clip"}[mode]
    )
    x, expected = recording["x"].squeeze(1), recording[mode]
    assert_matches(model.encode_latents(x).transpose(1, 2), expected["z_e"], "latents")
    same_codes(model.encode(x), expected)
    # Divergences of nearly silent bins amplify rounding in the exponent of the output, hence the logarithm.
    assert_matches(model.decode(expected["indices"]).log(), expected["decode"].log(), "decoded spectra")

    output = model(x) if mode == "eval" else model.train()(x)
    assert_matches(output.commitment_loss, expected["fwd_vq_loss"], "quantizer loss")
    assert_matches(output.reconstruction.log(), expected["fwd_recon"].squeeze(1).log(), "reconstruction")
    assert_matches(output.perplexity, expected["fwd_perplexity"], "perplexity")
    if mode == "eval":
        assert_matches(output.reconstruction_loss, expected["is_divergence"], "Itakura-Saito divergence")
    else:
        after = map_keys(expected["state_after_forward"], AUDIO_VQVAE_KEYS)
        for key, value in model.state_dict().items():
            if key in after:
                assert_matches(value.float(), after[key].float(), key)


@pytest.mark.parametrize("name", VISUAL)
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_visual_tokenizer(parity, name, mode):
    recording = parity(name)
    if mode not in recording:
        pytest.skip(f"{name} was recorded without {mode} mode")
    model = convert_visual_vqvae(recording["state_dict"])
    x, expected = recording["x"], recording[mode]
    assert_matches(model.encode_latents(x).permute(0, 3, 1, 2), expected["z_e"], "latents")
    same_codes(model.encode(x), expected)
    codes = expected["indices"].view(model.encode(x).shape)
    assert_matches(model.decode(codes), expected["decode"], "decoded frames")

    output = model(x) if mode == "eval" else model.train()(x)
    assert_matches(output.commitment_loss, expected["fwd_vq_loss"], "quantizer loss")
    assert_matches(output.reconstruction, expected["fwd_recon"], "reconstruction")
    assert_matches(output.perplexity, expected["fwd_perplexity"], "perplexity")
    if "state_after_forward" in expected:
        after = map_keys(expected["state_after_forward"], visual_vqvae_keys(model.config.num_downsampling_layers))
        for key, value in model.state_dict().items():
            if key in after:
                assert_matches(value, after[key], key)


@pytest.mark.parametrize("kind", ["speech", "visual"])
def test_training_steps(parity, kind):
    """Gradients of the first step, losses of every step and all weights after them."""
    recording = parity(f"{kind}_vqvae_train5_tiny")
    if kind == "speech":
        model, keys = convert_audio_vqvae(recording["state_dict"]), AUDIO_VQVAE_KEYS
        x = recording["x"].squeeze(1)
    else:
        model = convert_visual_vqvae(recording["state_dict"])
        keys, x = visual_vqvae_keys(2), recording["x"]
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=recording["lr"])
    # A bias before batch normalisation has no gradient but rounding, and Adam makes full steps of it: they cancel in the
    # output and cannot be compared, nor can the running means that contain them.
    cancelled = [key for key in model.state_dict() if kind == "speech" and CANCELLED.fullmatch(key)]
    for step in range(recording["steps"]):
        output = model(x)
        if kind == "speech":
            loss = itakura_saito_divergence(x, output.reconstruction) + output.commitment_loss
        else:
            loss = F.smooth_l1_loss(output.reconstruction, x) + output.commitment_loss
        optimizer.zero_grad()
        loss.backward()
        if step == 0:
            for key, gradient in map_keys(recording["grads_step1"], keys).items():
                if key not in cancelled:
                    assert_matches(model.get_parameter(key).grad, gradient, f"gradient of {key}")
        optimizer.step()
        # Rounding grows along the trajectory, with the number of threads for instance.
        relative = 1e-5 if step == 0 else 1e-4
        assert_matches(loss, recording["losses"][step], f"loss of step {step}", relative)
        assert_matches(output.perplexity, recording["perplexities"][step], f"perplexity of step {step}", relative)
    for key, value in map_keys(recording["state_after"], keys).items():
        if key not in cancelled:
            assert_matches(model.state_dict()[key].float(), value.float(), key, 1e-4)
