"""A convolutional network on log-mel spectra, from scratch: what a network of the usual kind has of the same few clips.

The residual network is that of transformers (He et al. 2016, "Deep residual learning"). With so few clips it lives on their
variations: copies at other speeds (Ko et al. 2015), stretched in time, with formants moved (Jaitly and Hinton 2013, "Vocal
tract length perturbation"), in another tone colour, and with bands and moments left out (Park et al. 2019, "SpecAugment").
The sizes below were chosen on validation actors of RAVDESS.

Letters: N clips, S spectra of a clip, F bands, W spectra of a window.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset as Clips
from scipy.special import softmax
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments, set_seed

from vqmae_hf.data.prepared_clips import clip_arrays
from vqmae_hf.data.waveform_edits import change_speed
from vqmae_hf.experiments.features import SAMPLING_RATE, in_decibels, mel_spectra

WINDOW = 128  # spectra, 2.56 s
SPEEDS = (1.0, 0.85, 0.92, 1.08, 1.17)  # the clip itself first
STRETCH = 0.15  # durations are multiplied by up to exp(this), or divided
BANDS_MOVED, BANDS_WARPED = 3, 0.05  # by so many bands, and by this share of their number
TONE_POINTS, TONE_DEVIATION = 6, 0.4  # of a line over the bands, in deviations of a band
MASKS, MASKED_BANDS, MASKED_TIME = 2, 13, 1 / 6  # at most so many bands, and this share of the clip
SIZES = {"embedding_size": 32, "hidden_sizes": [32, 64, 128], "depths": [1, 1, 1], "layer_type": "basic"}
TRAINING = {
    "num_train_epochs": 100,
    "per_device_train_batch_size": 32,
    "per_device_eval_batch_size": 64,
    "learning_rate": 2e-3,
    "weight_decay": 0.05,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.15,
    "max_grad_norm": 5.0,
    "label_smoothing_factor": 0.1,
    "logging_strategy": "no",
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
}
DEBUG_EPOCHS = 1

Spectrogram = np.ndarray  # (S, F) float32


def log_mel_spectrograms(clips: Clips, speeds: Sequence[float] = SPEEDS) -> list[list[Spectrogram]]:
    """Decibels of the mel spectra of each clip at each speed, (S, F) float32.

    Raises:
        ValueError: a clip without sound.
    """
    spectrograms = []
    for i in range(len(clips)):
        waveform = clip_arrays(clips, i).waveform
        if waveform is None:
            raise ValueError(
                f"clip {clips['clip_id'][i]!r} has no sound, which a spectrogram_network listens to; prepare the clips with "
                'on_missing_audio="error".'
            )
        copies = (change_speed(waveform, SAMPLING_RATE, speed) for speed in speeds)
        spectrograms.append([in_decibels(mel_spectra(copy)).astype(np.float32) for copy in copies])
    return spectrograms


def save_spectrograms(spectrograms: Sequence[Sequence[Spectrogram]], folder: Path) -> None:
    """Write what `read_spectrograms` reads, in a new folder."""
    folder.mkdir(exist_ok=True)
    lengths = np.array([[len(copy) for copy in copies] for copies in spectrograms])
    np.save(folder / "lengths.npy", lengths)
    np.save(folder / "decibels.npy", np.concatenate([copy for copies in spectrograms for copy in copies]))


def read_spectrograms(folder: Path) -> list[list[Spectrogram]]:
    """N clips of (S, F) spectrograms at each speed."""
    lengths = np.load(folder / "lengths.npy")
    pieces = np.split(np.load(folder / "decibels.npy"), np.cumsum(lengths.ravel())[:-1])
    return [pieces[i : i + lengths.shape[1]] for i in range(0, lengths.size, lengths.shape[1])]


class SpectrogramWindows(Dataset):
    """Windows of standardised spectrograms as inputs of the network: `pixel_values` (1, W, F) float32, and `labels`.

    Args:
        spectrograms: N clips, each with copies, the clip itself first; standardised.
        labels: (N,) class numbers.
        seed: of the variations, drawn anew whenever an item is asked for; None yields the middle of the clips as they are.
    """

    def __init__(self, spectrograms: Sequence[Sequence[Spectrogram]], labels: np.ndarray, seed: int | None = None):
        self.spectrograms = spectrograms
        self.labels = labels
        self.draw = None if seed is None else np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> dict[str, torch.Tensor | int]:
        copies = self.spectrograms[i]
        if self.draw is None:
            window = cut_window(torch.from_numpy(copies[0]))
        else:
            copy = torch.from_numpy(copies[int(self.draw.integers(len(copies)))])
            window = mask_window(cut_window(vary(copy, self.draw), self.draw), self.draw)
        # Padded with the mean.
        padded = F.pad(window, (0, 0, 0, WINDOW - len(window)))
        return {"pixel_values": padded.unsqueeze(0), "labels": int(self.labels[i])}


def vary(spectrogram: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    """The same words, slower or faster, from another throat, in another room: (S, F) -> (S', F)."""
    S, bands = spectrogram.shape
    length = max(1, round(S * float(np.exp(draw.uniform(-STRETCH, STRETCH)))))
    stretched = F.interpolate(spectrogram[None, None], size=(length, bands), mode="bilinear", align_corners=False)[
        0, 0
    ]
    scale = float(np.exp(draw.uniform(-BANDS_WARPED, BANDS_WARPED)))
    places = torch.arange(bands) * scale + float(draw.uniform(-BANDS_MOVED, BANDS_MOVED))
    places = places.clamp(0, bands - 1)
    below = places.floor().long()
    above = (below + 1).clamp(max=bands - 1)
    share = places - below
    moved = stretched[:, below] * (1 - share) + stretched[:, above] * share
    tone = torch.from_numpy(draw.normal(scale=TONE_DEVIATION, size=TONE_POINTS).astype(np.float32))
    return moved + F.interpolate(tone[None, None], size=bands, mode="linear", align_corners=True)[0, 0]


def cut_window(spectrogram: torch.Tensor, draw: np.random.Generator | None = None) -> torch.Tensor:
    """At most W spectra, from anywhere or, without `draw`, from the middle: (S, F) -> (min(S, W), F)."""
    room = max(0, len(spectrogram) - WINDOW)
    start = room // 2 if draw is None else int(draw.integers(room + 1))
    return spectrogram[start : start + WINDOW]


def mask_window(window: torch.Tensor, draw: np.random.Generator) -> torch.Tensor:
    """A copy with some bands and some moments at the mean: (S, F) -> (S, F)."""
    S, bands = window.shape
    window = window.clone()
    for _ in range(MASKS):
        for length, longest, masked in ((bands, MASKED_BANDS, window.T), (S, round(S * MASKED_TIME), window)):
            width = int(draw.integers(min(longest, length) + 1))
            start = int(draw.integers(length - width + 1))
            masked[start : start + width] = 0
    return window


class SpectrogramNetwork:
    """A residual network, trained for a fixed number of epochs.

    Args:
        num_classes: of the labels.
        seed: of weights, order and variations.
        num_epochs: default: those of `TRAINING`.
    """

    def __init__(self, num_classes: int, seed: int, num_epochs: int | None = None):
        self.num_classes = num_classes
        self.seed = seed
        self.num_epochs = num_epochs or TRAINING["num_train_epochs"]

    def fit(self, spectrograms: Sequence[Sequence[Spectrogram]], labels: np.ndarray) -> "SpectrogramNetwork":
        """Train on N clips with copies, (S, F) decibels each, and their (N,) class numbers."""
        set_seed(self.seed)
        config = ResNetConfig(num_channels=1, num_labels=self.num_classes, **SIZES)
        model = ResNetForImageClassification(config)
        itself = np.concatenate([copies[0] for copies in spectrograms])
        # Of each band; one that never changes, as above the cut of a recording, stays at 0.
        self.mean, self.deviation = itself.mean(axis=0), np.maximum(itself.std(axis=0), 1e-3)
        data = SpectrogramWindows(self._standardised(spectrograms), labels, self.seed)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder, seed=self.seed, **{**TRAINING, "num_train_epochs": self.num_epochs}
            )
            self.trainer = Trainer(model, arguments, train_dataset=data)
            self.trainer.train()
        return self

    def probabilities(self, spectrograms: Sequence[Sequence[Spectrogram]]) -> np.ndarray:
        """(N, num_classes) of N clips, copies or not."""
        alone = self._standardised([copies[:1] for copies in spectrograms])
        answers = self.trainer.predict(SpectrogramWindows(alone, np.zeros(len(alone), dtype=np.int64)))
        return softmax(answers.predictions.astype(np.float64), axis=1)

    def _standardised(self, spectrograms: Sequence[Sequence[Spectrogram]]) -> list[list[Spectrogram]]:
        return [[(copy - self.mean) / self.deviation for copy in copies] for copies in spectrograms]
