"""Whatever processors and the pipeline are given, they take it or refuse it by a ValueError that names the argument."""

import math
import re

import numpy as np
import pytest
import torch
from benchmarks.pipeline_memory import small_pipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vqmae_hf import MDVAEProcessor, VQMAEProcessor
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor

few = settings(max_examples=40, deadline=None)

no_number = st.one_of(st.booleans(), st.text(max_size=3), st.just([1]), st.just({}))
no_positive_number = st.one_of(
    no_number, st.integers(max_value=0), st.floats(max_value=0), st.sampled_from([math.nan, math.inf])
)
no_positive_integer = st.one_of(
    no_positive_number, st.floats(min_value=0.1, max_value=99).filter(lambda value: not value.is_integer())
)


@pytest.fixture(scope="module")
def classify():
    return small_pipeline()


@pytest.fixture(scope="module")
def processor(classify):
    return classify.processor


def refuses(name, call):
    with pytest.raises(ValueError, match=re.escape(name)):
        call()


def outcome_of(call):
    """What a call returns, or the ValueError that it raises."""
    try:
        return call()
    except ValueError as error:
        return error


# ---- numbers ----


@given(value=no_positive_integer, name=st.sampled_from(["sampling_rate", "n_fft", "hop_length", "num_spectra"]))
@few
def test_the_feature_extractor_takes_positive_whole_numbers(name, value):
    refuses(name, lambda: AudioVQVAEFeatureExtractor(**{name: value}))


@given(value=no_positive_integer, side=st.sampled_from(["height", "width"]))
@few
def test_the_video_processor_takes_positive_whole_sizes(value, side):
    refuses("num_frames", lambda: VisualVQVAEVideoProcessor(num_frames=value))
    refuses("size", lambda: VisualVQVAEVideoProcessor(size={"height": 16, "width": 16, side: value}))


@given(value=no_positive_number, name=st.sampled_from(["frames_per_second", "rescale_factor"]))
@few
def test_the_video_processor_takes_positive_numbers(name, value):
    refuses(name, lambda: VisualVQVAEVideoProcessor(**{name: value}))


@given(value=no_positive_number, processor_class=st.sampled_from([VQMAEProcessor, MDVAEProcessor]))
@few
def test_processors_of_models_take_positive_rates(value, processor_class, classify):
    config = classify.model.config
    refuses("frames_per_second", lambda: processor_class.from_model_config(config, frames_per_second=value))
    refuses("sampling_rate", lambda: processor_class.from_model_config(config, sampling_rate=value))


@given(value=no_positive_number)
@few
def test_calls_take_the_rates_of_the_processor(value, processor):
    waveform, frames = np.zeros(800, dtype=np.float32), np.zeros((3, 16, 16, 3), dtype=np.uint8)
    refuses("sampling_rate", lambda: processor.feature_extractor(waveform, sampling_rate=value))
    refuses("frames_per_second", lambda: processor.video_processor(frames, frames_per_second=value))


@given(value=st.one_of(st.integers(), st.floats(), st.text(max_size=3)))
@few
def test_padding_and_tensors_are_named_as_in_transformers(value, processor):
    frames = np.zeros((3, 16, 16, 3), dtype=np.uint8)
    waveform = np.zeros(800, dtype=np.float32)
    for call in (
        lambda **kw: processor.video_processor(frames, **kw),
        lambda **kw: processor.feature_extractor(waveform, **kw),
    ):
        refuses("padding", lambda call=call: call(padding=value))
        refuses("return_tensors", lambda call=call: call(return_tensors=value))


# ---- arrays ----

shapes = arrays.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=5)
dtypes = st.sampled_from(["float32", "float64", "float16", "int16", "int64", "uint8", "bool", "complex64", "U2", "O"])
any_array = st.tuples(dtypes, shapes).flatmap(
    lambda pair: st.builds(
        lambda fill: (
            np.full(pair[1], fill).astype(pair[0]) if pair[0] not in ("U2", "O") else np.full(pair[1], "x", pair[0])
        ),
        st.sampled_from([0.0, 0.5, 1.0, 200.0, -3.0, math.nan, math.inf]),
    )
)


@given(audio=any_array)
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_any_array_is_a_waveform_or_refused(audio, processor):
    fits = audio.ndim == 1 and audio.size and audio.dtype.kind == "f" and np.isfinite(audio).all()
    if not fits:
        refuses("audio", lambda: processor(audio=audio))
    else:
        values = processor(audio=audio)["audio_values"]
        assert values.shape == (1, 100, 513)
        assert torch.isfinite(values).all()


@given(videos=any_array)
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_any_array_is_a_clip_or_refused(videos, processor):
    outcome = outcome_of(lambda: processor(videos=videos)["pixel_values_videos"])
    if isinstance(outcome, ValueError):
        assert "videos" in str(outcome)
        return
    values = outcome
    assert values.shape[1:] == (50, 3, 16, 16)
    assert torch.isfinite(values).all()
    assert 3 in videos.shape
    assert values.abs().max() <= 0.5 + 1e-3  # pixels minus a half


def is_waveform(thing):
    """A list of numbers, not all of them whole, that fit into float32."""
    if not isinstance(thing, list) or not thing or not all(isinstance(entry, (bool, int, float)) for entry in thing):
        return False
    return any(isinstance(entry, float) for entry in thing) and all(abs(entry) <= 3.4e38 for entry in thing)


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.binary(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=5,
)


@given(thing=anything)
@settings(max_examples=100, deadline=None)
def test_anything_else_is_refused_by_name(thing, processor):
    if not (is_waveform(thing) or (isinstance(thing, list) and thing and all(map(is_waveform, thing)))):
        refuses("audio", lambda: processor(audio=thing))
    refuses("videos", lambda: processor(videos=thing))


# ---- windows ----


@given(value=no_positive_integer)
@few
def test_the_stride_is_a_positive_whole_number(value, processor):
    inputs = {"audio_values": torch.zeros(1, 100, 513)}
    refuses("stride", lambda: processor.cut_windows(inputs, stride=value))


@given(
    shape=st.lists(st.integers(0, 3), max_size=5),
    mask=st.lists(st.integers(0, 3), max_size=3),
    fill=st.sampled_from([0.0, 2, math.nan]),
)
@few
def test_windows_are_cut_from_what_a_call_returns(shape, mask, fill, processor):
    good = torch.zeros(2, 100, 513)
    if len(shape) != 3 or 0 in shape:
        refuses("audio_values", lambda: processor.cut_windows({"audio_values": torch.zeros(shape)}))
    if mask != [2, 100]:
        wrong = {"audio_values": good, "audio_attention_mask": torch.ones(mask)}
        refuses("audio_attention_mask", lambda: processor.cut_windows(wrong))
    if fill:
        wrong = {"audio_values": good, "audio_attention_mask": torch.full((2, 100), fill)}
        refuses("audio_attention_mask", lambda: processor.cut_windows(wrong))
    uneven = {"audio_values": good, "pixel_values_videos": torch.zeros(1, 50, 3, 16, 16)}
    refuses("as many clips", lambda: processor.cut_windows(uneven))


@given(inputs=anything)
@few
def test_nothing_else_is_cut(inputs, processor):
    refuses("inputs", lambda: processor.cut_windows(inputs))


@given(index=st.lists(st.integers(-2, 6), max_size=5), rows=st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_pooling_is_the_mean_over_the_windows_of_each_clip_or_refused(index, rows, processor):
    outputs = torch.randn(rows, 2)
    clips = torch.tensor(index, dtype=torch.long)
    if not rows:
        refuses("outputs", lambda: processor.pool_windows(outputs, clips))
    elif len(index) != rows or set(index) != set(range(max(index) + 1)):
        refuses("window_clip_index", lambda: processor.pool_windows(outputs, clips))
    else:
        expected = torch.stack([outputs[clips == clip].mean(0) for clip in range(max(index) + 1)])
        torch.testing.assert_close(processor.pool_windows(outputs, clips), expected)


# ---- pipeline ----


@given(value=no_positive_integer)
@few
def test_the_pipeline_takes_positive_whole_numbers(value, classify):
    clip = {"waveform": np.zeros(800, dtype=np.float32)}
    refuses("top_k", lambda: classify(clip, top_k=value))
    refuses("batch_size", lambda: classify(clip, batch_size=value))


@given(value=st.one_of(st.integers(), st.text(max_size=3), st.lists(st.integers())))
@few
def test_the_pipeline_names_its_other_options(value, classify):
    clip = {"waveform": np.zeros(800, dtype=np.float32)}
    refuses("clip_loader_options", lambda: classify(clip, clip_loader_options=value))
    refuses("function_to_apply", lambda: classify(clip, function_to_apply=value))


@given(clip=anything.filter(lambda thing: not isinstance(thing, (str, bytes, list))))
@few
def test_the_pipeline_refuses_what_is_no_clip(clip, classify):
    refuses("clip", lambda: classify(clip))


@given(array=any_array, name=st.sampled_from(["waveform", "frames"]))
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_the_pipeline_gives_scores_or_a_reason(array, name, classify):
    answer = outcome_of(lambda: classify({name: array}, top_k=None))
    if isinstance(answer, ValueError):
        assert "found" in str(answer)
        return
    assert sum(entry["score"] for entry in answer) == pytest.approx(1, abs=1e-5)
    assert all(0 <= entry["score"] <= 1 for entry in answer)
