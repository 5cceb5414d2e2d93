"""Silence is cut off at the ends of sound alone; another speed moves pitch and length together."""

import numpy as np
import pytest
from media_by_hand import RATE, tone

from vqmae_hf.data.clip_streaming import stream_clip
from vqmae_hf.data.clips import load_clip
from vqmae_hf.data.media import write_clip
from vqmae_hf.data.waveform_edits import change_speed, trim_silence


def silence(seconds):
    return np.zeros(round(seconds * RATE), np.float32)


def pitch(waveform):
    """The strongest frequency, in Hz."""
    spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform))))
    return np.argmax(spectrum) * RATE / len(waveform)


def test_what_is_loud_is_kept_with_a_margin_and_nothing_within_it_is_lost():
    loud, quiet = tone(0.3), 10 ** (-25 / 20) * tone(0.3)
    waveform = np.concatenate([silence(1.0), loud, silence(0.4), quiet, silence(0.7)])
    kept = trim_silence(waveform, RATE, 35)
    # The frames that tell overlap the edges by up to 32 ms and lie 20 ms apart.
    assert len(kept) / RATE == pytest.approx(1.0 + 2 * 0.08, abs=0.1)
    start = np.flatnonzero(waveform == kept[np.argmax(np.abs(kept) > 0)])[0] - np.argmax(np.abs(kept) > 0)
    np.testing.assert_array_equal(kept, waveform[start : start + len(kept)])
    assert start / RATE < 0.95
    assert (start + len(kept)) / RATE > 2.05
    # 25 dB below the loudest is not within 20 dB of it.
    assert len(trim_silence(waveform, RATE, 20)) / RATE == pytest.approx(0.3 + 2 * 0.08, abs=0.1)


def test_nothing_is_cut_off_what_is_equally_loud_all_over():
    for waveform in (tone(0.5), silence(0.5), tone(0.01)):
        np.testing.assert_array_equal(trim_silence(waveform, RATE, 35), waveform)


@pytest.mark.parametrize("factor", [0.9, 1.1, 1.5])
def test_speed_moves_length_and_pitch_together(factor):
    waveform = tone(1.0, 400)
    changed = change_speed(waveform, RATE, factor)
    assert changed.dtype == np.float32
    assert len(changed) == pytest.approx(len(waveform) / factor, abs=1)
    assert pitch(changed) == pytest.approx(400 * factor, abs=1.5)
    assert np.abs(changed).max() == pytest.approx(0.5, abs=0.05)
    assert change_speed(waveform, RATE, 1) is waveform


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A file that is heard, and one that is heard and seen."""
    folder = tmp_path_factory.mktemp("trimmed")
    sound = np.concatenate([silence(0.8), tone(0.6), silence(0.6)])
    frames = np.zeros((50, 32, 32, 3), np.uint8)
    return write_clip(folder / "heard.m4a", None, sound), write_clip(folder / "seen.mp4", frames, sound)


def test_sound_alone_is_trimmed_as_it_is_loaded(paths):
    for path in paths:
        whole = load_clip(path, modalities=("audio",)).waveform
        trimmed = load_clip(path, modalities=("audio",), trim_silence_db=35).waveform
        assert len(whole) / RATE == pytest.approx(2.0, abs=0.1)
        np.testing.assert_array_equal(trimmed, trim_silence(whole, RATE, 35))
        assert len(trimmed) / RATE == pytest.approx(0.6 + 2 * 0.08, abs=0.15)


def test_trimming_is_refused_beside_pictures_and_in_streams(paths):
    with pytest.raises(ValueError, match=r'trim_silence_db: found 35 beside pictures.*modalities=\("audio",\)'):
        load_clip(paths[1], trim_silence_db=35)
    with pytest.raises(ValueError, match="trim_silence_db: found 35; streams are not trimmed"):
        stream_clip(paths[0], modalities=("audio",), trim_silence_db=35)
    for wrong in (0, -35, True, "35", float("nan")):
        with pytest.raises(ValueError, match=r"trim_silence_db: found .*accepted is a number of dB above 0"):
            load_clip(paths[0], modalities=("audio",), trim_silence_db=wrong)
