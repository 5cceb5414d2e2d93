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


@pytest.mark.parametrize("method", ["sample", "kmeans"])
@pytest.mark.parametrize("kind", CASES)
def test_the_first_batch_uses_many_codes_instead_of_one(kind, method):
    model_class, config_class, batch = CASES[kind]
    tokenizer = model_class(config_class.from_preset("tiny"))
    far = tokenizer.train()(**batch).perplexity
    start_codebook(tokenizer, batch, method=method)
    near = tokenizer(**batch).perplexity
    assert near > 4 * far


@pytest.mark.parametrize("kind", CASES)
def test_centres_lie_nearer_to_the_latents_than_drawn_latents_do(kind):
    model_class, config_class, batch = CASES[kind]
    losses = {}
    for method in ("sample", "kmeans"):
        torch.manual_seed(0)
        tokenizer = model_class(config_class.from_preset("tiny")).eval()
        before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
        start_codebook(tokenizer, batch, seed=1, method=method)
        moved = [name for name, tensor in tokenizer.state_dict().items() if not torch.equal(tensor, before[name])]
        assert moved == ["quantizer.codebook"]
        codebook = tokenizer.quantizer.codebook.clone()
        start_codebook(tokenizer, batch, seed=1, method=method)
        assert torch.equal(tokenizer.quantizer.codebook, codebook)
        losses[method] = tokenizer.train()(**batch).commitment_loss.item()
    assert losses["kmeans"] < 0.9 * losses["sample"]


def test_too_few_latents_and_unknown_methods_are_refused():
    tokenizer = AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny", codebook_size=300))
    with pytest.raises(ValueError, match=r"found 256 for 300 codes; give more clips"):
        start_codebook(tokenizer, {"audio_values": torch.rand(1, 4, 513)}, method="kmeans")
    with pytest.raises(ValueError, match="'sample' and 'kmeans' are accepted"):
        start_codebook(tokenizer, {"audio_values": torch.rand(1, 4, 513)}, method="means")
