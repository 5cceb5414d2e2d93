"""
Inference of MDVAE: the static latent from the whole clip, the dynamic ones frame by frame ([MD], inference model), and
their priors.

Letters: B clips, T frames, D numbers of an input, H state of a recurrence, Z numbers of a latent, h history (the state of
the recurrence over a latent's own past).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .mdvae_networks import (
    GatedRecurrence,
    Gaussian,
    GaussianNetwork,
    StackedLinear,
    gated_update,
    linear_of_parts,
    stack_widened,
)


class DynamicInference(NamedTuple):
    """A dynamic latent over time."""

    sample: torch.Tensor  # (B, T, Z): means where no noise was given
    posterior: Gaussian  # of (B, T, Z)
    prior: Gaussian  # of (B, T, Z), given the samples of the frames before


class StaticEncoder(nn.Module):
    """`q(w | x_a, x_v)` ([MD], inference of the static latent): a recurrence in both directions, last state of each."""

    def __init__(self, input_size: int, state_size: int, hidden_sizes: Sequence[int], latent_size: int):
        super().__init__()
        self.forward_history = GatedRecurrence(input_size, state_size)
        self.backward_history = GatedRecurrence(input_size, state_size)
        self.posterior = GaussianNetwork(2 * state_size, hidden_sizes, latent_size)

    def forward(self, features: torch.Tensor, frame_mask: torch.Tensor | None = None) -> Gaussian:
        """`features` (B, T, D), `frame_mask` (B, T) True = real, padding at the end -> [`Gaussian`] of (B, Z)."""
        reverse = features.flip(1) if frame_mask is None else turn_around(features, frame_mask)
        directions: tuple[tuple[torch.Tensor, GatedRecurrence], ...] = (
            (features, self.forward_history),
            (reverse, self.backward_history),
        )
        # What the features give to the gates of both directions, for all frames at once: T x (2, B, 3 H)
        gates = torch.stack([F.linear(x, unit.weight_ih, unit.bias_ih) for x, unit in directions]).unbind(2)
        reals = [None] * len(gates) if frame_mask is None else frame_mask.unsqueeze(2).unbind(1)
        from_state = StackedLinear.of(*zip(*[(u.weight_hh, u.bias_hh) for _, u in directions], strict=True))
        state = torch.stack([unit.initial_state(x) for x, unit in directions])  # (2, B, H)
        for frame_gates, real in zip(gates, reals, strict=True):
            updated = gated_update(frame_gates, from_state(state), state)
            state = updated if real is None else torch.where(real, updated, state)  # padding leaves it as it is
        return self.posterior(torch.cat([state[0], state[1]], dim=1))


def turn_around(features: torch.Tensor, frame_mask: torch.Tensor) -> torch.Tensor:
    """Features (B, T, D) of each clip in reverse order, within its own frames: the padding stays at the end."""
    last = (frame_mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
    places = (last - torch.arange(features.shape[1], device=features.device)).clamp(min=0)  # (B, T)
    return features.gather(1, places.unsqueeze(2).expand_as(features))


class DynamicLatent(nn.Module):
    """
    A latent of each frame ([MD], dynamic latents): its history `h_t`, a recurrence over its own samples before t; its prior
    `p(z_t | h_t)`; its posterior `q(z_t | h_t, conditions_t)`.

    Args:
        condition_size (`int`): numbers of everything but the history that the posterior depends on.
    """

    def __init__(
        self,
        latent_size: int,
        history_size: int,
        condition_size: int,
        posterior_sizes: Sequence[int],
        prior_sizes: Sequence[int],
    ):
        super().__init__()
        self.history = GatedRecurrence(latent_size, history_size)
        self.posterior = GaussianNetwork(history_size + condition_size, posterior_sizes, latent_size)
        self.prior = GaussianNetwork(history_size, prior_sizes, latent_size)

    def distributions(self, sample: torch.Tensor, hidden: torch.Tensor, history: torch.Tensor) -> DynamicInference:
        """From samples, last hidden layers of the posterior and histories (B, T, ...), possibly widened by zeros."""
        network = self.posterior
        posterior = network.gaussian(hidden[..., : network.mean.in_features])
        return DynamicInference(sample[..., : network.mean.out_features], posterior, self.prior(history))

    def prior_of(self, samples: torch.Tensor) -> Gaussian:
        """The priors of given samples (B, T, Z), each from the samples before it: one pass of the recurrence."""
        states = self.history(samples)
        return self.prior(F.pad(states[:, :-1], (0, 0, 1, 0)))  # h of the first frame is zero

    def continue_from(self, samples: torch.Tensor, noise: torch.Tensor | None, num_frames: int) -> torch.Tensor:
        """
        Frames from the prior after given ones ([MD], generation): `samples` (B, T, Z), of which T may be 0, and `noise`
        (B, num_frames, Z), or None for means -> (B, num_frames, Z).
        """
        known = samples.shape[1] > 0
        state = self.history(samples)[:, -1] if known else self.history.initial_state(samples)
        noises = [None] * num_frames if noise is None else noise.unbind(1)
        continued = []
        for frame_noise in noises:
            sample = self.prior(state).sample(frame_noise)
            continued.append(sample)
            state = self.history.step(sample, state)
        return torch.stack(continued, dim=1)


class LatentStep:
    """
    One frame of several dynamic latents that do not depend on each other, all networks of a kind in one product.

    Letters besides: G latents, P the widest first layer of their posteriors.
    """

    def __init__(self, latents: Sequence[DynamicLatent]):
        histories = [latent.history for latent in latents]
        posteriors = [latent.posterior for latent in latents]
        first = [posterior.hidden.first_layer for posterior in posteriors]
        H = histories[0].state_size
        self.width = max(layer.out_features for layer in first)
        # The state meets the first layer of the posterior, whose bias comes with the conditions, and its own gates at once.
        to_first = StackedLinear.of(
            [layer.weight[:, :H] for layer in first], [torch.zeros_like(layer.bias) for layer in first]
        )
        to_gates = StackedLinear.of([unit.weight_hh for unit in histories], [unit.bias_hh for unit in histories])
        self.from_state = StackedLinear(*(torch.cat(pair, dim=2) for pair in zip(to_first, to_gates, strict=True)))
        deeper = zip(*[posterior.hidden.layers[1:] for posterior in posteriors], strict=True)
        self.layers = [StackedLinear.of_layers(layers) for layers in deeper]
        self.mean = StackedLinear.of_layers([posterior.mean for posterior in posteriors])
        self.logvar = StackedLinear.of_layers([posterior.logvar for posterior in posteriors])
        self.from_sample = StackedLinear.of(
            [unit.weight_ih for unit in histories], [unit.bias_ih for unit in histories]
        )

    def hidden_and_gates(self, projected: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Last hidden layer of the posteriors, (G, B, D), and what the state gives to the gates, (G, B, 3 H)."""
        from_state = self.from_state(state)
        first, gates = from_state.split_with_sizes([self.width, from_state.shape[2] - self.width], dim=2)
        hidden = torch.tanh(projected + first)
        for layer in self.layers:
            hidden = torch.tanh(layer(hidden))
        return hidden, gates

    def sample(self, hidden: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """Samples (G, B, Z) of the posteriors; their means, without noise."""
        mean = self.mean(hidden)
        return mean if noise is None else Gaussian(mean, self.logvar(hidden)).sample(noise)

    def update(self, sample: torch.Tensor, gates: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """The histories (G, B, H) after the samples."""
        return gated_update(self.from_sample(sample), gates, state)


def infer_together(
    latents: Sequence[DynamicLatent],
    conditions: Sequence[Sequence[torch.Tensor]],
    noise: Sequence[torch.Tensor] | None = None,
    from_prior: torch.Tensor | None = None,
) -> list[DynamicInference]:
    """
    Infer dynamic latents that do not depend on each other, frame by frame ([MD], inference of the dynamic latents).

    What does not depend on the samples before is computed for all frames at once: what the conditions give to the first
    layer of the posteriors, before the recurrence; distributions that no sample needs, after it.

    Args:
        latents: with posteriors of equally many layers.
        conditions: of each latent, (B, T, D_i), or (B, D_i) where the same at all times, in the order of its inputs.
        noise: of each latent, (B, T, Z) standard normal; means are taken without.
        from_prior: (B, T) bool, for one latent alone: frames where it comes from its prior, whatever the conditions say.
    """
    step = LatentStep(latents)
    firsts = [latent.posterior.hidden.first_layer for latent in latents]
    given = [linear_of_parts(layer, parts) for layer, parts in zip(firsts, conditions, strict=True)]
    # T x (G, B, P); unbound at once, whose gradient is one stack instead of T full sequences
    projected = stack_widened(given).unbind(2)
    noises = [None] * len(projected) if noise is None else stack_widened(noise).unbind(2)
    replaced = [None] * len(projected) if from_prior is None else from_prior.unsqueeze(2).unbind(1)

    state = torch.stack([latent.history.initial_state(given[0]) for latent in latents])
    states, hiddens, samples = [], [], []
    for frame_projected, frame_noise, frame_replaced in zip(projected, noises, replaced, strict=True):
        hidden, gates = step.hidden_and_gates(frame_projected, state)
        sample = step.sample(hidden, frame_noise)
        if frame_replaced is not None:
            sample = torch.where(frame_replaced, latents[0].prior(state).sample(frame_noise), sample)
        states.append(state)
        hiddens.append(hidden)
        samples.append(sample)
        state = step.update(sample, gates, state)
    stacked = zip(*(torch.stack(parts, dim=2) for parts in (samples, hiddens, states)), strict=True)
    return [latent.distributions(*parts) for latent, parts in zip(latents, stacked, strict=True)]
