"""What MDVAE trains on: windows of a latent store.

Draws depend on the seed, the epoch and the clips of the batch and on nothing else, as those of `token_batches`.

Letters: B windows of a batch, T frames (one spectrum each), D features of a frame.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset as LatentStore

from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.training.token_batches import Item, TokenWindows, WindowCutter, batch_generator, split_lists


class FeatureCutter(WindowCutter):
    """Cuts windows out of the features of a clip, as far as it has those of every modality of the model."""

    content = "features"

    def length(self, num_frames: np.ndarray | int, num_spectra: np.ndarray | int) -> np.ndarray:
        """Frames of clips: those that are both seen and heard, where the model sees and hears."""
        steps = {"audio": num_spectra, "visual": num_frames}
        return np.min([np.asarray(steps[name]) for name in self.modalities], axis=0)

    def step_shape(self, modality: str) -> tuple[int, ...]:
        """(D,)."""
        return (getattr(self.config, f"{modality}_feature_size"),)


class LatentWindows(TokenWindows):
    """Windows of the training length (1 s in MDVAE) cut from the clips of a latent store.

    Items: `audio_features` (T, D) and `visual_features` (T, D) in the precision of the store, those of the model's
    modalities, shorter than the window where the clip is; `label`, `visit` and `training` as of `TokenWindows`, whose
    arguments this takes. Clips that lack a modality of the model are left out.
    """

    cutter_class = FeatureCutter


class FeatureCollator:
    """Items of `LatentWindows` as inputs of an `MDVAEModel` or of its classifier.

    | key | shape | when |
    |---|---|---|
    | `audio_features`, `visual_features` | (B, T, D) float32, zeros at padding | the model has the modality |
    | `audio_attention_mask`, `visual_attention_mask` | (B, T) int64, 1 real, 0 padding | some clip is shorter |
    | `labels` | (B,) int64 | `with_labels` |

    Args:
        num_frames: T; None: as many as the longest item has.
        with_labels: for the classifier.
    """

    def __init__(self, num_frames: int | None = None, *, with_labels: bool = False):
        self.num_frames = num_frames
        self.with_labels = with_labels

    def __call__(self, items: list[Item]) -> dict[str, Any]:
        """The table above."""
        batch: dict[str, Any] = {}
        for name in ("audio", "visual"):
            if f"{name}_features" in items[0]:
                values, mask = pad_features([item[f"{name}_features"] for item in items], self.num_frames)
                batch[f"{name}_features"] = values
                if not mask.all():
                    batch[f"{name}_attention_mask"] = mask
        if self.with_labels:
            batch["labels"] = torch.tensor([item["label"] for item in items])
        return batch


class VariationalCollator(FeatureCollator):
    """Adds `sample`, True, also in validation, whose loss is that of samples; and `generator`, the source of the noise: the
    same whenever the same batch comes again.

    The generator stands last, since accelerate reads the batch size off the first entry.
    """

    def __init__(self, num_frames: int | None = None, seed: int = 0):
        super().__init__(num_frames)
        self.seed = seed

    def __call__(self, items: list[Item]) -> dict[str, Any]:
        draw = batch_generator(self.seed, items)
        generator = torch.Generator().manual_seed(int(draw.integers(2**63)))
        return {**super().__call__(items), "sample": True, "generator": generator}


def pad_features(windows: Sequence[np.ndarray], num_frames: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows (T_i, D) as float32 (B, T, D), zeros at the end, and their mask (B, T) int64; T is the longest by default."""
    longest = max(map(len, windows)) if num_frames is None else num_frames
    values = np.zeros((len(windows), longest, windows[0].shape[1]), dtype=np.float32)
    mask = np.zeros((len(windows), longest), dtype=np.int64)
    for row, window in enumerate(windows):
        values[row, : len(window)] = window
        mask[row, : len(window)] = 1
    return torch.from_numpy(values), torch.from_numpy(mask)


def feature_scales(store: LatentStore, config: MDVAEConfig, clips_at_once: int = 64) -> dict[str, float]:
    """Root mean square deviation of the features of each modality of a model from their means over a store.

    One number per modality: the quantizers compare Euclidean distances, so the features of a modality keep their
    proportions.

    Raises:
        ValueError: a modality whose features never change.
    """
    scales = {}
    rows = store.with_format("arrow")
    for name in config.modalities:
        size = getattr(config, f"{name}_feature_size")
        count, total, squares = 0, np.zeros(size), np.zeros(size)
        for start in range(0, len(rows), clips_at_once):
            for values in split_lists(rows[start : start + clips_at_once][f"{name}_features"]):
                frames = values.reshape(-1, size).astype(np.float64)
                count += len(frames)
                total += frames.sum(axis=0)
                squares += np.square(frames).sum(axis=0)
        variance = float(np.mean(squares / max(count, 1) - np.square(total / max(count, 1))))
        if not variance > 0:
            raise ValueError(
                f"the {name} features of {len(store)} clips never change; there is nothing to learn from."
            )
        scales[name] = variance**0.5
    return scales
