import numpy as np
import pytest
import torch

from vqmae_hf.data.prepared_clips import load_prepared_clips
from vqmae_hf.experiments import spectrogram_network
from vqmae_hf.experiments.features import NUM_MELS
from vqmae_hf.experiments.spectrogram_network import (
    SPEEDS,
    WINDOW,
    SpectrogramNetwork,
    SpectrogramWindows,
    cut_window,
    log_mel_spectrograms,
    mask_window,
    read_spectrograms,
    save_spectrograms,
    vary,
)


def spectrogram(seed, spectra=60):
    return np.random.default_rng(seed).normal(size=(spectra, NUM_MELS)).astype(np.float32)


def test_spectrograms_of_all_speeds_come_back_from_disk(world, tmp_path):
    clips = load_prepared_clips(world.clips_dir).select(range(3))
    spectrograms = log_mel_spectrograms(clips)
    assert [len(copies) for copies in spectrograms] == [len(SPEEDS)] * 3
    itself, slow, *_, fast = spectrograms[0]
    assert itself.shape[1] == NUM_MELS
    assert itself.dtype == np.float32
    assert len(slow) == pytest.approx(len(itself) / 0.85, abs=1)
    assert len(fast) == pytest.approx(len(itself) / 1.17, abs=1)
    save_spectrograms(spectrograms, tmp_path / "made")
    for kept, read in zip(spectrograms, read_spectrograms(tmp_path / "made"), strict=True):
        for first, second in zip(kept, read, strict=True):
            np.testing.assert_array_equal(first, second)


def test_a_clip_without_sound_is_named(world):
    clips = load_prepared_clips(world.clips_dir).select([0])
    mute = clips.map(lambda row: {"waveform": None, "num_samples": 0})
    with pytest.raises(ValueError, match=rf"{clips['clip_id'][0]}.*no sound.*on_missing_audio"):
        log_mel_spectrograms(mute)


def test_variations_keep_what_they_should():
    constant = torch.full((50, NUM_MELS), 2.0)
    draw = np.random.default_rng(0)
    lengths = set()
    for _ in range(50):
        varied = vary(constant, draw)
        lengths.add(len(varied))
        # Another room: each band at a level of its own, the same all the time.
        torch.testing.assert_close(varied, varied[:1].expand_as(varied))
        assert varied[0].std() > 0
    assert 43 <= min(lengths) < 50 < max(lengths) <= 58


def test_a_loud_band_moves_to_its_neighbours_and_no_further():
    bands = torch.zeros(20, NUM_MELS)
    bands[:, 40] = 100.0
    peaks = {int(vary(bands, np.random.default_rng(seed))[0].argmax()) for seed in range(60)}
    assert 34 <= min(peaks) <= max(peaks) <= 46
    assert len(peaks) > 4


def test_windows_are_cut_from_the_middle_or_anywhere():
    long = torch.arange(WINDOW + 40.0).unsqueeze(1)
    assert cut_window(long)[0].item() == 20
    starts = {int(cut_window(long, np.random.default_rng(seed))[0]) for seed in range(300)}
    assert (min(starts), max(starts)) == (0, 40)
    assert len(cut_window(long[:30])) == len(cut_window(long[:30], np.random.default_rng(0))) == 30


def test_masks_cover_bands_and_moments_of_a_copy():
    window = torch.ones(60, NUM_MELS)
    masked = mask_window(window, np.random.default_rng(3))
    assert bool((window == 1).all())
    assert set(masked.unique().tolist()) == {0.0, 1.0}
    kept_bands, kept_moments = (masked.amax(dim=axis) == 1 for axis in (0, 1))
    torch.testing.assert_close(masked, (kept_moments[:, None] & kept_bands[None]).float())
    assert NUM_MELS - 26 <= kept_bands.sum() < NUM_MELS
    assert 40 <= kept_moments.sum() < 60
    mask_window(window[:1], np.random.default_rng(0))  # a clip of one spectrum


def test_items_differ_in_training_and_not_in_testing():
    data = [[spectrogram(0), spectrogram(1)]]
    training = SpectrogramWindows(data, np.array([5]), seed=0)
    first, second = training[0], training[0]
    assert first["labels"] == 5
    assert first["pixel_values"].shape == (1, WINDOW, NUM_MELS)
    assert not torch.equal(first["pixel_values"], second["pixel_values"])
    again = SpectrogramWindows(data, np.array([5]), seed=0)
    torch.testing.assert_close(again[0]["pixel_values"], first["pixel_values"])
    tested = SpectrogramWindows(data, np.array([5]))[0]["pixel_values"][0]
    np.testing.assert_array_equal(tested[:60], data[0][0])
    assert not tested[60:].any()


@pytest.fixture
def two_classes():
    """Noise that is louder in low or in high bands, at a level that tells nothing."""
    draw, clips, labels = np.random.default_rng(0), [], np.arange(48) % 2
    for i, label in enumerate(labels):
        clip = spectrogram(i, 40) + draw.normal() * 3
        clip[:, :40] += 4.0 * (1 - label)
        clip[:, 40:] += 4.0 * label
        clips.append([clip, clip[::2]])
    return clips, labels


def test_it_learns_and_a_seed_gives_the_same_network_again(two_classes, monkeypatch):
    monkeypatch.setitem(spectrogram_network.TRAINING, "per_device_train_batch_size", 8)
    clips, labels = two_classes
    network = SpectrogramNetwork(2, seed=0, num_epochs=6).fit(clips[:32], labels[:32])
    probabilities = network.probabilities(clips[32:])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (probabilities.argmax(axis=1) == labels[32:]).mean() > 0.8
    again = SpectrogramNetwork(2, seed=0, num_epochs=6).fit(clips[:32], labels[:32])
    np.testing.assert_array_equal(again.probabilities(clips[32:]), probabilities)
    other = SpectrogramNetwork(2, seed=1, num_epochs=6).fit(clips[:32], labels[:32])
    assert not np.array_equal(other.probabilities(clips[32:]), probabilities)
