"""
The system that frozen latents have to beat: a transformer over the same features, trained on the labels alone.

Letters: B clips, T frames, D features, W width, C classes.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softmax

from vqmae_hf.evaluation.few_labels import Classifier, LabelledClips

NUM_LAYERS = 4
NUM_HEADS = 4
DROPOUT = 0.1
LEARNING_RATE = 5e-4
WEIGHT_DECAY = 0.05
BATCH_SIZE = 32
# Passes over the labels: at least so many steps, however few labels there are.
FEWEST_STEPS, MOST_STEPS, EPOCHS = 60, 400, 15


class SupervisedTransformer(nn.Module):
    """
    Audio and visual features of a frame, concatenated, to one token; a class token is read out.

    Args:
        feature_size: D of both modalities together.
        width: W, a multiple of `NUM_HEADS`.
        num_frames: T.
        num_classes: C.
    """

    def __init__(self, feature_size: int, width: int, num_frames: int, num_classes: int):
        super().__init__()
        self.embedding = nn.Linear(feature_size, width)
        self.start = nn.Parameter(torch.zeros(1, 1, width))
        self.position = nn.Parameter(0.02 * torch.randn(1, num_frames + 1, width))
        layer = nn.TransformerEncoderLayer(
            width, NUM_HEADS, 4 * width, DROPOUT, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, NUM_LAYERS, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, num_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, T, D) -> logits (B, C)."""
        tokens = self.embedding(features)
        tokens = torch.cat([self.start.expand(len(tokens), -1, -1), tokens], dim=1) + self.position
        return self.head(self.encoder(tokens)[:, 0])


def width_for(num_parameters: int, feature_size: int, num_frames: int, num_classes: int) -> int:
    """The width whose transformer comes nearest to a number of parameters."""

    def distance(width: int) -> int:
        return abs(
            count_parameters(SupervisedTransformer(feature_size, width, num_frames, num_classes)) - num_parameters
        )

    return min(range(NUM_HEADS * 2, 513, NUM_HEADS * 2), key=distance)


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def supervised_transformer(width: int, num_classes: int) -> Classifier:
    """A classifier of clips (N, T, D), trained from scratch on each set of labels, with a fixed number of steps."""

    def classify(train: LabelledClips, inputs: np.ndarray, seed: int) -> np.ndarray:
        torch.manual_seed(seed)
        mean, std = train.inputs.mean(axis=(0, 1)), train.inputs.std(axis=(0, 1)).clip(min=1e-3)
        model = SupervisedTransformer(inputs.shape[2], width, inputs.shape[1], num_classes)
        _fit(model, torch.from_numpy((train.inputs - mean) / std).float(), torch.from_numpy(train.labels), seed)
        with torch.no_grad():
            parts = torch.from_numpy((inputs - mean) / std).float().split(BATCH_SIZE)
            return torch.cat([softmax(model.eval()(part), dim=1) for part in parts]).argmax(dim=1).numpy()

    return classify


def _fit(model: SupervisedTransformer, inputs: torch.Tensor, labels: torch.Tensor, seed: int) -> None:
    """AdamW, warm-up over a tenth of the steps, then linearly to 0."""
    steps = min(max(EPOCHS * len(inputs) // BATCH_SIZE, FEWEST_STEPS), MOST_STEPS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(10 * (step + 1) / steps, (steps - step) / (0.9 * steps), 1.0)
    )
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for _ in range(steps):
        chosen = torch.randint(len(inputs), (min(BATCH_SIZE, len(inputs)),), generator=generator)
        optimizer.zero_grad()
        cross_entropy(model(inputs[chosen]), labels[chosen]).backward()
        optimizer.step()
        schedule.step()
