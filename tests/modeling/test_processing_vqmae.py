"""Waveforms and frames together: spectra and frames in step, windows, saving."""

import numpy as np
import pytest
import torch
from transformers import AutoFeatureExtractor, AutoProcessor, BatchFeature, ProcessorMixin
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from vqmae_hf.modeling.clip_windows import plan_windows, pool_windows
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor


def make_processor(side=8, num_frames=50, frames_per_second=25, hop_length=320, num_spectra=None):
    size = {"height": side, "width": side}
    video = VisualVQVAEVideoProcessor(size=size, num_frames=num_frames, frames_per_second=frames_per_second)
    audio = AudioVQVAEFeatureExtractor(hop_length=hop_length, num_spectra=num_spectra or 2 * num_frames)
    return VQMAEProcessor(audio, video)


@pytest.fixture(scope="module")
def processor():
    return make_processor()


def sound(seconds, seed=0):
    return np.random.default_rng(seed).standard_normal(round(seconds * 16000)).astype(np.float32)


def numbered_frames(count, side=8, first=0):
    """Frames whose pixels all are the frame's number, so that a window tells which frames it holds."""
    numbers = np.arange(first, first + count, dtype=np.uint8)
    return np.broadcast_to(numbers[:, None, None, None], (count, side, side, 3)).copy()


def frame_numbers(pixel_values):
    """The numbers (W, T) that `numbered_frames` wrote."""
    return ((pixel_values[:, :, 0, 0, 0] + 0.5) * 255).round().long()


# ---- a call ----


@pytest.mark.parametrize("frames", [1, 7, 49, 50, 51, 130])
@pytest.mark.parametrize("surplus_seconds", [-0.03, 0.0, 0.01, 0.5])
def test_there_are_exactly_two_spectra_for_each_frame(processor, frames, surplus_seconds):
    seconds = max(0.001, frames / 25 + surplus_seconds)
    features = processor(audio=sound(seconds), videos=numbered_frames(frames))
    length = max(50, frames)
    assert features["pixel_values_videos"].shape[:2] == features["visual_attention_mask"].shape == (1, length)
    assert features["audio_values"].shape[:2] == features["audio_attention_mask"].shape == (1, 2 * length)
    assert features["visual_attention_mask"].sum() == frames
    assert features["audio_attention_mask"].sum() == min(2 * frames, -(-round(seconds * 16000) // 320))


def test_spectra_of_longer_sound_are_left_out_and_of_shorter_sound_masked(processor):
    features = processor(audio=[sound(3.0), sound(0.5)], videos=[numbered_frames(40), numbered_frames(40)])
    alone = processor(audio=[sound(3.0), sound(0.5)])["audio_values"]
    assert torch.equal(features["audio_values"][0, :80], alone[0, :80])
    assert features["audio_values"][0, 80:].eq(0).all()
    assert torch.equal(features["audio_values"][1, :25], alone[1, :25])
    assert features["audio_attention_mask"].sum(1).tolist() == [80, 25]


def test_nothing_is_left_of_sound_beyond_the_frames_of_its_own_clip(processor):
    """The second clip is padded to the first one's length, but its sound is not longer for that."""
    features = processor(audio=[sound(4.0), sound(4.0)], videos=[numbered_frames(100), numbered_frames(60)])
    assert features["audio_values"].shape[1] == 200
    assert features["audio_values"][1, 120:].eq(0).all()
    assert features["audio_attention_mask"].sum(1).tolist() == [200, 120]


def test_each_modality_alone_gives_what_its_part_gives(processor):
    audio = processor(audio=sound(1.3))
    assert set(audio) == {"audio_values", "audio_attention_mask"}
    assert torch.equal(audio["audio_values"], processor.feature_extractor(sound(1.3))["audio_values"])
    videos = processor(videos=numbered_frames(9))
    assert set(videos) == {"pixel_values_videos", "visual_attention_mask"}
    expected = processor.video_processor(numbered_frames(9))["pixel_values_videos"]
    assert torch.equal(videos["pixel_values_videos"], expected)


def test_names_and_order_are_those_of_the_model(processor):
    features = processor(audio=sound(0.1), videos=numbered_frames(2))
    assert set(features) == set(processor.model_input_names)
    assert all(isinstance(value, torch.Tensor) for value in features.values())


def test_a_batch_gives_what_its_clips_give_alone(processor):
    clips = [
        (sound(seconds, seed), numbered_frames(frames)) for seed, (seconds, frames) in enumerate([(1, 25), (2, 44)])
    ]
    batch = processor(audio=[s for s, _ in clips], videos=[f for _, f in clips])
    for row, (waveform, frames) in enumerate(clips):
        alone = processor(audio=waveform, videos=frames)
        assert all(torch.equal(batch[name][row], alone[name][0]) for name in alone)


def test_unpadded_clips_keep_step_too(processor):
    features = processor(
        audio=[sound(1.01), sound(0.3)], videos=[numbered_frames(25), numbered_frames(9)], padding=False
    )
    assert [len(clip) for clip in features["pixel_values_videos"]] == [25, 9]
    assert [len(clip) for clip in features["audio_values"]] == [50, 18]
    assert [mask.sum().item() for mask in features["audio_attention_mask"]] == [50, 15]


def test_numpy_output(processor):
    features = processor(audio=sound(1), videos=numbered_frames(25), return_tensors="np")
    tensors = processor(audio=sound(1), videos=numbered_frames(25))
    for name, value in features.items():
        assert isinstance(value, np.ndarray)
        assert np.array_equal(value, tensors[name].numpy())


RATES = {
    "on top": {"sampling_rate": 16000, "frames_per_second": 25},
    "by part": {"audio_kwargs": {"sampling_rate": 16000}, "videos_kwargs": {"frames_per_second": 25}},
    "metadata": {"video_metadata": [{"total_num_frames": 25, "fps": 25.0}]},
    "nowhere": {},
}


@pytest.mark.parametrize("rates", RATES.values(), ids=RATES.keys())
def test_the_right_rates_are_accepted_from_everywhere(processor, rates):
    features = processor(audio=sound(1), videos=numbered_frames(25), **rates)
    assert features["audio_attention_mask"].sum() == 50


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"sampling_rate": 44100}, "found 44100 Hz.*16000 Hz"),
        ({"audio_kwargs": {"sampling_rate": 8000}}, "found 8000 Hz.*16000 Hz"),
        ({"frames_per_second": 30}, "found 30.*25 only"),
        ({"videos_kwargs": {"frames_per_second": 29.97}}, r"found 29\.97.*25 only"),
        ({"video_metadata": [{"total_num_frames": 25, "fps": 24}]}, "found 24.*25 only"),
        ({"videos_kwargs": {"fps": 50}}, "found 50.*25 only"),
    ],
)
def test_other_rates_are_refused_from_everywhere(processor, rates, message):
    with pytest.raises(ValueError, match=rf"(?s){message}.*load_clip"):
        processor(audio=sound(1), videos=numbered_frames(25), **rates)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "found neither `videos` nor `audio`.*load_clip"),
        ({"images": numbered_frames(1)[0]}, "found images, accepted.*`videos`.*`audio`"),
        ({"text": "hello", "audio": sound(1)}, "found text, accepted"),
        ({"video": numbered_frames(1)}, "found video, accepted.*`videos`"),
        ({"audio": [sound(1), sound(1)], "videos": numbered_frames(25)}, "1 clips in `videos` and 2 in `audio`"),
        ({"audio": sound(1).reshape(2, -1), "videos": numbered_frames(25)}, r"one channel \(N,\)"),
        ({"audio": "clip.wav"}, "audio: found str"),
        ({"videos": "clip.mp4"}, "videos: found str"),
    ],
)
def test_refused_inputs(processor, inputs, message):
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        processor(**inputs)


# ---- rates and windows which fit ----


@pytest.mark.parametrize(
    ("frames_per_second", "hop_length", "spectra"),
    [(25, 320, 2), (30, 533, 1), (25, 640, 1), (50, 320, 1), (25, 160, 4)],
)
def test_spectra_per_frame_follow_from_the_rates(frames_per_second, hop_length, spectra):
    processor = make_processor(8, 30, frames_per_second, hop_length, num_spectra=30 * spectra)
    assert processor.spectra_per_frame == spectra
    features = processor(audio=sound(60 / frames_per_second), videos=numbered_frames(60))
    assert features["audio_attention_mask"].sum() == features["audio_values"].shape[1] == 60 * spectra


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"hop_length": 300}, "hop_length=300.*set hop_length=320 for 2"),
        ({"frames_per_second": 30}, "hop_length=320.*30 frames per second; set hop_length=267 for 2"),
        ({"num_spectra": 99}, "num_spectra=99 and num_frames=50.*set num_spectra=100"),
    ],
)
def test_parts_that_do_not_fit_are_refused(sizes, message):
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        make_processor(**sizes)


def test_parts_of_another_kind_are_refused(processor):
    with pytest.raises(TypeError, match="VisualVQVAEVideoProcessor"):
        VQMAEProcessor(processor.feature_extractor, processor.feature_extractor)
    with pytest.raises(TypeError, match="feature_extractor"):
        VQMAEProcessor(processor.video_processor, processor.video_processor)


@pytest.mark.parametrize(
    ("config", "num_spectra", "num_frames", "side", "bins"),
    [
        (VQMAEConfig.from_preset("cross-12"), 100, 50, 96, 513),
        (VQMAEConfig.from_preset("speech-6"), 200, 100, 96, 513),
        (VQMAEConfig(modalities=("visual",), visual_num_frames=30), 60, 30, 96, 513),
        (VQMAEConfig(audio_num_spectra=50, audio_tube_size=(5, 8)), 50, 50, 96, 513),
        (
            VQMAEConfig(
                visual_codes_per_side=8, audio_codes_per_spectrum=32, audio_tokenizer_config={"num_frequency_bins": 257},
                visual_tokenizer_config={"image_size": 64, "num_downsampling_layers": 3},
            ), 100, 50, 64, 257,
        ),
    ],
    ids=["paper", "speech", "visual", "one spectrum per frame", "small tokenizers"],
)  # fmt: skip
def test_a_processor_that_fits_a_model(config, num_spectra, num_frames, side, bins):
    processor = VQMAEProcessor.from_model_config(config)
    features = processor(audio=sound(0.1), videos=numbered_frames(1, side=10))
    assert features["audio_values"].shape == (1, num_spectra, bins)
    assert features["pixel_values_videos"].shape == (1, num_frames, 3, side, side)


# ---- windows ----


@pytest.mark.parametrize("frames", [1, 49, 50, 51, 99, 100, 101, 230])
@pytest.mark.parametrize("stride", [None, 50, 25, 7, 1])
def test_windows_cover_every_frame_and_no_other(processor, frames, stride):
    windows = processor.cut_windows(processor(videos=numbered_frames(frames)), stride=stride)
    real = windows["visual_attention_mask"].bool()
    numbers = frame_numbers(windows["pixel_values_videos"])
    assert windows["pixel_values_videos"].shape[1:] == (50, 3, 8, 8)
    assert set(numbers[real].tolist()) == set(range(frames))
    assert (numbers[:, 1:] - numbers[:, :-1])[real[:, 1:]].eq(1).all()
    starts = numbers[:, 0]
    assert (starts.diff() <= (stride or 50)).all()
    assert (starts.diff() > 0).all()
    if frames >= 50:
        assert real.all()


def test_windows_are_counted_for_each_clip(processor):
    lengths = [120, 20, 50, 201]
    windows = processor.cut_windows(processor(videos=[numbered_frames(n) for n in lengths]))
    assert windows["window_clip_index"].tolist() == [0, 0, 0, 1, 2, 3, 3, 3, 3, 3]
    assert windows["visual_attention_mask"].sum(1).tolist() == [50, 50, 50, 20, 50, 50, 50, 50, 50, 50]
    assert frame_numbers(windows["pixel_values_videos"])[:, 0].tolist() == [0, 50, 70, 0, 0, 0, 50, 100, 150, 151]


def test_spectra_and_frames_of_a_window_belong_together(processor):
    waveform, frames = sound(5.0), numbered_frames(123)
    features = processor(audio=waveform, videos=frames)
    windows = processor.cut_windows(features)
    assert windows["audio_values"].shape == (3, 100, 513)
    for window in range(3):
        first = frame_numbers(windows["pixel_values_videos"])[window, 0].item()
        assert torch.equal(windows["audio_values"][window], features["audio_values"][0, 2 * first : 2 * first + 100])


def test_the_peak_is_that_of_the_clip_not_of_the_window(processor):
    waveform = sound(4.0)
    waveform[32000:] *= 0.01
    windows = processor.cut_windows(processor(audio=waveform))
    assert windows["audio_values"][1, 10:].max() < 1e-3 * windows["audio_values"][0].max()


@pytest.mark.parametrize(("spectra", "starts"), [(1, [0]), (100, [0]), (101, [0, 2]), (230, [0, 100, 130])])
def test_windows_of_sound_alone_count_in_frames(processor, spectra, starts):
    features = processor(audio=sound(spectra * 0.02))
    windows = processor.cut_windows(features)
    mask = windows["audio_attention_mask"]
    for window, start in enumerate(starts):
        real = mask[window].sum()
        assert torch.equal(windows["audio_values"][window, :real], features["audio_values"][0, start : start + real])
    covered = {start + step for w, start in enumerate(starts) for step in mask[w].nonzero().flatten().tolist()}
    assert len(mask) == len(starts)
    assert covered == set(range(spectra))


def test_windows_of_tightly_padded_clips_and_of_arrays_and_without_masks(processor):
    tight = processor(audio=sound(0.2), videos=numbered_frames(5), padding="longest", return_tensors="np")
    windows = processor.cut_windows(tight)
    roomy = processor.cut_windows(processor(audio=sound(0.2), videos=numbered_frames(5)))
    assert torch.equal(windows["audio_values"], roomy["audio_values"])
    assert torch.equal(windows["visual_attention_mask"], roomy["visual_attention_mask"])
    maskless = processor.cut_windows({"audio_values": torch.ones(2, 150, 513)})
    assert maskless["window_clip_index"].tolist() == [0, 0, 1, 1]
    assert maskless["audio_attention_mask"].eq(1).all()


@pytest.mark.parametrize("stride", [0, -5, 51])
def test_strides_that_skip_frames_are_refused(processor, stride):
    with pytest.raises(ValueError, match=f"stride={stride}.*1 to 50"):
        processor.cut_windows(processor(videos=numbered_frames(60)), stride=stride)


def test_inputs_without_clips_are_refused(processor):
    with pytest.raises(ValueError, match=r"found \['audio_codes'\].*'audio_values'"):
        processor.cut_windows(BatchFeature({"audio_codes": torch.zeros(1, 100, 64)}))


def test_pooling_is_the_mean_over_the_windows_of_each_clip(processor):
    outputs = torch.randn(10, 3, 2)
    index = torch.tensor([0, 0, 0, 1, 2, 3, 3, 3, 3, 3])
    pooled = processor.pool_windows(outputs, index)
    by_hand = torch.stack([outputs[index == clip].mean(0) for clip in range(4)])
    torch.testing.assert_close(pooled, by_hand)


def test_pooling_the_windows_of_a_plan_gives_one_row_for_each_clip():
    plan = plan_windows([1, 500, 50, 51], 50, 13)
    assert pool_windows(torch.ones(len(plan.starts), 4), plan.clip_index).eq(1).all()
    assert len(pool_windows(plan.starts[:, None].float(), plan.clip_index)) == 4


# ---- saving ----


def test_saved_in_one_file_and_loaded_by_every_auto_class(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["processor_config.json"]
    loaded = AutoProcessor.from_pretrained(tmp_path)
    assert isinstance(loaded, VQMAEProcessor)
    assert isinstance(loaded, ProcessorMixin)
    assert loaded.to_dict() == processor.to_dict() == VQMAEProcessor.from_pretrained(tmp_path).to_dict()
    assert isinstance(AutoFeatureExtractor.from_pretrained(tmp_path), AudioVQVAEFeatureExtractor)
    assert isinstance(AutoVideoProcessor.from_pretrained(tmp_path), VisualVQVAEVideoProcessor)
    inputs = {"audio": sound(1.1), "videos": numbered_frames(30, side=9)}
    expected = processor(**inputs)
    for name, value in loaded(**inputs).items():
        assert torch.equal(value, expected[name])


def test_the_window_can_be_changed_when_loading(processor, tmp_path):
    processor.save_pretrained(tmp_path)
    loaded = VQMAEProcessor.from_pretrained(tmp_path, num_frames=30, num_spectra=60)
    assert loaded(audio=sound(0.1), videos=numbered_frames(1))["audio_values"].shape[1] == 60
    with pytest.raises(ValueError, match="set num_spectra=60"):
        VQMAEProcessor.from_pretrained(tmp_path, num_frames=30)
