"""Pictures and sound of the synthetic faces say what the factors say."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from vqmae_hf.data.media import read_media, write_clip
from vqmae_hf.data.synthetic import DEFAULT_EMOTIONS, ClipKey, make_clip
from vqmae_hf.data.synthetic.face_renderer import render_face
from vqmae_hf.data.synthetic.factors import noise_generator
from vqmae_hf.data.synthetic.voice_synthesizer import SAMPLING_RATE, synthesize_voice

SAMPLES_PER_FRAME = 640
KEYS = [ClipKey(index, emotion, index % 2) for index, emotion in enumerate(DEFAULT_EMOTIONS)]


@pytest.fixture(scope="module")
def clips():
    return {key: make_clip(key) for key in KEYS}


def energy(waveform: np.ndarray) -> np.ndarray:
    """Root mean square of each frame's samples, (T,)."""
    return np.sqrt((waveform.reshape(-1, SAMPLES_PER_FRAME) ** 2).mean(1))


def correlation(first, second) -> float:
    return float(np.corrcoef(first, second)[0, 1])


def measured_pitch(waveform: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Pitch around the centre of each frame from the autocorrelation of 64 ms, (T,)."""
    window = np.hanning(1024)
    padded = np.pad(waveform, 1024)
    starts = 1024 + SAMPLES_PER_FRAME // 2 - 512 + SAMPLES_PER_FRAME * np.arange(len(waveform) // SAMPLES_PER_FRAME)
    blocks = np.stack([padded[start : start + 1024] for start in starts]) * window
    correlations = np.fft.irfft(np.abs(np.fft.rfft(blocks, 4096)) ** 2)
    correlations /= np.fft.irfft(np.abs(np.fft.rfft(window, 4096)) ** 2).clip(1e-3)
    shortest, longest = int(SAMPLING_RATE / high_hz), int(SAMPLING_RATE / low_hz)
    return SAMPLING_RATE / (shortest + correlations[:, shortest:longest].argmax(1))


def dark_pixels_of_the_mouth(frames: np.ndarray) -> np.ndarray:
    """(T,) number of pixels as dark as the hole of an open mouth, in the lower middle of the face."""
    side = frames.shape[1]
    region = frames[:, int(0.62 * side) : int(0.82 * side), int(0.36 * side) : int(0.64 * side)].mean(-1)
    return (region < 70).sum((1, 2))


def test_the_same_key_gives_the_same_clip_and_another_key_another():
    first, again = make_clip(KEYS[0], num_frames=25), make_clip(KEYS[0], num_frames=25)
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.waveform, again.waveform)
    other = make_clip(replace(KEYS[0], clip_index=3), num_frames=25)
    assert not np.array_equal(first.frames, other.frames)


def test_sizes_rates_and_levels(clips):
    for clip in clips.values():
        assert clip.frames.shape == (50, 128, 128, 3)
        assert clip.frames.dtype == np.uint8
        assert clip.waveform.shape == (50 * SAMPLES_PER_FRAME,)
        assert clip.waveform.dtype == np.float32
        assert 0.02 < np.abs(clip.waveform).max() < 0.95  # audible and not clipped


def test_mouth_and_sound_move_together(clips):
    """One trajectory opens the mouth and makes the sound; shifted by two frames they no longer fit."""
    in_step, late = [], []
    for clip in clips.values():
        opening, sound = clip.factors.frames.mouth_opening, np.sqrt(energy(clip.waveform))
        in_step.append(correlation(opening, sound))
        late.append(correlation(opening[:-2], sound[2:]))
    assert min(in_step) > 0.75
    assert np.mean(in_step) > 0.85
    assert np.mean(late) < np.mean(in_step) - 0.3


@pytest.mark.parametrize("key", [ClipKey(3, "neutral", 0), ClipKey(11, "happy", 0)])
def test_mouth_opens_in_the_picture(key):
    clip = make_clip(key)
    assert clip.factors.speaker.skin_tone < 0.2  # on fair skin nothing else is dark there
    assert correlation(clip.factors.frames.mouth_opening, dark_pixels_of_the_mouth(clip.frames)) > 0.85


def test_pitch_is_that_of_the_table(clips):
    errors = []
    for clip in clips.values():
        frames = clip.factors.frames
        clear = (frames.voicing > 0.99) & (frames.mouth_opening > 0.25)
        truth = frames.pitch_hz[clear]
        found = measured_pitch(clip.waveform, 0.7 * truth.min(), 1.4 * truth.max())[clear]
        errors.append(np.abs(found / truth - 1.0))
    assert np.median(np.concatenate(errors)) < 0.015
    assert (np.concatenate(errors) < 0.05).mean() > 0.8


def test_formants_are_those_of_the_table(clips):
    """Power gathers at the second formant: a front vowel has it high, a back vowel low."""
    clip = clips[KEYS[3]]
    speaker, factors, frames = clip.factors
    ones = np.ones(50, np.float32)

    def spectrum(f2):
        still = replace(frames, voicing=ones, loudness=ones, frication=0 * ones, breath=0 * ones, f1_hz=400 * ones)
        still = replace(still, f2_hz=f2 * ones, f3_hz=2800 * ones, pitch_hz=100 * ones)
        voice = synthesize_voice(speaker, replace(factors, formant_scale=1.0), still, np.random.default_rng(0))
        return np.abs(np.fft.rfft(voice[8000:24000])) ** 2  # 1 Hz per bin

    back, front = spectrum(900.0), spectrum(2100.0)
    assert back[800:1000].sum() > 5 * back[1900:2300].sum()
    assert front[2000:2200].sum() > 2 * front[1300:1500].sum()


def test_a_shaken_voice_brightens_with_its_jitter_and_stays_as_loud(clips):
    key = KEYS[0]
    usual, shaken = clips[key], make_clip(key, jitter_scale=4.0, jitter_tilt_db=4.0)
    assert np.array_equal(shaken.frames, usual.frames)
    steady, frames = usual.factors.frames, shaken.factors.frames
    np.testing.assert_allclose(frames.jitter, 4 * steady.jitter, atol=1e-4)
    same = replace(frames, pitch_hz=steady.pitch_hz)
    power = [
        np.square(np.abs(np.fft.rfft(voice.reshape(50, 640), axis=1)))
        for voice in (
            synthesize_voice(*shaken.factors[:2], same, noise_generator(key, 0), jitter_tilt_db=db)
            for db in (4.0, 0.0)
        )
    ]
    voiced = (frames.voicing > 0.99) & (frames.mouth_opening > 0.2)
    bands = [10 * np.log10(p[:, 80:160].sum(1) / p[:, 10:20].sum(1)) for p in power]  # 2-4 kHz against 250-500 Hz
    assert correlation((bands[0] - bands[1])[voiced], frames.jitter[voiced]) > 0.9
    levels = [10 * np.log10(p[:, :160].sum(1)) for p in power]
    assert np.abs(levels[0] - levels[1])[voiced].mean() < 0.3 * np.abs(bands[0] - bands[1])[voiced].mean()


def test_arousal_is_heard_and_head_motion_is_not(clips):
    speaker, factors, frames = clips[KEYS[0]].factors

    def voice(**changes):
        changed = replace(factors, **changes)
        return synthesize_voice(speaker, changed, frames, noise_generator(KEYS[0], 0))

    def brightness(waveform):
        power = np.abs(np.fft.rfft(waveform)) ** 2
        return power[2000:].sum() / power.sum()  # above 1 kHz

    assert energy(voice(loudness_db=6.0)).max() > 1.5 * energy(voice(loudness_db=0.0)).max()
    assert brightness(voice(tilt_db=-6.0)) > 2 * brightness(voice(tilt_db=-16.0))
    moved = replace(frames, head_x=frames.head_x + 0.02, gaze_x=-frames.gaze_x, eye_opening=0 * frames.eye_opening)
    assert np.array_equal(
        synthesize_voice(speaker, factors, moved, noise_generator(KEYS[0], 0)),
        synthesize_voice(speaker, factors, frames, noise_generator(KEYS[0], 0)),
    )


def test_sound_factors_are_not_seen(clips):
    speaker, factors, frames = clips[KEYS[0]].factors
    heard = replace(frames, pitch_hz=2 * frames.pitch_hz, breath=frames.breath + 0.5, loudness=0 * frames.loudness)
    assert np.array_equal(render_face(speaker, factors, heard), clips[KEYS[0]].frames)


@pytest.mark.parametrize("factor", ["mouth_corner", "brow_inner", "eye_aperture"])
def test_expression_is_seen_at_the_size_of_the_tokenizer(clips, factor):
    """At 64 pixels the strongest change is many times what the video codec does."""
    speaker, clip, frames = clips[KEYS[4]].factors
    low, high = (
        render_face(speaker, replace(clip, **{factor: value}), frames, 64)[:5].astype(float)
        for value in ((-0.9, 0.9) if factor != "eye_aperture" else (0.75, 1.25))
    )
    assert np.abs(high - low).mean(-1).max() > 40


def test_detector_finds_exactly_one_face_after_the_codec(tmp_path):
    detector = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml")
    found = []
    for index in range(12):
        clip = make_clip(ClipKey(index, DEFAULT_EMOTIONS[index % 6], index % 4), num_frames=30)
        path = write_clip(tmp_path / f"{index}.mp4", clip.frames, clip.waveform)
        for image in read_media(path).frames[::6]:
            gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            found.append(len(detector.detectMultiScale(gray, 1.1, 3, minSize=(32, 32))))
    assert found == [1] * 60


def test_speakers_look_and_sound_different():
    speakers = [make_clip(ClipKey(index, "neutral", 0), num_frames=25) for index in range(4)]
    for i, first in enumerate(speakers):
        for second in speakers[:i]:
            assert np.abs(first.frames[0].astype(float) - second.frames[0]).mean() > 5
    low, high = (np.median(s.factors.frames.pitch_hz) for s in speakers[:2])
    assert high > 1.3 * low


def test_a_wrong_image_size_is_refused(clips):
    with pytest.raises(ValueError, match="image_size is 65; choose an even number"):
        render_face(*clips[KEYS[0]].factors, image_size=65)
