"""
The networks that MDVAE is made of: perceptrons, Gaussians and recurrences.

Letters: B clips, T frames, D numbers of an input, H state of a recurrence, Z numbers of a latent.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn
from transformers import initialization as init

from .linear_products import Linear, joined, linear

Activation = Literal["tanh", "relu"]


class Gaussian(NamedTuple):
    """A diagonal Gaussian: mean and log-variance of the same shape."""

    mean: torch.Tensor
    logvar: torch.Tensor

    def sample(self, noise: torch.Tensor | None) -> torch.Tensor:
        """Mean plus `noise`, standard normal of the same shape, times the deviation; the mean itself without noise."""
        return self.mean if noise is None else self.mean + torch.exp(0.5 * self.logvar) * noise


class Perceptron(nn.Module):
    """Linear layers, each followed by the activation: (..., D) -> (..., sizes[-1])."""

    def __init__(self, input_size: int, sizes: Sequence[int], activation: Activation):
        super().__init__()
        pairs = zip([input_size, *sizes[:-1]], sizes, strict=True)
        self.layers = nn.ModuleList([Linear(before, after) for before, after in pairs])
        self.activation = activation

    def activate(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.tanh(hidden) if self.activation == "tanh" else torch.relu(hidden)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            hidden = self.activate(layer(hidden))
        return hidden

    @property
    def first_layer(self) -> nn.Linear:
        layer = self.layers[0]
        assert isinstance(layer, nn.Linear)
        return layer

    def after_first_layer(self, hidden: torch.Tensor) -> torch.Tensor:
        """The rest of the network, from the output of its first layer before the activation."""
        hidden = self.activate(hidden)
        for layer in self.layers[1:]:
            hidden = self.activate(layer(hidden))
        return hidden


class GaussianNetwork(nn.Module):
    """A perceptron with tanh, then mean and log-variance: (..., D) -> [`Gaussian`] of (..., Z)."""

    def __init__(self, input_size: int, hidden_sizes: Sequence[int], latent_size: int):
        super().__init__()
        self.hidden = Perceptron(input_size, hidden_sizes, "tanh")
        self.mean = Linear(hidden_sizes[-1], latent_size)
        self.logvar = Linear(hidden_sizes[-1], latent_size)

    def forward(self, inputs: torch.Tensor) -> Gaussian:
        return self.gaussian(self.hidden(inputs))

    def gaussian(self, hidden: torch.Tensor) -> Gaussian:
        """Mean and log-variance of the output of the hidden layers."""
        return Gaussian(self.mean(hidden), self.logvar(hidden))


class GatedRecurrence(nn.Module):
    """
    A gated recurrent unit, the arithmetic and parameters of `nn.GRU`, over whole sequences or step by step.

    `nn.GRU` and `nn.GRUCell` would be two modules with two sets of weights, and the first does not compile as one graph.
    """

    def __init__(self, input_size: int, state_size: int):
        super().__init__()
        self.state_size = state_size
        self.weight_ih = nn.Parameter(torch.empty(3 * state_size, input_size))
        self.weight_hh = nn.Parameter(torch.empty(3 * state_size, state_size))
        self.bias_ih = nn.Parameter(torch.empty(3 * state_size))
        self.bias_hh = nn.Parameter(torch.empty(3 * state_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Uniform within 1 / sqrt(H), as torch starts recurrences."""
        bound = 1 / math.sqrt(self.state_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def initial_state(self, inputs: torch.Tensor) -> torch.Tensor:
        """Zeros (B, H) for `inputs` (B, ...)."""
        return inputs.new_zeros(inputs.shape[0], self.state_size)

    def forward(self, inputs: torch.Tensor, state: torch.Tensor | None = None) -> torch.Tensor:
        """States after each step: `inputs` (B, T, D), `state` (B, H) before the first, zeros without -> (B, T, H)."""
        state = self.initial_state(inputs) if state is None else state
        weights: list[torch.Tensor] = [self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh]
        states, _ = torch.gru(inputs, state.unsqueeze(0), weights, True, 1, 0.0, self.training, False, True)
        return states

    def step(self, inputs: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The state after one more step: `inputs` (B, D), `state` (B, H) -> (B, H)."""
        return torch.gru_cell(inputs, state, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)


class FeatureDecoder(nn.Module):
    """Latents of a frame to the features of one modality: parts (B, T, Z) or (B, Z) -> (B, T, D), in float32."""

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int],
        feature_size: int,
        activation: Activation,
        positive: bool,
    ):
        super().__init__()
        self.hidden = Perceptron(input_size, hidden_sizes, activation)
        self.output = Linear(hidden_sizes[-1], feature_size)
        self.positive = positive

    def forward(self, parts: Sequence[torch.Tensor]) -> torch.Tensor:
        hidden = self.hidden.after_first_layer(linear_of_parts(self.hidden.first_layer, parts))
        if torch.is_autocast_enabled(hidden.device.type):
            # The bias holds the mean of the features, which half precision would round by more than what moves about it.
            features = nn.functional.linear(hidden, self.output.weight).float() + self.output.bias
        else:
            features = self.output(hidden).float()
        return torch.exp(features) if self.positive else features


def linear_of_parts(layer: nn.Linear, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """`project_parts` by a layer whose columns at the front may be left to other inputs."""
    start = layer.in_features - sum(part.shape[-1] for part in parts)
    return project_parts(layer.weight[:, start:], layer.bias, parts)


def project_parts(weight: torch.Tensor, bias: torch.Tensor, parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """
    The linear map of the concatenation of `parts`, each (B, T, D_i), or (B, D_i) where it is the same at all times: those
    meet their columns of the weight once per clip. A part without gradient costs none.
    """
    if all(part.dim() == 3 for part in parts):
        return linear(parts, weight, bias)
    pairs = list(zip(parts, weight.split([part.shape[-1] for part in parts], dim=1), strict=True))
    of_clips, of_frames = ([pair for pair in pairs if pair[0].dim() == axes] for axes in (2, 3))
    projected = linear_of_pairs(of_clips, bias).unsqueeze(1)
    return linear_of_pairs(of_frames) + projected if of_frames else projected


def linear_of_pairs(
    pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], bias: torch.Tensor | None = None
) -> torch.Tensor:
    """`linear` of parts and their columns of a weight."""
    parts, blocks = zip(*pairs, strict=True)
    return linear(parts, joined(blocks), bias)


def init_mdvae_weights(module: nn.Module) -> None:
    """Linear layers uniform within 1 / sqrt(fan-in), biases included, and recurrences, as torch starts them."""
    if isinstance(module, nn.Linear):
        bound = 1 / math.sqrt(module.in_features)
        init.uniform_(module.weight, -bound, bound)
        if module.bias is not None:
            init.uniform_(module.bias, -bound, bound)
    elif isinstance(module, GatedRecurrence):
        module.reset_parameters()
