"""The factors of the synthetic corpus: seeded, balanced, and shared between the channels as the module says."""

import hashlib

import numpy as np
import pytest

from vqmae_hf.data.synthetic import (
    DEFAULT_EMOTIONS,
    EMOTION_TARGETS,
    SYLLABLES,
    ClipKey,
    SyntheticCorpusParameters,
    describe_clip,
)
from vqmae_hf.data.synthetic.factors import as_columns, sample_speaker

EXPRESSED = ("pleasure", "arousal", "dominance")


def digest(keys, **options) -> str:
    total = hashlib.sha256()
    for key in keys:
        speaker, clip, frames = describe_clip(key, **options)
        total.update(repr(as_columns(speaker, clip)).encode())
        for name, track in frames.as_dict().items():
            total.update(name.encode() + track.tobytes())
    return total.hexdigest()


@pytest.fixture(scope="module")
def descriptions():
    keys = SyntheticCorpusParameters(num_speakers=24, clips_per_emotion=2).clip_keys()
    return {key: describe_clip(key) for key in keys}


def nearest_prototype_accuracy(descriptions, channels) -> float:
    """Accuracy of the nearest class mean, on speakers that gave no mean."""
    values = np.array(
        [[getattr(d.clip, f"{c}_{a}") for c in channels for a in EXPRESSED] for d in descriptions.values()]
    )
    emotions = np.array([DEFAULT_EMOTIONS.index(key.emotion) for key in descriptions])
    train = np.array([key.speaker_index < 12 for key in descriptions])
    scale = np.array([values[train & (emotions == e)].std(0) for e in range(len(DEFAULT_EMOTIONS))]).mean(0)
    means = np.array([values[train & (emotions == e)].mean(0) for e in range(len(DEFAULT_EMOTIONS))])
    distance = (((values[~train, None] - means) / scale) ** 2).sum(-1)
    return float((distance.argmin(1) == emotions[~train]).mean())


def test_same_seed_same_bytes_and_order_of_making_does_not_matter():
    keys = SyntheticCorpusParameters(num_speakers=2, clips_per_emotion=1).clip_keys()
    assert digest(keys) == digest(keys)
    alone = {key: digest([key]) for key in reversed(keys)}
    assert [alone[key] for key in keys] == [digest([key]) for key in keys]
    assert len(set(alone.values())) == len(keys)
    assert digest(keys, seed=1) != digest(keys)


def test_factors_are_those_of_every_machine():
    """Recorded once: fails if a change of the generator, or another machine, gives other factors."""
    keys = [ClipKey(0, "angry", 0), ClipKey(1, "sad", 1), ClipKey(2, "happy", 0)]
    assert digest(keys) == "a80bb9f003f01891117f7cf6092662223b6c2d657cd146f6dba9e08e2d60f7a9"


def test_speakers_do_not_depend_on_the_size_of_the_corpus_and_differ():
    speakers = [sample_speaker(index) for index in range(24)]
    assert speakers[3] == sample_speaker(3)
    assert len(set(speakers)) == 24
    low = [s.base_pitch_hz for s in speakers[::2]]
    high = [s.base_pitch_hz for s in speakers[1::2]]
    assert max(low) < min(high)
    assert {s.hair_style for s in speakers} == {0, 1, 2, 3}


def test_emotion_moves_expression_but_not_the_other_factors(descriptions):
    by_emotion = {e: [d for k, d in descriptions.items() if k.emotion == e] for e in DEFAULT_EMOTIONS}

    def mean(emotion, name):
        return np.mean([getattr(d.clip, name) for d in by_emotion[emotion]])

    for emotion, target in EMOTION_TARGETS.items():
        assert mean(emotion, "mouth_corner") == pytest.approx(target.pleasure, abs=0.15)
        assert mean(emotion, "brow_inner") == pytest.approx(-target.dominance, abs=0.15)
        assert mean(emotion, "loudness_db") == pytest.approx(7.0 * target.arousal, abs=1.0)
    for name in ("head_x", "head_roll", "gaze_x", "eye_opening", "jitter"):
        clip_means = [[np.mean(getattr(d.frames, name)) for d in by_emotion[e]] for e in DEFAULT_EMOTIONS]
        spread = np.std(np.mean(clip_means, axis=1)) * np.sqrt(len(clip_means[0])) / np.std(clip_means)
        assert spread < 2.0, name  # about 1 when the emotion has no influence


def test_channels_complement_each_other(descriptions):
    face = nearest_prototype_accuracy(descriptions, ["face"])
    voice = nearest_prototype_accuracy(descriptions, ["voice"])
    both = nearest_prototype_accuracy(descriptions, ["face", "voice"])
    assert 0.5 < voice < 0.8
    assert 0.55 < face < 0.85
    assert both > 0.93


def test_tracks_stay_in_their_ranges_and_say_nothing_in_silence(descriptions):
    for description in descriptions.values():
        frames = description.frames
        for name in ("mouth_opening", "voicing", "loudness", "frication", "breath", "eye_opening"):
            track = getattr(frames, name)
            assert track.dtype == np.float32
            assert track.min() >= 0.0
            assert track.max() <= 1.0
        assert frames.syllable.min() >= -1
        assert frames.syllable.max() < len(SYLLABLES)
        assert frames.mouth_opening.max() > 0.25
        silent = (frames.voicing == 0) & (frames.frication == 0)
        assert np.all(frames.mouth_opening[silent] < 0.05)
        assert np.all(frames.breath[~silent] == 0)
        assert np.all(np.diff([frames.f1_hz, frames.f2_hz, frames.f3_hz], axis=0) > 0)


def test_shortest_clip_speaks():
    for key in SyntheticCorpusParameters(num_speakers=6, clips_per_emotion=2).clip_keys():
        assert describe_clip(key, num_frames=25).frames.voicing.max() == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_speakers": 0}, "num_speakers is 0"),
        ({"clips_per_emotion": 1.5}, "clips_per_emotion is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"emotions": "angry"}, "must be a list"),
        ({"emotions": []}, "must be a list"),
        ({"emotions": ("angry", "bored")}, r"\['bored'\]; choose some of angry"),
        ({"emotions": ("angry", "angry")}, "repeats"),
        ({"clip_seconds": 0.5}, "clip_seconds is 0.5"),
        ({"image_size": 97}, "image_size is 97"),
        ({"image_size": 32}, "image_size is 32"),
    ],
)
def test_parameters_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SyntheticCorpusParameters(**arguments)


def test_all_problems_are_named_at_once():
    with pytest.raises(ValueError, match=r"num_speakers.*image_size"):
        SyntheticCorpusParameters(num_speakers=0, image_size=1)


def test_unknown_emotion_of_a_single_clip_is_refused():
    with pytest.raises(ValueError, match="'bored'; the synthetic faces know angry"):
        describe_clip(ClipKey(0, "bored", 0))
