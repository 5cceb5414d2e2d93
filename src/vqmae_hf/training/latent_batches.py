"""What MDVAE trains on: windows of a latent store.

Draws depend on the seed, the epoch and the clips of the batch and on nothing else, as those of `token_batches`.

Letters: B windows of a batch, T frames (one spectrum each), D features of a frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from datasets import Dataset as LatentStore

from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.mdvae_inference import DynamicLatent
from vqmae_hf.modeling.modeling_mdvae import CONDITIONS, MDVAEModel
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


# Directions in which features deviate most that training starts from: 99.9 % of the variance of faces in the synthetic
# corpus, 95 % of that of voices.
NUM_COMPONENTS = 96
# Evenly spaced among all; more hardly change the components and take minutes.
MOST_CLIPS_OF_STATISTICS = 1000
# As a share of the largest: below, what is seen in units of its own deviation is the rounding of the store.
SMALLEST_VARIANCE = 1e-4
# Of the random last layer, whose inputs are small at first.
OUTPUT_GAIN = 1.5
# By how much the means of w are wider than random weights make them, and the logarithm of its variance is lower.
STATIC_GAIN, STATIC_CERTAINTY = 4.0, 4.0


class FeatureStatistics(NamedTuple):
    """
    Features of one modality.

    Attributes:
        mean: (D,) float64.
        spread, movement: root mean square deviations, from it, and from the mean of their own clip.
        components: (D, K) float64, principal components, each as long as the deviation along it, the longest first.
    """

    mean: np.ndarray
    spread: float
    movement: float
    components: np.ndarray


def feature_statistics(
    store: LatentStore, config: MDVAEConfig, clips_at_once: int = 64
) -> dict[str, FeatureStatistics]:
    """What training starts from, of each modality of a model.

    Deviations are one number each: the quantizers compare Euclidean distances, so the features of a modality keep their
    proportions.

    Raises:
        ValueError: a modality whose features never move.
    """
    statistics = {}
    chosen = np.unique(np.linspace(0, max(len(store) - 1, 0), MOST_CLIPS_OF_STATISTICS).astype(int))[: len(store)]
    rows = store.select(chosen).with_format("arrow")
    for name in config.modalities:
        size = getattr(config, f"{name}_feature_size")
        count, total, products, movement = 0, np.zeros(size), np.zeros((size, size)), 0.0
        for start in range(0, len(rows), clips_at_once):
            for values in split_lists(rows[start : start + clips_at_once][f"{name}_features"]):
                frames = values.reshape(-1, size).astype(np.float64)
                if len(frames):
                    count += len(frames)
                    total += frames.sum(axis=0)
                    products += frames.T @ frames
                    movement += float(np.square(frames - frames.mean(axis=0)).sum())
        if not movement > 0:
            raise ValueError(f"the {name} features of {len(store)} clips never move; there is nothing to learn from.")
        mean = total / count
        covariance = products / count - np.outer(mean, mean)
        spread, moves = (
            max(variance, 0.0) ** 0.5 for variance in (np.trace(covariance) / size, movement / (count * size))
        )
        statistics[name] = FeatureStatistics(mean, spread, moves, principal_components(covariance))
    return statistics


def principal_components(covariance: np.ndarray, most: int = NUM_COMPONENTS) -> np.ndarray:
    """(D, D) to (D, K): directions of the largest variance, as long as the deviation along them; none without variance."""
    variances, directions = np.linalg.eigh(covariance)
    largest = np.argsort(variances)[::-1][:most]
    largest = largest[variances[largest] > SMALLEST_VARIANCE * variances.max()]
    return directions[:, largest] * np.sqrt(variances[largest])


@torch.no_grad()
def start_from_statistics(
    model: MDVAEModel, statistics: Mapping[str, FeatureStatistics], *, scale: bool = True
) -> None:
    """Have an untrained model take features from their means, by their principal components, and decode the means from
    nothing.

    Without the means, the biases travel to them in small steps while everything else follows their errors; and where the
    means are many times what moves, an untrained encoder answers all clips alike.

    The first layers see what a component says in units of its own deviation, so that what moves, a twentieth of the
    variance of faces, is seen as well as who they are; the last layers decode components as long as they are. From random
    weights it takes hundreds of steps to find these directions.

    Errors count in units of what moves within a clip, by the weight of the modality. Nearly all of the variance of faces is
    between people (19 parts in 20 in the synthetic corpus, 1 in 10 of that of voices): with errors in units of all variance,
    no latent of a frame would pay for itself; and inputs in units of what moves are so large that the first steps of Adam
    leave an encoder that answers all clips alike.

    Args:
        model: changed in place.
        statistics: by modality.
        scale: False leaves units, weights and components alone.
    """
    for name, (mean, spread, movement, components) in statistics.items():
        if scale:
            setattr(model.config, f"{name}_feature_scale", spread)
            weight = getattr(model.config, f"{name}_loss_weight") * (spread / movement) ** 2
            setattr(model.config, f"{name}_loss_weight", weight)
        decoder: Any = model.decoders[name]
        if decoder.positive:
            continue
        units = getattr(model.config, f"{name}_feature_scale")
        center, axes = (torch.from_numpy(values / units).float() for values in (mean, components))
        if scale:
            start_from_components(model, name, axes)
        decoder.output.bias.copy_(center)
        for weight, bias in layers_of_features(model, name):
            bias.sub_(weight @ center)
    if scale:
        start_static_latent(model)


def start_static_latent(model: MDVAEModel) -> None:
    """
    Have samples of w stand out from their noise, so that decoders listen to it from the first steps; those of the other
    latents are noise at first. So what a clip keeps is learned by w before the latents of its frames can learn to tell it.
    """
    posterior = model.static_latent.posterior
    posterior.mean.weight.mul_(STATIC_GAIN)
    posterior.logvar.bias.sub_(STATIC_CERTAINTY)


def start_from_components(model: MDVAEModel, modality: str, components: torch.Tensor) -> None:
    """Express the random weights of the first and the last layers in `components` (D, K) in place of features."""
    size, count = components.shape
    lengths = components.square().sum(dim=0)
    for weight, _ in layers_of_features(model, modality):
        weight.copy_((size / count) ** 0.5 * weight[:, :count] @ (components / lengths).T)
    output: Any = model.decoders[modality].output
    output.weight.copy_(OUTPUT_GAIN * components @ output.weight[:count])


def layers_of_features(model: MDVAEModel, modality: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Weight (D', D) and bias (D',) of each layer that takes the features of a modality first, the part for them alone."""
    if modality == "visual":
        assert model.visual_embedding is not None
        layer = model.visual_embedding.first_layer
        return [(layer.weight, layer.bias)]
    sizes = model.part_sizes()
    static = model.static_latent
    before = sizes.get("visual", 0)  # f_v stands before f_a
    layers = [
        (history.weight_ih[:, before : before + sizes["audio"]], history.bias_ih)
        for history in (static.forward_history, static.backward_history)
    ]
    if static.sees_mean:
        before += 2 * model.config.static_history_size  # the mean stands after both states
        layer = static.posterior.hidden.first_layer
        layers.append((layer.weight[:, before : before + sizes["audio"]], layer.bias))
    for name in model.config.dynamic_latents:
        if "audio" in CONDITIONS[name]:
            before = model.config.history_size + sizes["w"]  # f_a stands after h and w
            layer = cast(DynamicLatent, model.dynamic_latents[name]).posterior.hidden.first_layer
            layers.append((layer.weight[:, before : before + sizes["audio"]], layer.bias))
    return layers
