"""Waveforms to power spectra."""

import numpy as np
import pytest
import torch

from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor, power_spectrogram


@pytest.fixture(scope="module")
def extractor():
    return AudioVQVAEFeatureExtractor()


def tone(seconds=2.0, frequency=440.0, rate=16000):
    time = np.arange(round(seconds * rate)) / rate
    return (0.3 * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def noise(samples, seed=0):
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)


@pytest.mark.shared
@pytest.mark.parametrize("recording", ["grid", "synthetic"])
@pytest.mark.parametrize("hop_length", [320, 533])
def test_spectra_are_the_recorded_ones_in_every_bin(shared_dir, recording, hop_length):
    reference = torch.load(shared_dir / "parity/stft.pt", weights_only=True)[recording]
    spectra = power_spectrogram(reference["wav"], hop_length=hop_length)
    torch.testing.assert_close(spectra, reference[f"power_hop{hop_length}"], rtol=1e-6, atol=0)


@pytest.mark.shared
def test_the_extractor_gives_the_recorded_spectra_centred_inside_the_waveform(shared_dir, extractor):
    reference = torch.load(shared_dir / "parity/stft.pt", weights_only=True)["synthetic"]
    values = extractor(0.01 * reference["wav"], padding=False)["audio_values"][0]
    assert len(reference["wav"]) == 150 * 320  # the recorded spectrum 150 is centred on the first sample after the end
    torch.testing.assert_close(values, reference["power_hop320"][:150], rtol=1e-5, atol=1e-5)


def test_a_spectrum_is_the_windowed_fourier_transform():
    samples, hop_length, t = noise(4000).astype(np.float64), 320, 5
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    by_hand = np.abs(np.fft.rfft(window * samples[t * hop_length - 512 : t * hop_length + 512])) ** 2
    np.testing.assert_allclose(power_spectrogram(samples, hop_length=hop_length)[t].numpy(), by_hand, rtol=1e-6)


@pytest.mark.parametrize("t", [0, 3, 12, 24])
def test_a_spectrum_depends_on_the_samples_around_its_centre_only(t):
    samples = noise(8000)
    far = np.abs(np.arange(8000) - t * 320) > 512
    assert torch.equal(power_spectrogram(np.where(far, 5.0, samples))[t], power_spectrogram(samples)[t])
    near = np.abs(np.arange(8000) - t * 320) < 256
    assert not torch.allclose(power_spectrogram(np.where(near, 5.0, samples))[t], power_spectrogram(samples)[t])


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 31999, 32000, 32001, 640 * 7])
def test_there_is_one_spectrum_for_each_begun_hop(extractor, samples):
    features = extractor(noise(samples), padding=False)
    assert features["audio_values"][0].shape == (-(-samples // 320), 513)
    assert features["audio_attention_mask"][0].tolist() == [1] * -(-samples // 320)


def test_two_seconds_are_exactly_one_window(extractor):
    features = extractor(noise(32000))
    assert features["audio_values"].shape == (1, 100, 513)
    assert features["audio_attention_mask"].sum() == 100
    assert features["audio_values"].dtype == torch.float32


@pytest.mark.parametrize("scale", [1e-6, 0.3, 32768.0])
def test_loudness_does_not_matter(extractor, scale):
    reference = extractor(tone())["audio_values"]
    values = extractor(tone() * np.float32(scale))["audio_values"]
    torch.testing.assert_close(values, reference, rtol=1e-3, atol=1e-5 * reference.max().item())


def test_the_peak_of_the_whole_clip_normalises(extractor):
    quiet, loud = 0.1 * tone(1.0), tone(1.0)
    both = extractor(np.concatenate([quiet, loud]))["audio_values"][0]
    assert both[20].max().item() == pytest.approx(0.01 * both[80].max().item(), rel=1e-3)


def test_the_energy_lies_at_the_frequency_of_a_tone(extractor):
    values = extractor(tone(frequency=1000.0))["audio_values"][0]
    assert (values[5:95].argmax(-1) == round(1000 / 16000 * 1024)).all()


def test_silence_stays_silent(extractor):
    features = extractor(np.zeros(32000, dtype=np.float32))
    assert features["audio_values"].eq(0).all()
    assert features["audio_attention_mask"].eq(1).all()


def test_short_clips_are_padded_to_the_window_and_masked(extractor):
    features = extractor([noise(32000), noise(3200)])
    alone = extractor(noise(3200), padding=False)["audio_values"][0]
    assert features["audio_attention_mask"].sum(1).tolist() == [100, 10]
    assert torch.equal(features["audio_values"][1, :10], alone)
    assert features["audio_values"][1, 10:].eq(0).all()


def test_long_clips_keep_their_length(extractor):
    features = extractor([noise(64000), noise(3200)])
    assert features["audio_values"].shape == (2, 200, 513)
    assert features["audio_attention_mask"].sum(1).tolist() == [200, 10]


def test_longest_pads_to_the_longest_clip(extractor):
    assert extractor([noise(6400), noise(3200)], padding="longest")["audio_values"].shape == (2, 20, 513)


def test_a_batch_gives_what_its_clips_give_alone(extractor):
    clips = [noise(9000, seed) for seed in range(3)]
    batch = extractor(clips)["audio_values"]
    for row, clip in zip(batch, clips, strict=True):
        assert torch.equal(row, extractor(clip)["audio_values"][0])


@pytest.mark.parametrize(
    "kind",
    [
        torch.from_numpy,
        np.ndarray.tolist,
        lambda x: x.astype(np.float64),
        lambda x: np.stack([x, x], 1)[:, 0],
        lambda x: x[::-1].copy()[::-1],
        lambda x: [x],
        lambda x: [torch.from_numpy(x)],
        lambda x: (x.tolist(),),
    ],
    ids=["tensor", "list", "float64", "strided", "reversed", "batch", "tensor batch", "nested lists"],
)
def test_every_kind_of_waveform_gives_the_same(extractor, kind):
    samples = noise(5000)
    assert torch.equal(extractor(kind(samples))["audio_values"], extractor(samples)["audio_values"])


def test_inputs_are_not_changed_and_may_be_read_only(extractor):
    samples = noise(5000)
    before = samples.copy()
    samples.flags.writeable = False
    extractor(samples)
    assert np.array_equal(samples, before)


def test_numpy_output(extractor):
    features = extractor([noise(5000), noise(900)], return_tensors="np")
    assert all(isinstance(value, np.ndarray) for value in features.values())
    ragged = extractor([noise(5000), noise(900)], return_tensors="np", padding=False)
    assert [clip.shape for clip in ragged["audio_values"]] == [(16, 513), (3, 513)]


def test_the_mask_can_be_left_out(extractor):
    assert set(extractor(noise(900), return_attention_mask=False)) == {"audio_values"}


def test_saved_and_loaded_gives_the_same(tmp_path):
    extractor = AudioVQVAEFeatureExtractor(hop_length=533, num_spectra=30)
    extractor.save_pretrained(tmp_path)
    loaded = AudioVQVAEFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict()
    assert torch.equal(loaded(noise(9000))["audio_values"], extractor(noise(9000))["audio_values"])


def test_sizes_given_when_loading_cannot_contradict_each_other(tmp_path):
    AudioVQVAEFeatureExtractor().save_pretrained(tmp_path)
    loaded = AudioVQVAEFeatureExtractor.from_pretrained(tmp_path, n_fft=512)
    assert loaded.feature_size == 257
    assert loaded(noise(900))["audio_values"].shape[-1] == 257


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ("clip.wav", r"audio: found str.*load_clip"),
        (["clip.wav"], r"audio\[0\]: found str.*load_clip"),
        (b"RIFF", r"audio: found bytes.*load_clip"),
        ([], r"audio: found an empty list.*at least one"),
        (np.zeros(0, np.float32), r"audio\[0\]: found no samples.*N >= 1"),
        ([noise(900), []], r"audio\[1\]: found no samples"),
        (np.float32(1.0), r"audio: found float32"),
        (
            noise(1800).reshape(2, 900),
            r"audio\[0\]: found shape \(2, 900\).*one channel \(N,\).*mean.*list of waveforms",
        ),
        (noise(1800).reshape(900, 2), r"found shape \(900, 2\)"),
        (torch.zeros(1, 2, 900), r"found shape \(1, 2, 900\)"),
        (np.ones(900, np.int16), r"dtype int16.*floating-point.*32768"),
        (torch.ones(900, dtype=torch.uint8), r"dtype torch.uint8.*floating-point"),
        (np.ones(900, complex), r"dtype complex128"),
        (np.array([0.1, np.nan, np.inf]), r"found 2 NaN or infinite of 3 samples.*nan_to_num"),
        ([noise(9), torch.tensor([float("nan")])], r"audio\[1\]: found 1 NaN or infinite"),
        ({"array": noise(9)}, r"audio: found dict"),
    ],
)
def test_refused_waveforms_are_named_with_a_remedy(extractor, audio, message):
    with pytest.raises(ValueError, match=message):
        extractor(audio)


def test_another_sampling_rate_is_refused(extractor):
    with pytest.raises(ValueError, match=r"sampling_rate: found 44100 Hz.*16000 Hz only.*load_clip"):
        extractor(noise(900), sampling_rate=44100)
    extractor(noise(900), sampling_rate=16000)


@pytest.mark.parametrize(
    "sizes", [{"n_fft": 1023}, {"n_fft": 0}, {"hop_length": 0}, {"num_spectra": 0}, {"sampling_rate": -1}]
)
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match=next(iter(sizes))):
        AudioVQVAEFeatureExtractor(**sizes)
