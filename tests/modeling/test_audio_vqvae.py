"""The audio tokenizer: its loss, its statistics, padding, saving and loading."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import assert_same, audio_tokenizer, audio_tokenizer_config, buffers, build, random_spectra
from torch.nn import functional as F
from transformers import AutoModel

from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel

BOTH_STATISTICS = pytest.mark.parametrize("statistics", ["running", "clip"])


def trained(**overrides) -> AudioVQVAEModel:
    """A tokenizer whose running statistics and codebook have moved away from their start."""
    model = audio_tokenizer(**overrides).train()
    for step in range(3):
        model(random_spectra(seed=step))
    return model.eval()


@pytest.fixture
def spectra() -> torch.Tensor:
    return random_spectra()


@pytest.fixture
def mask() -> torch.Tensor:
    """The first clip is full, the second has five spectra."""
    return torch.tensor([[1] * 8, [1] * 5 + [0] * 3])


# ---- shapes and values ----


def test_513_bins_become_64_codes_and_513_bins_again():
    model = build(AudioVQVAEModel, AudioVQVAEConfig.from_preset("vqmae"))
    spectra = random_spectra(clips=1, spectra=2, bins=513)
    codes = model.encode(spectra)
    assert codes.shape == (1, 2, 64)
    assert codes.dtype == torch.int64
    assert model.decode(codes).shape == (1, 2, 513)


@BOTH_STATISTICS
def test_one_clip_with_or_without_a_batch_axis_is_the_same(statistics, spectra):
    model = trained(batch_norm_statistics=statistics)
    codes = model.encode(spectra[:1])
    assert torch.equal(model.encode(spectra[0]), codes[0])
    assert torch.equal(model.decode(codes[0]), model.decode(codes)[0])
    assert torch.equal(model.encode_latents(spectra[0]), model.encode_latents(spectra[:1])[0])
    assert torch.equal(model(spectra[0]).reconstruction, model(spectra[:1]).reconstruction[0])


def test_reconstructions_are_positive_and_encoding_is_deterministic(spectra):
    model = trained()
    codes = model.encode(spectra)
    assert torch.equal(codes, model.encode(spectra))
    assert codes.unique().numel() > 3
    assert (model.decode(codes) > 0).all()


@BOTH_STATISTICS
def test_forward_is_encode_then_decode(statistics, spectra, mask):
    model = trained(batch_norm_statistics=statistics)
    output = model(spectra, mask)
    real = mask.bool()
    codes = model.encode(spectra, mask)
    assert torch.equal(output.codes[real], codes[real])
    torch.testing.assert_close(output.reconstruction[real], model.decode(codes, mask)[real])
    latents = model.quantize(model.encode_latents(spectra, mask))
    torch.testing.assert_close(output.reconstruction[real], model.decode_latents(latents, mask)[real])
    assert not output.reconstruction[~real].any()
    assert not output.codes[~real].any()


@BOTH_STATISTICS
def test_spectra_are_tokenized_independently_of_their_neighbours_with_running_statistics_only(statistics, spectra):
    model = trained(batch_norm_statistics=statistics)
    codes = model.encode(spectra)
    shuffled = model.encode(spectra[:, torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])])
    assert torch.equal(shuffled[:, 2], codes[:, 0])
    alone = model.encode(spectra[:, :1])
    assert torch.equal(alone, codes[:, :1]) == (statistics == "running")


# ---- loss ----


def test_the_loss_is_itakura_saito_plus_commitment(spectra):
    model = trained()
    output = model(spectra)
    x, y = spectra.double() + 1e-10, output.reconstruction.detach().double() + 1e-10
    divergence = (x / y - torch.log(x / y) - 1).mean()
    torch.testing.assert_close(output.reconstruction_loss.double(), divergence, rtol=1e-5, atol=0)
    latents = model.encode_latents(spectra)
    commitment = 0.25 * F.mse_loss(model.quantizer.codebook[output.codes], latents)
    torch.testing.assert_close(output.commitment_loss, commitment)
    assert output.loss == output.reconstruction_loss + output.commitment_loss


def test_digital_silence_has_a_finite_loss_and_finite_gradients():
    model = audio_tokenizer().train()
    model(torch.zeros(2, 4, 65)).loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)


def test_the_reconstruction_loss_reaches_the_encoder_through_the_quantizer(spectra):
    model = audio_tokenizer().train()
    model(spectra).reconstruction_loss.backward()
    for name, parameter in model.named_parameters():
        if name == "quantizer.codebook":
            assert parameter.grad is None
        elif not name.startswith(("encoder.convs", "decoder.transposed_convs")):  # their biases are absorbed by BN
            assert parameter.grad.abs().max() > 0, name


def test_a_few_steps_of_training_lower_the_loss(spectra):
    torch.manual_seed(0)
    model = AudioVQVAEModel(audio_tokenizer_config()).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        losses.append(model(spectra).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


# ---- padding ----


@pytest.mark.parametrize("batch_norm", [True, False])
def test_padding_takes_no_part_in_training(batch_norm, spectra, mask):
    garbage = spectra.clone()
    garbage[~mask.bool()] = 1e6
    outputs, states = [], []
    for values, attention_mask in ((garbage, mask), (spectra[mask.bool()], None)):
        model = audio_tokenizer(batch_norm=batch_norm).train()
        outputs.append(model(values, attention_mask))
        outputs[-1].loss.backward()
        states.append(model)
    for name in ("loss", "reconstruction_loss", "commitment_loss", "perplexity", "code_usage"):
        assert outputs[0][name] == outputs[1][name], name
    assert torch.equal(outputs[0].codes[mask.bool()], outputs[1].codes)
    assert_same(buffers(states[0]), buffers(states[1]))
    for (name, padded), plain in zip(states[0].named_parameters(), states[1].parameters(), strict=True):
        assert plain.grad is None or torch.equal(padded.grad, plain.grad), name


@BOTH_STATISTICS
def test_padding_takes_no_part_in_evaluation(statistics, spectra, mask):
    model = trained(batch_norm_statistics=statistics)
    garbage = spectra.clone()
    garbage[~mask.bool()] = 1e6
    assert model(garbage, mask).loss == model(spectra, mask).loss
    real = mask.bool()
    assert torch.equal(model.encode(garbage, mask)[real], model.encode(spectra, mask)[real])


# ---- statistics ----


def test_statistics_of_the_clip_are_those_of_each_clip_alone(spectra, mask):
    model = trained(batch_norm_statistics="clip")
    codes = model.encode(spectra, mask)
    decoded = model.decode(codes, mask)
    for clip, length in enumerate([8, 5]):
        alone = model.encode(spectra[clip, :length])
        assert torch.equal(codes[clip, :length], alone)
        torch.testing.assert_close(decoded[clip, :length], model.decode(alone))
    together = model(spectra, mask).reconstruction
    torch.testing.assert_close(together[1, :5], model(spectra[1, :5]).reconstruction)


def test_statistics_of_a_clip_are_those_that_training_uses_for_it_alone(spectra):
    by_clip, training = audio_tokenizer(batch_norm_statistics="clip"), audio_tokenizer().train()
    training.load_state_dict(by_clip.state_dict())
    output = training(spectra[0])
    torch.testing.assert_close(by_clip(spectra[0]).reconstruction_loss, output.reconstruction_loss)
    assert torch.equal(by_clip.encode(spectra[0]), output.codes)


def test_statistics_of_the_clip_forget_how_loud_it_is_up_to_the_first_bias():
    """Batch normalisation right after a linear map: scaling a whole clip leaves its codes, with running statistics not."""
    spectra = random_spectra(clips=1).expand(2, -1, -1) * torch.tensor([1.0, 100.0]).view(2, 1, 1)
    clip, running = trained(batch_norm_statistics="clip"), trained(batch_norm_statistics="running")
    quiet, loud = clip.encode(spectra)
    assert (quiet == loud).float().mean() > 0.99
    quiet, loud = running.encode(spectra)
    assert (quiet == loud).float().mean() < 0.99


def test_running_statistics_are_used_in_evaluation_and_moved_by_training_only(spectra):
    model = audio_tokenizer().train()
    before = buffers(model)
    model(spectra)
    after = buffers(model)
    assert not torch.equal(before["encoder.norms.0.running_mean"], after["encoder.norms.0.running_mean"])
    model.eval()  # the same affine map for every batch
    assert torch.equal(model(spectra[:1]).codes[0], model(spectra).codes[0])
    assert_same(buffers(model), after)


@BOTH_STATISTICS
@pytest.mark.parametrize("training", [True, False])
def test_encoding_and_decoding_change_no_buffer_in_any_mode(statistics, training, spectra, mask):
    model = trained(batch_norm_statistics=statistics).train(training)
    before = buffers(model)
    codes = model.encode(spectra, mask)
    model.decode(codes, mask)
    model.decode_latents(model.quantize(model.encode_latents(spectra, mask)), mask)
    assert_same(buffers(model), before)
    assert torch.equal(codes, model.eval().encode(spectra, mask))


# ---- saving and loading ----


@pytest.mark.parametrize("auto", [AutoModel, AudioVQVAEModel])
@pytest.mark.parametrize("ema_decay", [0.99, 0])
def test_saved_and_loaded_is_the_same_to_the_bit(auto, ema_decay, tmp_path, spectra):
    model = trained(ema_decay=ema_decay)
    model.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is AudioVQVAEModel
    assert not loaded.training
    assert_same(dict(loaded.state_dict()), dict(model.state_dict()))
    assert loaded.quantizer.codebook.requires_grad == model.quantizer.codebook.requires_grad == (ema_decay == 0)
    first, second = model(spectra), loaded(spectra)
    for name in first:
        assert torch.equal(first[name], second[name]), name
    # ... and so is training that goes on.
    model.train()(spectra)
    loaded.train()(spectra)
    assert_same(dict(loaded.state_dict()), dict(model.state_dict()))


def test_what_a_checkpoint_lacks_is_initialised_as_in_a_new_model(tmp_path):
    """Models are loaded on the meta device: without a rule, a missing tensor would be whatever the memory holds."""
    model = trained()
    model.save_pretrained(tmp_path)
    save_file({"decoder.conv.bias": load_file(tmp_path / "model.safetensors")["decoder.conv.bias"]}, tmp_path / "few")
    (tmp_path / "few").replace(tmp_path / "model.safetensors")
    state = AudioVQVAEModel.from_pretrained(tmp_path).state_dict()
    fresh = AudioVQVAEModel(model.config).state_dict()
    assert state.keys() == fresh.keys()
    for name in (name for name, _ in model.named_buffers()):
        assert torch.equal(state[name], fresh[name]), f"{name} does not start where a new model's does"
    assert not state["quantizer.average_started"]
    assert 0.8 < state["quantizer.codebook"].std() < 1.2
    for name, value in state.items():
        if "conv" in name or "projection" in name or name.startswith("decoder.output"):
            assert 0 < value.abs().max() < 1, name
    assert torch.equal(state["decoder.conv.bias"], model.state_dict()["decoder.conv.bias"])


def test_the_same_seed_gives_the_same_new_model():
    assert_same(dict(audio_tokenizer().state_dict()), dict(audio_tokenizer().state_dict()))


# ---- precision ----


def test_half_precision_keeps_the_quantizer_in_float32(tmp_path, spectra):
    trained().save_pretrained(tmp_path)
    model = AudioVQVAEModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.encoder.projection.weight.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in model.quantizer.state_dict().values() if tensor.dim()} == {torch.float32}
    for mode in (False, True):
        output = model.train(mode)(spectra)
        assert all(output[name].isfinite().all() for name in ("loss", "reconstruction"))
    assert model.decode(model.encode(spectra)).isfinite().all()


@BOTH_STATISTICS
def test_autocast_trains_and_stays_close(statistics, spectra):
    model, reference = trained(batch_norm_statistics=statistics), trained(batch_norm_statistics=statistics)
    expected = reference.train()(spectra).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model.train()(spectra)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected, rtol=0.2, atol=0)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)


# ---- refusals ----


@pytest.mark.parametrize("shape", [(65,), (2, 8, 64), (1, 2, 8, 65)])
def test_other_shapes_are_refused_with_what_is_accepted(shape):
    model = audio_tokenizer()
    for call in (model, model.encode, model.encode_latents):
        with pytest.raises(ValueError, match=r"audio_values has shape .*\(clips, spectra, 65\).*FeatureExtractor"):
            call(torch.ones(shape))


def test_a_mask_of_another_shape_is_refused(spectra):
    model = audio_tokenizer()
    for call in (model, model.encode):
        with pytest.raises(ValueError, match=r"attention mask has shape \(2, 5\).*\(2, 8\)"):
            call(spectra, torch.ones(2, 5))


def test_a_mask_without_anything_real_is_refused(spectra):
    with pytest.raises(ValueError, match="mask of 2 clips is 0 everywhere"):
        audio_tokenizer()(spectra, torch.zeros(2, 8))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(1, 8, 8), r"audio_codes has dtype torch.float32.*\[0, 16\)"),
        (torch.zeros(1, 8, 8, dtype=torch.bool), "audio_codes has dtype torch.bool"),
        (torch.full((1, 8, 8), 16), "audio_codes holds codes from 16 to 16; 0 to 15"),
        (torch.zeros(1, 8, 7, dtype=torch.long), r"audio_codes has shape \(1, 8, 7\); \(clips, spectra, 8\)"),
    ],
)
def test_codes_that_are_none_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        audio_tokenizer().decode(codes)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32])
def test_small_integer_types_of_a_token_store_are_decoded_too(dtype, spectra):
    model = audio_tokenizer()
    codes = model.encode(spectra)
    assert torch.equal(model.decode(codes.to(dtype)), model.decode(codes))
