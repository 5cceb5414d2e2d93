"""Frames of face crops to pixel values."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.image_utils import PILImageResampling
from transformers.video_utils import VideoMetadata

from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor


@pytest.fixture(scope="module")
def processor():
    return VisualVQVAEVideoProcessor()


def video(frames=50, height=96, width=96, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def smooth_video(frames=4, height=200, width=160):
    """A picture without fine detail, which every sound way of resizing renders alike."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    picture = np.stack(
        [np.sin(2 * np.pi * rows / height + c) * np.cos(2 * np.pi * columns / width) for c in range(3)], -1
    )
    return np.stack([(127.5 + 100 * np.cos(t) * picture).round() for t in range(frames)]).astype(np.uint8)


def test_pixels_are_divided_by_255_minus_one_half(processor):
    frames = video()
    values = processor(frames)["pixel_values_videos"]
    expected = torch.from_numpy(frames).permute(0, 3, 1, 2)[None] / 255 - 0.5
    assert values.shape == (1, 50, 3, 96, 96)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-7)


def test_black_is_minus_one_half_and_white_one_half(processor):
    frames = np.zeros((2, 96, 96, 3), np.uint8)
    frames[1] = 255
    values = processor(frames, padding=False)["pixel_values_videos"][0]
    assert values[0].eq(-0.5).all()
    torch.testing.assert_close(values[1], torch.full((3, 96, 96), 0.5))


KINDS = {
    "channels first": lambda f: f.transpose(0, 3, 1, 2),
    "tensor": torch.from_numpy,
    "tensor, channels first": lambda f: torch.from_numpy(f).permute(0, 3, 1, 2),
    "list of arrays": list,
    "tuple of arrays": tuple,
    "list of tensors": lambda f: list(torch.from_numpy(f)),
    "list of pictures": lambda f: [Image.fromarray(frame) for frame in f],
    "batch of one": lambda f: f[None],
    "list of one clip": lambda f: [f],
    "list of a list of frames": lambda f: [list(f)],
    "float32": lambda f: f.astype(np.float32) / np.float32(255),
    "float64": lambda f: f / 255.0,
    "float tensor": lambda f: torch.from_numpy(f).double().permute(0, 3, 1, 2) / 255,
    "negative strides": lambda f: f[::-1].copy()[::-1],
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
def test_every_kind_of_clip_gives_the_same(processor, kind):
    frames = video(6)
    values = processor(kind(frames))["pixel_values_videos"]
    torch.testing.assert_close(values, processor(frames)["pixel_values_videos"], rtol=0, atol=1e-6)


def test_frames_of_the_right_size_are_not_resampled(processor, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("resampled")

    monkeypatch.setattr(torch.nn.functional, "interpolate", refuse)
    processor(video(3))
    with pytest.raises(AssertionError, match="resampled"):
        processor(video(3, 95, 96))


@pytest.mark.parametrize("resample", [PILImageResampling.BILINEAR, PILImageResampling.BICUBIC])
def test_resizing_agrees_with_pillow(processor, resample):
    frames = smooth_video()
    values = processor(frames, resample=resample, padding=False)["pixel_values_videos"][0]
    pixels = (values.permute(0, 2, 3, 1) + 0.5) * 255
    by_pillow = np.stack([np.asarray(Image.fromarray(f).resize((96, 96), resample)) for f in frames])
    assert (pixels - torch.from_numpy(by_pillow)).abs().max() <= 1.01


def test_floating_point_frames_are_resized_like_8_bit_ones(processor):
    frames = smooth_video()
    eight_bit = processor(frames)["pixel_values_videos"]
    floating = processor(frames / 255.0)["pixel_values_videos"]
    assert (eight_bit - floating).abs().max() <= 1.01 / 255


def test_a_clip_resized_in_pieces_is_the_same(processor, monkeypatch):
    frames = video(7, 120, 100)
    whole = processor(frames)["pixel_values_videos"]
    monkeypatch.setattr("vqmae_hf.modeling.video_processing_visual_vqvae.RESIZE_CHUNK_VALUES", 2 * frames[0].size)
    assert torch.equal(processor(frames)["pixel_values_videos"], whole)


def test_each_frame_is_processed_alone(processor):
    frames = video(8, 64, 64)
    changed = frames.copy()
    changed[5] = 255 - changed[5]
    before, after = processor(frames)["pixel_values_videos"][0], processor(changed)["pixel_values_videos"][0]
    moved = (before != after).flatten(1).any(1).nonzero().flatten().tolist()
    assert moved == [5]


def test_short_clips_are_padded_to_the_window_and_masked(processor):
    features = processor([video(50), video(12)])
    assert features["pixel_values_videos"].shape == (2, 50, 3, 96, 96)
    assert features["visual_attention_mask"].tolist() == [[1] * 50, [1] * 12 + [0] * 38]
    assert features["pixel_values_videos"][1, 12:].eq(0).all()


def test_long_clips_keep_every_frame(processor):
    features = processor([video(120), video(3)])
    assert features["visual_attention_mask"].sum(1).tolist() == [120, 3]
    assert torch.equal(
        features["pixel_values_videos"][0, 119], processor(video(120)[119:])["pixel_values_videos"][0, 0]
    )


@pytest.mark.parametrize(("padding", "length"), [("longest", 7), (True, 7), ("max_length", 50)])
def test_padding_strategies(processor, padding, length):
    assert processor([video(7), video(5)], padding=padding)["pixel_values_videos"].shape[1] == length


@pytest.mark.parametrize("padding", [False, "do_not_pad"])
def test_unpadded_clips_are_lists(processor, padding):
    features = processor([video(7), video(5, 64, 64)], padding=padding)
    assert [clip.shape for clip in features["pixel_values_videos"]] == [(7, 3, 96, 96), (5, 3, 96, 96)]
    assert [mask.tolist() for mask in features["visual_attention_mask"]] == [[1] * 7, [1] * 5]


def test_clips_of_different_resolutions_make_one_batch(processor):
    assert processor([video(2, 80, 100), video(2)])["pixel_values_videos"].shape == (2, 50, 3, 96, 96)
    with pytest.raises(ValueError, match=r"sizes \[\(80, 100\), \(96, 96\)\].*do_resize.*padding=False"):
        processor([video(2, 80, 100), video(2)], do_resize=False)


def test_rescaling_and_normalising_can_be_switched_off(processor):
    frames = video(2)
    raw = processor(frames, do_rescale=False, do_normalize=False, padding=False)["pixel_values_videos"][0]
    assert torch.equal(raw, torch.from_numpy(frames).permute(0, 3, 1, 2).float())
    unit = processor(frames, do_normalize=False, padding=False)["pixel_values_videos"][0]
    assert 0 <= unit.min() < unit.max() <= 1


def test_transparency_of_pictures_is_dropped(processor):
    pictures = [Image.fromarray(frame).convert("RGBA") for frame in video(2)]
    assert torch.equal(processor(pictures)["pixel_values_videos"], processor(video(2))["pixel_values_videos"])


def test_inputs_are_not_changed_and_may_be_read_only(processor):
    frames = video(3)
    before = frames.copy()
    frames.flags.writeable = False
    processor(frames)
    assert np.array_equal(frames, before)


def test_numpy_output(processor):
    features = processor(video(3), return_tensors="np")
    assert all(isinstance(value, np.ndarray) for value in features.values())


def test_saved_and_loaded_gives_the_same(tmp_path):
    processor = VisualVQVAEVideoProcessor(size=64, num_frames=30, frames_per_second=30)
    processor.save_pretrained(tmp_path)
    loaded = VisualVQVAEVideoProcessor.from_pretrained(tmp_path)
    assert loaded.to_dict() == processor.to_dict()
    assert torch.equal(loaded(video(5))["pixel_values_videos"], processor(video(5))["pixel_values_videos"])


RATES = {
    "frames_per_second": {"frames_per_second": 30},
    "fps": {"fps": 30},
    "metadata": {"video_metadata": [{"total_num_frames": 3, "fps": 30}]},
    "nested metadata": {"video_metadata": [[VideoMetadata(total_num_frames=3, fps=30)]]},
    "text": {"frames_per_second": "30"},
}


@pytest.mark.parametrize("stated", RATES.values(), ids=RATES.keys())
def test_another_frame_rate_is_refused(processor, stated):
    with pytest.raises(ValueError, match=r"frames_per_second: found '?30'?.*25 only.*load_clip"):
        processor(video(3), **stated)


def test_the_right_frame_rate_is_accepted_from_everywhere(processor):
    metadata = [VideoMetadata(total_num_frames=3, fps=25.0)]
    processor(video(3), frames_per_second=np.int64(25), fps=25.0, video_metadata=metadata)


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ("clip.mp4", r"videos: found str.*load_clip"),
        (["clip.mp4"], r"videos\[0\]: found str.*load_clip"),
        ([], r"videos: found an empty list"),
        ([[]], r"videos\[0\]: found an empty list.*at least one frame"),
        (video(0), r"found shape \(0, 96, 96, 3\).*at least one frame"),
        (video(1)[0], r"found shape \(96, 96, 3\).*\(T, H, W, 3\)"),
        (video(3)[..., 0], r"found shape \(3, 96, 96\)"),
        (video(3)[..., :1], r"found shape \(3, 96, 96, 1\).*three colour channels.*Repeat"),
        (np.zeros((3, 96, 96, 4), np.uint8), r"found shape \(3, 96, 96, 4\).*three colour channels"),
        ([video(2), video(2)[..., :2]], r"videos\[1\]: found shape"),
        ([video(1)[0], video(1, 64, 64)[0]], r"frames of different shapes"),
        (video(3).astype(np.int32), r"found dtype int32.*uint8.*floating-point"),
        (video(3).astype(np.uint16), r"found dtype uint16.*uint8"),
        (video(3).astype(bool), r"found dtype bool"),
        (torch.zeros(3, 3, 96, 96, dtype=torch.int16), r"found dtype int16"),
        (video(3).astype(np.float32), r"pixels from 0 to 255.*accepted are 0 to 1.*255"),
        (video(3) / 255.0 - 0.5, r"pixels from -0.5 to 0.5.*do not normalise before"),
        (np.full((3, 96, 96, 3), np.nan), r"found NaN or infinite pixels"),
        (np.full((3, 96, 96, 3), -np.inf), r"found NaN or infinite pixels"),
        ({"frames": video(3)}, r"videos: found dict"),
        ([None], r"videos\[0\]: found NoneType"),
    ],
)
def test_refused_clips_are_named_with_a_remedy(processor, videos, message):
    with pytest.raises(ValueError, match=message):
        processor(videos)


@pytest.mark.parametrize("option", ["do_sample_frames", "do_center_crop", "do_pad"])
def test_options_that_would_drop_or_add_pixels_are_refused(processor, option):
    with pytest.raises(ValueError, match=rf"{option}.*load_clip"):
        processor(video(3), **{option: True})
    with pytest.raises(ValueError, match=rf"{option}.*load_clip"):
        VisualVQVAEVideoProcessor(**{option: True})(video(3))


def test_other_resampling_and_sizes_are_refused(processor):
    with pytest.raises(ValueError, match=r"resample.*BILINEAR, BICUBIC"):
        processor(video(3, 64, 64), resample=PILImageResampling.LANCZOS)
    with pytest.raises(ValueError, match=r"size=.*'height'"):
        processor(video(3, 64, 64), size={"shortest_edge": 96})
    for name in ("num_frames", "frames_per_second"):
        with pytest.raises(ValueError, match=name):
            VisualVQVAEVideoProcessor(**{name: -1})
