"""What the tokenizers train on: spectra and frames drawn from prepared clips, each one alone.

Draws depend on the seed, the epoch and the clip and on nothing else, so that a run that is interrupted and resumed sees
what an uninterrupted one sees, in any number of worker processes.
"""

from collections.abc import Sequence

import numpy as np
import torch
from datasets import Dataset as ClipDataset
from torch.utils.data import Dataset, default_collate

from vqmae_hf.data.prepared_clips import clip_arrays
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor


class ClipSteps(Dataset):
    """Some steps (spectra or frames) of each clip, drawn anew in each epoch, or evenly spread and always the same.

    Args:
        clips: as of `prepare_clips`; those without the modality are left out.
        length_column: column that says whether a clip has the modality.
        steps_per_clip: n, steps in an item; from a shorter clip some are drawn twice.
        seed: of the draws.
        draw: random steps for training; False for validation: evenly spread ones.
    """

    def __init__(
        self, clips: ClipDataset, length_column: str, steps_per_clip: int, *, seed: int = 0, draw: bool = True
    ):
        present = np.flatnonzero(np.asarray(clips[length_column][:]) > 0)
        if not len(present):
            raise ValueError(
                f"none of the {len(clips)} clips has {length_column} above 0; there is nothing to train on."
            )
        self.clips = clips.select(present).with_format("arrow")
        self.steps_per_clip = steps_per_clip
        self.seed = seed
        self.draw = draw
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.clips)

    def choose_steps(self, i: int, num_steps: int) -> np.ndarray:
        """Steps (n,) of clip i, sorted, in 0 to num_steps - 1."""
        n = self.steps_per_clip
        if not self.draw:
            return np.linspace(0, num_steps - 1, n).round().astype(np.int64)
        generator = np.random.default_rng((self.seed, self.epoch, i))
        return np.sort(generator.choice(num_steps, n, replace=num_steps < n))


class ClipSpectra(ClipSteps):
    """Items `{"audio_values": (n, 513) float32}`, power spectra of peak-normalised clips."""

    def __init__(
        self, clips: ClipDataset, feature_extractor: AudioVQVAEFeatureExtractor, spectra_per_clip: int, **options
    ):
        super().__init__(clips, "num_samples", spectra_per_clip, **options)
        self.feature_extractor = feature_extractor

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        waveform = clip_arrays(self.clips, i).waveform
        spectra = self.feature_extractor(waveform, padding=False)["audio_values"][0]
        return {"audio_values": spectra[self.choose_steps(i, len(spectra))]}


class ClipFrames(ClipSteps):
    """Items `{"pixel_values_videos": (n, 3, H, W) float32}`."""

    def __init__(
        self, clips: ClipDataset, video_processor: VisualVQVAEVideoProcessor, frames_per_clip: int, **options
    ):
        super().__init__(clips, "num_frames", frames_per_clip, **options)
        self.video_processor = video_processor

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return self.__getitems__([i])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, torch.Tensor]]:
        """All frames of a batch in one call of the processor, whose cost is mostly per call."""
        frames = []
        for i in indices:
            clip = clip_arrays(self.clips, i).frames
            frames.append(clip[self.choose_steps(i, len(clip))])
        pixels = self.video_processor(frames, padding="longest")["pixel_values_videos"]
        return [{"pixel_values_videos": clip} for clip in pixels]


def first_batch(data: ClipSteps, num_clips: int = 64) -> dict[str, torch.Tensor]:
    """Clips from all over the data as one batch: the same in every process, however the batches are dealt later."""
    spread = np.linspace(0, len(data) - 1, min(num_clips, len(data))).round().astype(int)
    return default_collate([data[int(i)] for i in spread])
