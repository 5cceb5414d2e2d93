"""The truth of a synthetic corpus at the frames of a model."""

import numpy as np
import pytest

from vqmae_hf.data.synthetic import write_synthetic_corpus
from vqmae_hf.evaluation.known_factors import FACTORS, read_factors


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpus") / "corpus"
    options = {"num_speakers": 2, "emotions": ("happy", "sad"), "clips_per_emotion": 1, "clip_seconds": 1.0}
    return write_synthetic_corpus(root, image_size=64, show_progress=False, **options)


def test_factors_are_those_of_the_clips_asked_for(corpus):
    truth = read_factors(corpus, ["speaker_001_sad_00", "speaker_000_happy_00"], 30)
    assert truth.speakers.tolist() == ["speaker_001", "speaker_000"]
    assert truth.values["emotion"].tolist() == [1, 0]
    for factor in FACTORS:
        shape = (2, 30) if factor.moves else (2,)
        shape += () if factor.kind == "class" else (len(factor.columns),)
        assert truth.values[factor.name].shape == shape
        if factor.moves and factor.kind == "numbers":
            assert np.abs(truth.values[factor.name].mean(axis=1)).max() < 1e-9
    selected = truth.select(np.array([False, True]))
    assert selected.values["identity"].tolist() == truth.values["identity"][1:].tolist()


def test_what_is_seen_is_the_picture_shown_in_the_middle_of_a_frame(corpus):
    """At the corpus's own rate, frame k shows factor k; at twice that, every picture is shown twice."""
    clip = ["speaker_000_happy_00"]
    own, twice = (read_factors(corpus, clip, n, r).values["syllable"][0] for n, r in ((25, 25), (50, 50)))
    assert np.array_equal(np.repeat(own, 2), twice)


def test_unknown_clips_and_too_many_frames_are_refused(corpus):
    with pytest.raises(ValueError, match=r"'nobody'.*not in the corpus.*4"):
        read_factors(corpus, ["nobody"], 10)
    with pytest.raises(ValueError, match=r"num_frames=31.*1.0 s, 30 frames"):
        read_factors(corpus, ["speaker_000_happy_00"], 31)
