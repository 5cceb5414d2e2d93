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

from .mdvae_networks import GatedRecurrence, Gaussian, GaussianNetwork, linear_of_parts


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
        B, T, _ = features.shape
        if frame_mask is None:
            onwards, backwards = self.forward_history(features), self.backward_history(features.flip(1))
            return self.posterior(torch.cat([onwards[:, -1], backwards[:, -1]], dim=1))
        # Each clip is turned around within its own frames, so that neither direction comes past padding.
        last = (frame_mask.sum(dim=1, keepdim=True) - 1).clamp(min=0)  # (B, 1)
        turned = (last - torch.arange(T, device=features.device)).clamp(min=0)  # (B, T)
        reverse = features.gather(1, turned.unsqueeze(2).expand_as(features))
        states = [self.forward_history(features), self.backward_history(reverse)]
        clips = torch.arange(B, device=features.device)
        return self.posterior(torch.cat([state[clips, last.squeeze(1)] for state in states], dim=1))


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

    def forward(
        self,
        conditions: Sequence[torch.Tensor],
        noise: torch.Tensor | None = None,
        from_prior: torch.Tensor | None = None,
    ) -> DynamicInference:
        """
        Infer the latent frame by frame.

        What does not depend on the sample before is computed for all frames at once: what the conditions give to the first
        layer of the posterior, before the recurrence; log-variances that no sample needs, and the prior, after it.

        Args:
            conditions: (B, T, D_i), or (B, D_i) where the same at all times; in the order of the posterior's inputs.
            noise: (B, T, Z) standard normal; means are taken without.
            from_prior: (B, T) bool; frames whose latent is that of the prior, whatever the conditions say.
        """
        # (B, T, hidden) -> T x (B, hidden); unbound at once, whose gradient is one stack instead of T full sequences
        projected = linear_of_parts(self.posterior.hidden.first_layer, conditions).unbind(1)
        noises = [None] * len(projected) if noise is None else noise.unbind(1)
        replaced = [None] * len(projected) if from_prior is None else from_prior.unsqueeze(2).unbind(1)
        history_weight = self.posterior.hidden.first_layer.weight[:, : self.history.state_size].t()

        state = self.history.initial_state(projected[0])
        histories, hiddens, samples = [], [], []
        for inputs, frame_noise, frame_replaced in zip(projected, noises, replaced, strict=True):
            hidden = self.posterior.hidden.after_first_layer(torch.addmm(inputs, state, history_weight))
            sample = self.sample_posterior(hidden, frame_noise)
            if frame_replaced is not None:
                sample = torch.where(frame_replaced, self.prior(state).sample(frame_noise), sample)
            histories.append(state)
            hiddens.append(hidden)
            samples.append(sample)
            state = self.history.step(sample, state)
        posterior = self.posterior.gaussian(torch.stack(hiddens, dim=1))
        prior = self.prior(torch.stack(histories, dim=1))
        return DynamicInference(torch.stack(samples, dim=1), posterior, prior)

    def sample_posterior(self, hidden: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """A sample (B, Z) of one frame from the last hidden layer of its posterior; the mean, without noise."""
        return self.posterior.mean(hidden) if noise is None else self.posterior.gaussian(hidden).sample(noise)

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
