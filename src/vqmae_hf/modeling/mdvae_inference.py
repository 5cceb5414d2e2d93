"""
Inference of MDVAE: the static latent from the whole clip, the dynamic ones frame by frame ([MD], inference model), and
their priors.

What the features and the other latents give to the recurrences, all frames at once, follows the autocast; the recurrences
and the distributions are as precise as the weights, since rounding would add up over the frames.

Letters: B clips, T frames, D numbers of an input, H state of a recurrence, Z numbers of a latent, h history (the state of
the recurrence over a latent's own past).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from .mdvae_networks import GatedRecurrence, Gaussian, GaussianNetwork, linear_of_parts, project_parts
from .mdvae_recurrences import (
    LatentNetworks,
    StackedLinear,
    final_states,
    run_latents,
    stack_widened,
    state_gates,
    step_latents,
)


class DynamicInference(NamedTuple):
    """A dynamic latent over time."""

    sample: torch.Tensor  # (B, T, Z): means where no noise was given
    posterior: Gaussian  # of (B, T, Z)
    prior: Gaussian  # of (B, T, Z), given the samples of the frames before


class StaticEncoder(nn.Module):
    """
    `q(w | x_a, x_v)` ([MD], inference of the static latent): a recurrence in both directions, last state of each.

    Args:
        sees_mean (`bool`): whether the posterior is also given the mean of the features over the clip (ours).
    """

    def __init__(
        self, input_size: int, state_size: int, hidden_sizes: Sequence[int], latent_size: int, sees_mean: bool = False
    ):
        super().__init__()
        self.sees_mean = sees_mean
        self.forward_history = GatedRecurrence(input_size, state_size)
        self.backward_history = GatedRecurrence(input_size, state_size)
        self.posterior = GaussianNetwork(2 * state_size + sees_mean * input_size, hidden_sizes, latent_size)

    def forward(self, parts: Sequence[torch.Tensor], frame_mask: torch.Tensor | None = None) -> Gaussian:
        """Features in `parts` (B, T, D_i), `frame_mask` (B, T) True = real, padding at the end -> [`Gaussian`] of (B, Z)."""
        units = [self.forward_history, self.backward_history]
        # What the features give to the gates of both directions, for all frames at once: T x B x 3 H
        onwards, backwards = (project_parts(u.weight_ih, u.bias_ih, parts).transpose(0, 1) for u in units)
        gates = torch.stack([onwards, backwards.flip(0)], dim=1).to(units[0].weight_ih.dtype)
        if frame_mask is not None:
            real = torch.stack([frame_mask.t(), frame_mask.t().flip(0)], dim=1).unsqueeze(3)
            gates = torch.where(real, gates, self.gates_of_padding(gates))
        with torch.autocast(gates.device.type, enabled=False):
            summary = [*final_states(gates, StackedLinear.of([state_gates(unit) for unit in units]))]
            if self.sees_mean:
                summary += [mean_over_time(part.to(gates.dtype), frame_mask) for part in parts]
            return self.posterior(torch.cat(summary, dim=1))

    def gates_of_padding(self, gates: torch.Tensor) -> torch.Tensor:
        """Gates (3 H) that leave the state as it is: reset, update, candidate. The way back starts in the padding."""
        closed = gates.new_zeros(3, gates.shape[-1] // 3)
        closed[1] = torch.inf
        return closed.flatten()


def mean_over_time(values: torch.Tensor, frame_mask: torch.Tensor | None) -> torch.Tensor:
    """Mean over the real frames of each clip: (B, T, D), `frame_mask` (B, T) True = real -> (B, D); 0 without any."""
    if frame_mask is None:
        return values.mean(dim=1)
    real = frame_mask.unsqueeze(2)
    return torch.where(real, values, 0).sum(dim=1) / real.sum(dim=1).clamp(min=1)


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
        from_prior: (B, T) bool, for one latent alone: frames where it comes from its prior, whatever the conditions say;
            then without gradient.
    """
    firsts = [latent.posterior.hidden.first_layer for latent in latents]
    given = [linear_of_parts(layer, parts) for layer, parts in zip(firsts, conditions, strict=True)]
    projected = stack_widened(given).permute(2, 0, 1, 3).to(firsts[0].weight.dtype)  # (T, G, B, P)
    noises = None if noise is None else stack_widened(noise).permute(2, 0, 1, 3)
    with torch.autocast(projected.device.type, enabled=False):
        networks = LatentNetworks.of(latents, sampled=noise is not None)
        if from_prior is None:
            course = run_latents(projected, noises, networks)
        else:
            replace = partial(take_prior, latents[0].prior, from_prior.t().unsqueeze(2), noises)
            with torch.no_grad():
                course = step_latents(projected, noises, networks, replace=replace).course
        courses = zip(*(tensor.permute(1, 2, 0, 3) for tensor in course), strict=True)
        return [latent.distributions(*course) for latent, course in zip(latents, courses, strict=True)]


def take_prior(
    prior: GaussianNetwork,
    where: torch.Tensor,
    noise: torch.Tensor | None,
    frame: int,
    sample: torch.Tensor,
    history: torch.Tensor,
) -> torch.Tensor:
    """Samples (G, B, Z) of the prior, from histories (G, B, H), `where` (T, B, 1) says so; the given ones elsewhere."""
    return torch.where(where[frame], prior(history).sample(None if noise is None else noise[frame]), sample)
