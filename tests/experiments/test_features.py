import numpy as np
import pytest
import torch

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel
from vqmae_hf.data.token_store import TokenizerRecord
from vqmae_hf.experiments.features import (
    NUM_MELS,
    NUM_PARTS,
    _decoded_statistics,
    code_histograms,
    log_mel_dynamics,
    log_mel_statistics,
    log_spectrum_statistics,
    mean_code_vectors,
    pitch_track,
    statistics_over_time,
    voice_functionals,
)
from vqmae_hf.experiments.reference_systems import (
    CLASSIFIERS,
    choose_classifier,
    class_scores,
    majority_probabilities,
)


def tone(frequency, level=0.3, seconds=1.0):
    return (level * np.sin(2 * np.pi * frequency * np.arange(int(16000 * seconds)) / 16000)).astype(np.float32)


def test_mel_means_tell_pitch_and_level_and_variances_tell_change():
    low, high = log_mel_statistics(tone(300)), log_mel_statistics(tone(3000))
    assert low.shape == (2 * NUM_MELS,)
    assert low[:NUM_MELS].argmax() < high[:NUM_MELS].argmax()
    peak = low[:NUM_MELS].argmax()
    quieter = log_mel_statistics(tone(300, level=0.03))
    assert low[peak] - quieter[peak] == pytest.approx(20, abs=0.1)
    interrupted = log_mel_statistics(np.concatenate([tone(300), np.zeros(16000, np.float32)]))
    assert interrupted[NUM_MELS + peak] > 100 * low[NUM_MELS + peak]


def test_dynamics_tell_movement_from_spread_and_the_duration():
    # The same two tones, in the same shares: once in turn, once one after the other.
    low, high = tone(300, seconds=0.25), tone(3000, seconds=0.25)
    restless, calm = np.concatenate([low, high] * 5), np.concatenate([low] * 5 + [high] * 5)
    features, others = log_mel_dynamics(restless), log_mel_dynamics(calm)
    assert features.shape == (6 * NUM_MELS + 1,)
    mean, deviation, change, *percentiles = features[:-1].reshape(6, NUM_MELS)
    peak = mean.argmax()
    assert change[peak] > 2 * others[:-1].reshape(6, NUM_MELS)[2, peak]
    assert deviation[peak] == pytest.approx(others[:-1].reshape(6, NUM_MELS)[1, peak], rel=0.2)
    assert (np.diff(percentiles, axis=0) >= 0).all()
    assert features[-1] == others[-1] == pytest.approx(np.log(126))


def voice(pitch, level=0.3, seconds=1.0):
    """A buzz of ten harmonics; `pitch` in Hz, a number or one per sample."""
    hertz = np.broadcast_to(pitch, int(16000 * seconds))
    phase = 2 * np.pi * np.cumsum(hertz) / 16000
    return (level * sum(np.sin(k * phase) / k for k in range(1, 11))).astype(np.float32)


def test_pitch_is_found_in_octaves_and_bridges_what_has_none():
    octaves, voiced, _ = pitch_track(voice(240))
    assert voiced.mean() > 0.9
    np.testing.assert_allclose(octaves[voiced], 2, atol=0.02)  # two octaves above 60 Hz
    gap = np.concatenate([voice(120, seconds=0.5), np.zeros(8000, np.float32), voice(240, seconds=0.5)])
    octaves, voiced, _ = pitch_track(gap)
    assert not voiced[30:45].any()
    assert (np.diff(octaves[30:45]) > 0).all()  # a straight line from one octave to the next
    assert octaves[10] == pytest.approx(1, abs=0.02)
    octaves, voiced, _ = pitch_track(np.zeros(16000, np.float32))
    assert not voiced.any()
    assert not octaves.any()


def test_functionals_tell_the_course_of_pitch_and_loudness():
    rising = voice_functionals(voice(np.geomspace(120, 240, 16000)))
    falling = voice_functionals(voice(np.geomspace(240, 120, 16000)))
    start = 6 * 23
    course = rising[start : start + 3 * NUM_PARTS].reshape(NUM_PARTS, 3)
    assert course[0, 0] < 1.2 < 1.8 < course[-1, 0]
    assert (np.diff(course[:, 0]) > 0).all()
    # The same pitches in another order are told apart by their course alone.
    assert rising[0] == pytest.approx(falling[0], abs=0.05)
    quieter = voice_functionals(voice(np.geomspace(120, 240, 16000), level=0.03))
    assert rising[2] - quieter[2] == pytest.approx(20, abs=0.5)
    high = voice_functionals(voice(np.geomspace(240, 480, 16000)))
    assert high[0] - rising[0] == pytest.approx(1, abs=0.05)


def test_silence_and_very_short_clips_have_finite_features():
    for waveform in (np.zeros(16000, np.float32), tone(300, seconds=0.01)):
        assert np.isfinite(log_mel_statistics(waveform)).all()
        assert np.isfinite(log_mel_dynamics(waveform)).all()
        assert voice_functionals(waveform).shape == (6 * 23 + 3 * NUM_PARTS + 9,)
        assert np.isfinite(voice_functionals(waveform)).all()
    assert np.isfinite(log_spectrum_statistics(tone(300, seconds=0.1))).all()


def test_spectra_are_those_of_the_tokenizer_and_padding_does_not_count():
    features = log_spectrum_statistics(tone(1000, seconds=0.5))
    assert features.shape == (2 * 513,)
    assert features[:513].argmax() == 64
    # A steady tone has hardly any variance where it sounds; a padded window would have.
    assert features[513 + 64] < 30


def test_histograms_count_codes_by_position_or_not():
    clips = [np.array([0, 1, 0, 2], np.uint8), np.array([3, 3], np.uint8), np.array([], np.uint8)]
    np.testing.assert_allclose(code_histograms(clips, 4), [[0.5, 0.25, 0.25, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    apart = code_histograms(clips, 4, positions=2)
    np.testing.assert_allclose(apart[0], [1, 0, 0, 0, 0, 0.5, 0.5, 0])
    np.testing.assert_allclose(apart[1], [0, 0, 0, 1, 0, 0, 0, 1])


def test_mean_code_vectors_keep_places_apart_and_forget_the_order_of_steps():
    codebook = np.array([[0.0, 1.0], [10.0, 0.0], [20.0, 4.0]])
    codes = np.array([0, 1, 2, 1], np.uint8)  # two steps of two places
    np.testing.assert_allclose(mean_code_vectors(codes, codebook, 2), [10, 2.5, 10, 0])
    np.testing.assert_allclose(mean_code_vectors(codes[[2, 3, 0, 1]], codebook, 2), [10, 2.5, 10, 0])
    np.testing.assert_allclose(mean_code_vectors(codes[:0], codebook, 2), [0, 0, 0, 0])


def test_decoded_features_are_those_of_the_decoded_spectra():
    tokenizer = AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny")).eval()
    codes = torch.randint(0, tokenizer.config.codebook_size, (1, 20, tokenizer.config.codes_per_spectrum))
    info = type("Info", (), {"audio": TokenizerRecord("", tokenizer.config.codebook_size, (64,))})
    with torch.no_grad():
        expected = statistics_over_time(tokenizer.decode(codes)[0].numpy())
    np.testing.assert_allclose(_decoded_statistics(codes.numpy().ravel().astype(np.uint8), info, tokenizer), expected)


def separable(generator, count):
    labels = np.arange(count) % 3
    return labels[:, None] * np.array([10.0, -3.0]) + generator.normal(0, 0.5, (count, 2)), labels


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_is_perfect_where_classes_are_apart_whatever_their_scale(kind):
    generator = np.random.default_rng(0)
    (features, labels), (held_out, held_labels) = separable(generator, 60), separable(generator, 30)
    scale = np.array([1e4, 1e-4])
    choice = choose_classifier(kind, features * scale, labels, held_out * scale, held_labels)
    scores = class_scores(choice, held_out * scale, 4)
    assert (scores.argmax(axis=1) == held_labels).all()
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert (scores[:, 3] == 0).all()  # a class without a training clip
    assert choice.best_validation == 1.0


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_the_validation_clips_choose_the_strength(kind):
    generator = np.random.default_rng(1)
    # One weak dimension of truth among a hundred of noise: little regularisation fits the noise.
    labels = np.arange(60) % 2
    features = generator.normal(size=(60, 100))
    features[:, 0] += 1.5 * labels
    validation = generator.normal(size=(400, 100))
    validation_labels = np.arange(400) % 2
    validation[:, 0] += 1.5 * validation_labels
    choice = choose_classifier(kind, features, labels, validation, validation_labels)
    assert choice.strength in CLASSIFIERS[kind][1]
    assert choice.strength < max(CLASSIFIERS[kind][1])
    assert 0.55 < choice.best_validation < 1
    # Of two classes, the scores say which is likelier, as the classifier itself does.
    assert (class_scores(choice, validation, 2).argmax(axis=1) == choice.model.predict(validation)).all()


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_the_chosen_classifier_may_be_fitted_again_with_the_validation_clips(kind):
    generator = np.random.default_rng(2)
    (features, labels), (validation, validation_labels) = separable(generator, 30), separable(generator, 60)
    # Of the third class, validation clips alone tell.
    features, labels = features[labels < 2], labels[labels < 2]
    given = (kind, features, labels, validation, validation_labels)
    once, again = choose_classifier(*given), choose_classifier(*given, refit=True)
    assert (again.strength, again.best_validation) == (once.strength, once.best_validation)
    assert once.model[-1].classes_.tolist() == [0, 1]
    assert again.model[-1].classes_.tolist() == [0, 1, 2]
    np.testing.assert_allclose(again.model[0].mean_, np.concatenate([features, validation]).mean(axis=0))


def test_the_majority_class_is_that_of_the_training_labels():
    probabilities = majority_probabilities(np.array([1, 1, 2]), 4, 2)
    np.testing.assert_allclose(probabilities, [[0, 2 / 3, 1 / 3, 0]] * 2)
