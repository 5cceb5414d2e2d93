import numpy as np
import pytest
import torch

from vqmae_hf import AudioVQVAEFeatureExtractor, VisualVQVAEVideoProcessor
from vqmae_hf.data.prepared_clips import clip_arrays
from vqmae_hf.training.clip_batches import ClipFrames, ClipSpectra


@pytest.fixture(scope="module")
def spectra(world):
    return ClipSpectra(world.clips, AudioVQVAEFeatureExtractor(), 12, seed=1)


@pytest.fixture(scope="module")
def frames(world):
    return ClipFrames(world.clips, VisualVQVAEVideoProcessor(size={"height": 64, "width": 64}), 4, seed=1)


def test_spectra_are_drawn_from_the_peak_normalised_clip(spectra, world):
    whole = spectra.feature_extractor(clip_arrays(world.clips, 3).waveform, padding=False)["audio_values"][0]
    drawn = spectra[3]["audio_values"]
    assert drawn.shape == (12, 513)
    matches = (drawn.unsqueeze(1) == whole.unsqueeze(0)).all(2)
    assert (matches.sum(1) == 1).all()
    assert len(set(matches.nonzero()[:, 1].tolist())) == 12


def test_frames_are_drawn_from_the_clip_and_are_pixels_minus_a_half(frames, world):
    whole = torch.from_numpy(clip_arrays(world.clips, 5).frames.copy()).permute(0, 3, 1, 2).float() / 255 - 0.5
    drawn = frames[5]["pixel_values_videos"]
    assert drawn.shape == (4, 3, 64, 64)
    distance = (drawn.unsqueeze(1) - whole.unsqueeze(0)).abs().flatten(2).amax(2)
    assert (distance.amin(1) < 1e-6).all()


@pytest.mark.parametrize("name", ["spectra", "frames"])
def test_draws_depend_on_the_epoch_and_nothing_else(name, request):
    data = request.getfixturevalue(name)
    key = next(iter(data[0]))
    data.set_epoch(1)
    first = data[2][key]
    batch = data.__getitems__([4, 2]) if hasattr(data, "__getitems__") else [data[4], data[2]]
    assert torch.equal(batch[1][key], first)
    data.set_epoch(2)
    assert not torch.equal(data[2][key], first)
    data.set_epoch(1)
    assert torch.equal(data[2][key], first)


def test_validation_always_sees_the_same_evenly_spread_steps(world):
    data = ClipSpectra(world.clips, AudioVQVAEFeatureExtractor(), 5, draw=False)
    assert data.choose_steps(0, 101).tolist() == [0, 25, 50, 75, 100]
    first = data[0]["audio_values"]
    data.set_epoch(9)
    assert torch.equal(data[0]["audio_values"], first)


def test_a_clip_shorter_than_the_draw_gives_some_steps_twice(spectra):
    steps = spectra.choose_steps(0, 7)
    assert len(steps) == 12
    assert set(steps.tolist()) <= set(range(7))


def test_clips_without_the_modality_are_left_out(world):
    table = world.clips.to_dict()
    table["num_samples"][:4] = [0] * 4
    clips = type(world.clips).from_dict(table, features=world.clips.features)
    data = ClipSpectra(clips, AudioVQVAEFeatureExtractor(), 3)
    assert len(data) == len(world.clips) - 4
    table["num_samples"] = [0] * len(world.clips)
    clips = type(world.clips).from_dict(table, features=world.clips.features)
    with pytest.raises(ValueError, match="nothing to train on"):
        ClipSpectra(clips, AudioVQVAEFeatureExtractor(), 3)
    assert np.all(np.asarray(world.clips["num_samples"][:]) > 0)
