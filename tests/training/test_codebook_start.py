import pytest
import torch

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel, VisualVQVAEConfig, VisualVQVAEModel
from vqmae_hf.training.codebook_start import start_codebook

CASES = {
    "audio": (AudioVQVAEModel, AudioVQVAEConfig, {"audio_values": torch.rand(4, 10, 513)}),
    "visual": (VisualVQVAEModel, VisualVQVAEConfig, {"pixel_values_videos": torch.rand(4, 3, 3, 64, 64) - 0.5}),
}


@pytest.mark.parametrize("kind", CASES)
def test_codes_become_latents_and_nothing_else_moves(kind):
    model_class, config_class, batch = CASES[kind]
    tokenizer = model_class(config_class.from_preset("tiny")).eval()
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    start_codebook(tokenizer, batch, seed=1)
    assert not tokenizer.training
    for name, tensor in tokenizer.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name != "quantizer.codebook"), name
    codebook = tokenizer.quantizer.codebook.clone()
    start_codebook(tokenizer, batch, seed=1)
    assert torch.equal(tokenizer.quantizer.codebook, codebook)

    latents = []
    tokenizer.quantizer.register_forward_pre_hook(lambda module, inputs: latents.append(inputs[0]))
    tokenizer.train()(**batch)
    distances = torch.cdist(codebook, latents[0].flatten(0, -2), compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.amin(dim=1).max() < 1e-4


@pytest.mark.parametrize("kind", CASES)
def test_the_first_batch_uses_many_codes_instead_of_one(kind):
    model_class, config_class, batch = CASES[kind]
    tokenizer = model_class(config_class.from_preset("tiny"))
    far = tokenizer.train()(**batch).perplexity
    start_codebook(tokenizer, batch)
    near = tokenizer(**batch).perplexity
    assert near > 4 * far
