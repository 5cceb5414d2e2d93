"""What is hidden of a clip, what is put there, and where windows join."""

from itertools import pairwise

import pytest
import torch

from vqmae_hf import AudioVQVAEConfig, VisualVQVAEConfig, VQMAEConfig, VQMAEForPreTraining, VQMAEProcessor, load_clip
from vqmae_hf.data.media import probe_media, write_clip
from vqmae_hf.data.synthetic import ClipKey, make_clip
from vqmae_hf.inference.coded_clips import tokenize_clip
from vqmae_hf.inference.masked_reconstruction import (
    MASK_STRATEGIES,
    complete_masked_clip,
    draw_mask,
    reconstruct_masked_clip,
)
from vqmae_hf.training.assembly import inner_tokenizers

GRID = (10, 4, 2)
EVERY_STRATEGY = pytest.mark.parametrize("strategy", MASK_STRATEGIES)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = VQMAEConfig.from_preset(
        "tiny",
        num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        audio_tokenizer_config=AudioVQVAEConfig.from_preset("tiny").to_dict(),
        visual_tokenizer_config=VisualVQVAEConfig.from_preset("tiny").to_dict(),
        visual_codebook_size=VisualVQVAEConfig.from_preset("tiny").codebook_size,
        audio_codebook_size=AudioVQVAEConfig.from_preset("tiny").codebook_size,
    )
    return VQMAEForPreTraining(config).eval()


@pytest.fixture(scope="module")
def processor(model):
    return VQMAEProcessor.from_model_config(model.config)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    clip = make_clip(ClipKey(0, "happy", 0), num_frames=70, image_size=64)
    return write_clip(tmp_path_factory.mktemp("clips") / "happy.mp4", clip.frames, clip.waveform)


@pytest.fixture(scope="module")
def coded(model, processor, path):
    """70 frames: two windows of 50, the second one moved back to the frames from 20 on."""
    clip = load_clip(path, **processor.clip_options())
    return tokenize_clip(clip, processor, inner_tokenizers(model))


def complete(coded, model, processor, **options):
    return complete_masked_clip(coded, model=model, processor=processor, **options)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@EVERY_STRATEGY
@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.5, 1.0])
def test_a_mask_hides_its_share_and_at_1_everything(strategy, ratio):
    mask = draw_mask(3, GRID, ratio, strategy, seeded())
    step = 0.1 if strategy == "frame" else 1 / 80
    assert ((mask.float().mean(1) - ratio).abs() <= step / 2 + 1e-6).all()


@EVERY_STRATEGY
def test_what_a_lower_ratio_hides_a_higher_one_hides_too(strategy):
    masks = [draw_mask(4, GRID, ratio / 10, strategy, seeded(5)) for ratio in range(11)]
    assert all((more | ~less).all() for less, more in pairwise(masks))


def test_frame_wise_masks_hide_whole_moments():
    moments = draw_mask(4, GRID, 0.4, "frame", seeded()).view(4, 10, 8)
    assert (moments.all(2) | ~moments.any(2)).all()


def test_a_block_is_one_box_of_space_and_time():
    """Between the first and the last hidden place along an axis, there is no place where nothing is hidden."""
    for mask in draw_mask(20, GRID, 0.3, "block", seeded()).view(20, *GRID):
        for axis in range(3):
            used = mask.any(dim=tuple(other for other in range(3) if other != axis)).nonzero().flatten()
            assert torch.equal(used, torch.arange(used[0], used[-1] + 1))
        box = [int(mask.any(dim=tuple(o for o in range(3) if o != axis)).sum()) for axis in range(3)]
        # The outermost layer may be incomplete; a scattered mask of 24 would span all 80.
        assert box[0] * box[1] * box[2] <= 2 * 24


def test_unknown_strategies_and_ratios_are_refused(coded, model, processor):
    with pytest.raises(ValueError, match="strategy='stripes' is unknown; random, frame, block"):
        complete(coded, model, processor, strategy="stripes")
    for ratio in (1.2, (0.5, -0.1), (0.1, 0.2, 0.3)):
        with pytest.raises(ValueError, match="mask_ratio="):
            complete(coded, model, processor, mask_ratio=ratio)


@EVERY_STRATEGY
def test_visible_codes_stay_and_each_modality_hides_its_own_share(coded, model, processor, strategy):
    result = complete(coded, model, processor, mask_ratio=(0.2, 0.8), strategy=strategy)
    for modality, share in (("visual", 0.2), ("audio", 0.8)):
        original, completed, hidden = result.codes[modality]
        assert torch.equal(original, coded.codes[modality])
        assert torch.equal(completed[~hidden], original[~hidden])
        assert result.hidden_share(modality) == pytest.approx(share, abs=0.08)
        assert result.right_share(modality) == pytest.approx((completed == original)[hidden].float().mean().item())


def test_the_mask_of_a_modality_does_not_depend_on_the_other_ratio(coded, model, processor):
    first = complete(coded, model, processor, mask_ratio=(0.5, 0.1), seed=3)
    second = complete(coded, model, processor, mask_ratio=(0.5, 0.9), seed=3)
    other = complete(coded, model, processor, mask_ratio=(0.5, 0.9), seed=4)
    assert torch.equal(first.codes["visual"].hidden, second.codes["visual"].hidden)
    assert not torch.equal(second.codes["visual"].hidden, other.codes["visual"].hidden)


def test_hidden_codes_do_not_reach_the_result(coded, model, processor):
    """With the whole face hidden, another face gives the same reconstruction."""
    codes = {**coded.codes, "visual": (coded.codes["visual"] + 1) % model.config.visual_codebook_size}
    other = type(coded)(coded.clip, codes, coded.num_frames, coded.spectra_per_frame, coded.window_frames)
    results = [complete(each, model, processor, mask_ratio=(1.0, 0.0)) for each in (coded, other)]
    assert torch.equal(results[0].codes["visual"].reconstructed, results[1].codes["visual"].reconstructed)
    assert results[0].right_share("audio") is None


def test_nothing_hidden_is_the_tokenized_clip(coded, model, processor):
    result = complete(coded, model, processor, mask_ratio=0)
    for values in result.values.values():
        assert torch.equal(values.original, values.masked)
        assert torch.equal(values.original, values.reconstructed)
    assert result.frames().shape == (70, 64, 64, 3)


def test_windows_cover_the_clip_and_join_to_it(coded):
    assert coded.side_by_side() == [(0, 50), (20, 70)]
    inputs = coded.windows(coded.side_by_side())
    for modality in coded.codes:
        assert torch.equal(coded.join_windows(modality, inputs[f"{modality}_codes"]), coded.codes[modality])
        assert inputs[f"{modality}_attention_mask"].all()


def test_a_part_of_a_clip_is_padded_and_says_so(coded):
    inputs = coded.windows([(60, 70)])
    assert inputs["visual_attention_mask"].tolist() == [[1] * 10 + [0] * 40]
    assert inputs["audio_attention_mask"].sum() == 20
    assert torch.equal(inputs["audio_codes"][0, :20], coded.codes["audio"][120:140])
    assert not inputs["visual_codes"][0, 10:].any()


def test_from_a_file_to_a_file(model, processor, path, tmp_path):
    result = reconstruct_masked_clip(path, model=model, processor=processor, mask_ratio=(0.5, 0.5), seed=1)
    again = reconstruct_masked_clip(path, model=model, processor=processor, mask_ratio=(0.5, 0.5), seed=1)
    assert torch.equal(result.codes["visual"].reconstructed, again.codes["visual"].reconstructed)
    info = probe_media(result.write(tmp_path / "completed.mp4"))
    assert info.has_video
    assert info.has_audio
    assert info.duration_seconds == pytest.approx(2.8, abs=0.1)
