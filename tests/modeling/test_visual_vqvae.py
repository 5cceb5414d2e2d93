"""The visual tokenizer: its loss, padding, saving and loading."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import assert_same, buffers, build, random_frames, visual_tokenizer, visual_tokenizer_config
from torch.nn import functional as F
from transformers import AutoModel

from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.modeling_visual_vqvae import VisualResidualLayer, VisualVQVAEModel


@pytest.fixture
def frames() -> torch.Tensor:
    return random_frames()


@pytest.fixture
def mask() -> torch.Tensor:
    """The first clip is full, the second has three frames."""
    return torch.tensor([[1] * 4, [1] * 3 + [0]])


def trained(**overrides) -> VisualVQVAEModel:
    """A tokenizer whose codebook has moved away from its start."""
    model = visual_tokenizer(**overrides).train()
    for step in range(3):
        model(random_frames(seed=step))
    return model.eval()


# ---- shapes and values ----


@pytest.mark.parametrize(("preset", "side", "codes_per_side"), [("vqmae", 96, 24), ("mdvae", 64, 8), ("tiny", 64, 8)])
def test_pictures_become_codes_and_pictures_again(preset, side, codes_per_side):
    model = build(VisualVQVAEModel, VisualVQVAEConfig.from_preset(preset))
    codes = model.encode(random_frames(clips=1, frames=2, side=side))
    assert codes.shape == (1, 2, codes_per_side, codes_per_side)
    assert codes.dtype == torch.int64
    assert model.decode(codes).shape == (1, 2, 3, side, side)


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_every_number_of_downsamplings_comes_back_to_the_size_it_started_from(layers, frames):
    model = visual_tokenizer(num_downsampling_layers=layers)
    codes = model.encode(frames)
    assert codes.shape == (2, 4, 16 // 2**layers, 16 // 2**layers)
    assert model.decode(codes).shape == frames.shape


def test_one_clip_with_or_without_a_batch_axis_is_the_same(frames):
    model = trained()
    codes = model.encode(frames[:1])
    assert torch.equal(model.encode(frames[0]), codes[0])
    assert torch.equal(model.decode(codes[0]), model.decode(codes)[0])
    assert torch.equal(model(frames[0]).reconstruction, model(frames[:1]).reconstruction[0])


def test_forward_is_encode_then_decode(frames, mask):
    model = trained()
    output = model(frames, mask)
    real = mask.bool()
    codes = model.encode(frames, mask)
    assert codes.unique().numel() > 3
    assert torch.equal(output.codes[real], codes[real])
    torch.testing.assert_close(output.reconstruction[real], model.decode(codes)[real])
    latents = model.quantize(model.encode_latents(frames))
    torch.testing.assert_close(output.reconstruction[real], model.decode_latents(latents)[real])
    assert not output.reconstruction[~real].any()
    assert not output.codes[~real].any()


def test_frames_are_tokenized_independently_and_deterministically(frames):
    model = trained()
    codes = model.encode(frames)
    assert torch.equal(model.encode(frames), codes)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(model.encode(frames[:, order]), codes[:, order])
    assert torch.equal(model.encode(frames[1:, 2:3]), codes[1:, 2:3])


def test_rows_and_columns_of_codes_lie_where_their_pixels_do():
    model = trained()
    frames = torch.zeros(1, 1, 3, 32, 32)
    changed = frames.clone()
    changed[..., :4, 28:] = 0.5  # the first rows, the last columns
    moved = (model.encode_latents(changed) - model.encode_latents(frames)).abs().sum(dim=-1)[0, 0] > 0  # (8, 8)
    assert moved[0, 7]
    assert not moved[4:].any()
    assert not moved[:, :4].any()


def test_the_skip_of_a_residual_layer_carries_the_rectified_input():
    layer = VisualResidualLayer(visual_tokenizer_config())
    hidden = torch.randn(1, 8, 4, 4)
    update = layer.projection(F.relu(layer.conv(F.relu(hidden))))
    torch.testing.assert_close(layer(hidden), F.relu(hidden) + update)


def test_the_output_has_no_non_linearity():
    model = visual_tokenizer()
    with torch.no_grad():
        model.decoder.upsampling[-1].bias.fill_(-7.0)
    assert model.decode(torch.zeros(1, 1, 4, 4, dtype=torch.long)).max() < -5


# ---- loss ----


def test_the_loss_is_squared_error_plus_commitment(frames):
    model = trained()
    output = model(frames)
    torch.testing.assert_close(output.reconstruction_loss, (frames - output.reconstruction).square().mean())
    latents = model.encode_latents(frames)
    torch.testing.assert_close(
        output.commitment_loss, 0.25 * F.mse_loss(model.quantizer.codebook[output.codes], latents)
    )
    assert output.loss == output.reconstruction_loss + output.commitment_loss


def test_the_reconstruction_loss_reaches_every_weight_but_the_codebook(frames):
    model = visual_tokenizer().train()
    model(frames).reconstruction_loss.backward()
    for name, parameter in model.named_parameters():
        if name == "quantizer.codebook":
            assert parameter.grad is None
        else:
            assert parameter.grad.abs().max() > 0, name


def test_a_few_steps_of_training_lower_the_loss(frames):
    torch.manual_seed(0)
    model = VisualVQVAEModel(visual_tokenizer_config()).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        losses.append(model(0 * frames + 0.3).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]


# ---- padding and buffers ----


@pytest.mark.parametrize("training", [True, False])
def test_padding_takes_no_part(training, frames, mask):
    garbage = frames.clone()
    garbage[~mask.bool()] = 1e6
    outputs, models = [], []
    for values, attention_mask in ((garbage, mask), (frames[mask.bool()], None)):
        models.append(visual_tokenizer().train(training))
        outputs.append(models[-1](values, attention_mask))
        outputs[-1].loss.backward()
    for name in ("loss", "reconstruction_loss", "commitment_loss", "perplexity", "code_usage"):
        assert outputs[0][name] == outputs[1][name], name
    assert torch.equal(outputs[0].codes[mask.bool()], outputs[1].codes)
    assert_same(buffers(models[0]), buffers(models[1]))
    for (name, padded), plain in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert plain.grad is None or torch.equal(padded.grad, plain.grad), name


@pytest.mark.parametrize("training", [True, False])
def test_encoding_and_decoding_change_no_buffer_in_any_mode(training, frames):
    model = trained().train(training)
    before = buffers(model)
    model.decode(model.encode(frames))
    model.decode_latents(model.quantize(model.encode_latents(frames)))
    assert_same(buffers(model), before)
    model(frames)
    changed = not torch.equal(buffers(model)["quantizer.codebook"], before["quantizer.codebook"])
    assert changed == training


# ---- saving and loading ----


@pytest.mark.parametrize("auto", [AutoModel, VisualVQVAEModel])
def test_saved_and_loaded_is_the_same_to_the_bit(auto, tmp_path, frames):
    model = trained()
    model.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    assert type(loaded) is VisualVQVAEModel
    assert_same(dict(loaded.state_dict()), dict(model.state_dict()))
    assert not loaded.quantizer.codebook.requires_grad
    first, second = model(frames), loaded(frames)
    for name in first:
        assert torch.equal(first[name], second[name]), name
    model.train()(frames)
    loaded.train()(frames)
    assert_same(dict(loaded.state_dict()), dict(model.state_dict()))


def test_what_a_checkpoint_lacks_is_initialised_as_in_a_new_model(tmp_path):
    model = trained()
    model.save_pretrained(tmp_path)
    kept = {"decoder.conv.bias": load_file(tmp_path / "model.safetensors")["decoder.conv.bias"]}
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    state = VisualVQVAEModel.from_pretrained(tmp_path).state_dict()
    fresh = VisualVQVAEModel(model.config).state_dict()
    assert state.keys() == fresh.keys()
    for name, _ in model.named_buffers():
        assert torch.equal(state[name], fresh[name]), f"{name} does not start where a new model's does"
    assert 0.8 < state.pop("quantizer.codebook").std() < 1.2
    assert torch.equal(state["decoder.conv.bias"], kept["decoder.conv.bias"])
    for name, value in state.items():
        if not name.startswith("quantizer"):
            assert 0 < value.abs().max() < 1, name


# ---- precision ----


def test_half_precision_keeps_the_quantizer_in_float32(tmp_path, frames):
    trained().save_pretrained(tmp_path)
    model = VisualVQVAEModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert model.encoder.projection.weight.dtype == torch.bfloat16
    assert model.quantizer.codebook.dtype == model.quantizer.embedding_sum.dtype == torch.float32
    for mode in (False, True):
        assert model.train(mode)(frames).loss.isfinite()
    assert model.decode(model.encode(frames)).isfinite().all()


def test_autocast_trains_and_stays_close(frames):
    model, reference = trained(), trained()
    expected = reference.train()(frames).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model.train()(frames)
    output.loss.backward()
    assert output.loss.dtype == torch.float32
    torch.testing.assert_close(output.loss, expected, rtol=0.05, atol=0)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.requires_grad)


# ---- refusals ----


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 4, 1, 16, 16), (2, 4, 3, 16, 18), (2, 4, 16, 16, 3)])
def test_other_shapes_are_refused_with_what_is_accepted(shape):
    model = visual_tokenizer()
    for call in (model, model.encode, model.encode_latents):
        with pytest.raises(ValueError, match=r"pixel_values_videos has shape .*multiple of 4.*VideoProcessor"):
            call(torch.zeros(shape))


def test_other_masks_are_refused(frames):
    model = visual_tokenizer()
    with pytest.raises(ValueError, match=r"attention mask has shape \(2, 3\).*\(2, 4\)"):
        model(frames, torch.ones(2, 3))
    with pytest.raises(ValueError, match="mask of 2 clips is 0 everywhere"):
        model(frames, torch.zeros(2, 4))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (torch.zeros(1, 4, 4, 4), r"visual_codes has dtype torch.float32.*\[0, 24\)"),
        (torch.full((1, 4, 4, 4), -1), "visual_codes holds codes from -1 to -1; 0 to 23"),
        (torch.zeros(4, 4, dtype=torch.long), r"visual_codes has shape \(4, 4\); \(clips, frames, rows, columns\)"),
    ],
)
def test_codes_that_are_none_are_refused(codes, message):
    with pytest.raises(ValueError, match=message):
        visual_tokenizer().decode(codes)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32])
def test_small_integer_types_of_a_token_store_are_decoded_too(dtype, frames):
    model = visual_tokenizer()
    codes = model.encode(frames)
    assert torch.equal(model.decode(codes.to(dtype)), model.decode(codes))
