"""
The recurrences of MDVAE frame by frame, with gradients of their own.

Stepped by autograd, every frame adds its share to the gradient of every weight: hundreds of small products and sums. Here
only what must be stepped is stepped, in both directions of time, in memory made once; what does not depend on the
neighbouring frame, the gradients of the weights above all, is computed for all frames at once.

Letters: T frames, G recurrences side by side, which do not depend on each other, B clips, H state, Z numbers of a latent, P
the widest first layer of the posteriors, D the widest last one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

Replacement = Callable[
    [int, torch.Tensor, torch.Tensor], torch.Tensor
]  # frame, samples (G, B, Z), histories (G, B, H)


class StackedLinear(NamedTuple):
    """Linear layers of several networks, applied to the inputs of each at once: (G, B, D) -> (G, B, D')."""

    weight: torch.Tensor  # (G, D', D), with zeros where a network is narrower than the widest
    bias: torch.Tensor  # (G, 1, D')

    @classmethod
    def of(cls, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> "StackedLinear":
        """Of weights (D', D) and biases (D',) as `nn.Linear` has them; narrow ones are widened by zeros."""
        return cls(stack_widened(weights), stack_widened(biases).unsqueeze(1))

    @classmethod
    def of_layers(cls, layers: Sequence[Any]) -> "StackedLinear":
        """Of `nn.Linear` modules."""
        return cls.of([layer.weight for layer in layers], [layer.bias for layer in layers])

    @classmethod
    def joined(cls, layers: Sequence["StackedLinear"]) -> "StackedLinear":
        """Layers of the same inputs as one, whose outputs stand side by side."""
        weights, biases = zip(*layers, strict=True)
        return cls(torch.cat(weights, dim=1), torch.cat(biases, dim=2))

    @property
    def output_size(self) -> int:
        return self.weight.shape[1]

    def product(self) -> Callable[..., torch.Tensor]:
        """The layer as a function of the inputs and of `out`, prepared for many calls."""
        return partial(torch.baddbmm, self.bias, batch2=self.weight.transpose(1, 2))

    def gradients(self, inputs: torch.Tensor, d_outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of weight and bias from all inputs (T, G, B, D) and gradients of outputs (T, G, B, D')."""
        inputs, d_outputs = (tensor.transpose(0, 1).flatten(1, 2) for tensor in (inputs, d_outputs))
        return torch.bmm(d_outputs.transpose(1, 2), inputs), d_outputs.sum(dim=1, keepdim=True)


def stack_widened(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Tensors of as many axes, widened by zeros at the end of each to the largest, stacked on a new first axis."""
    if len(tensors) == 1:
        return tensors[0].unsqueeze(0)
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    return torch.stack(
        [
            F.pad(
                tensor,
                [n for size, wide in zip(tensor.shape[::-1], shape[::-1], strict=True) for n in (0, wide - size)],
            )
            for tensor in tensors
        ]
    )


def views_of_frames(tensor: torch.Tensor, num_frames: int) -> Sequence[torch.Tensor]:
    """One view per frame of what is kept of all frames, (T, ...), or of the room that they share, (1, ...)."""
    views = tensor.unbind(0)
    return views if len(views) == num_frames else views * num_frames


# ---- gated recurrent units ----


def state_gates(units: Sequence[Any]) -> StackedLinear:
    """
    What the states of [`GatedRecurrence`] give to their gates: candidate, reset, update, in this order.

    The inputs' order is reset, update, candidate. Thus the gradients of both stand in one row: those of the switches, which
    are the same, in the middle.
    """
    H = units[0].state_size
    return StackedLinear.of([u.weight_hh.roll(H, 0) for u in units], [u.bias_hh.roll(H, 0) for u in units])


class GatedTape(NamedTuple):
    """Gated recurrent units over time: what their gradients need. Without gradients, all but the states have T = 1."""

    states: torch.Tensor  # (T, G, B, H), before each update
    gates: torch.Tensor  # (T, G, B, 3 H), what the states give to the gates (`state_gates`)
    switches: torch.Tensor  # (T, G, B, 2 H): reset, update
    candidates: torch.Tensor  # (T, G, B, H)

    @classmethod
    def empty(cls, gates: torch.Tensor, num_frames: int) -> "GatedTape":
        """With the first states, zeros, and `gates` to be filled."""
        kept, G, B, H = *gates.shape[:3], gates.shape[3] // 3
        states, switches, candidates = (
            gates.new_empty(T, G, B, size) for T, size in ((num_frames, H), (kept, 2 * H), (kept, H))
        )
        states[0] = 0
        return cls(states, gates, switches, candidates)


class GatedUpdates:
    """Fills a tape frame by frame; `states` holds the state before each frame and, at the end, the last one."""

    def __init__(self, tape: GatedTape):
        H = tape.states.shape[-1]
        self.states = [*tape.states.unbind(0), torch.empty_like(tape.states[0])]
        reset, update = tape.switches.split_with_sizes([H, H], dim=-1)
        state_candidates, state_switches = tape.gates.split_with_sizes([H, 2 * H], dim=-1)
        parts = (state_candidates, state_switches, tape.switches, reset, update, tape.candidates)
        views = (views_of_frames(part, len(tape.states)) for part in parts)
        self.frames = list(zip(self.states, *views, self.states[1:], strict=False))

    def step(self, frame: int, input_switches: torch.Tensor, input_candidate: torch.Tensor) -> None:
        """
        The arithmetic of [`GatedRecurrence.step`] after its two products, of which that of the states stands in the tape;
        that of the inputs: (G, B, 2 H) for reset and update, (G, B, H).
        """
        state, state_candidate, state_switches, switches, reset, update, candidate, following = self.frames[frame]
        torch.add(input_switches, state_switches, out=switches).sigmoid_()
        torch.addcmul(input_candidate, reset, state_candidate, out=candidate).tanh_()
        torch.lerp(candidate, state, update, out=following)


class GatedGradients:
    """
    The way back through gated updates, frame by frame from the last.

    Args:
        tape: what they left.
        into: (T, G, B, 4 H), to be filled with the gradients of the gates: the state's candidate, reset, update, the input's
            candidate.
    """

    def __init__(self, tape: GatedTape, into: torch.Tensor):
        H = tape.states.shape[-1]
        reset, update = tape.switches.split_with_sizes([H, H], dim=-1)
        closed = 1 - update
        by_update = (tape.states - tape.candidates) * closed * update
        by_candidate = closed * (1 - tape.candidates.square())
        by_reset = tape.gates[..., :H] * reset * (1 - reset)
        self.kept = update.unbind(0)
        self.of_state = torch.stack([by_update, by_candidate], dim=-2).unbind(0)
        self.of_candidate = torch.stack([reset, by_reset], dim=-2).unbind(0)
        rows = into.unflatten(-1, (4, H))
        self.first_rows, self.last_rows, self.candidate_row = (
            rows[..., part, :].unbind(0) for part in (slice(2), slice(2, 4), slice(3, 4))
        )

    def step(self, frame: int, d_next: torch.Tensor) -> torch.Tensor:
        """Fill in the gates of a frame from the gradient of the next state; what goes past them to the state before."""
        self.last_rows[frame].copy_(d_next.unsqueeze(-2)).mul_(self.of_state[frame])
        self.first_rows[frame].copy_(self.candidate_row[frame]).mul_(self.of_candidate[frame])
        return d_next * self.kept[frame]


def final_states(gates: torch.Tensor, from_state: StackedLinear) -> torch.Tensor:
    """
    Last states (G, B, H) of gated recurrent units that start at zero, from what their inputs give to the gates, (T, G, B,
    3 H). An update gate of plus infinity leaves the state as it is.
    """
    return (
        _FinalStates.apply(gates, *from_state) if torch.is_grad_enabled() else step_states(gates, from_state, False)[0]
    )


def step_states(gates: torch.Tensor, from_state: StackedLinear, keep: bool) -> tuple[torch.Tensor, GatedTape]:
    """`final_states` without gradient, and what a gradient needs of all frames if `keep`."""
    room, H = gates.new_empty(len(gates) if keep else 1, *gates.shape[1:]), gates.shape[-1] // 3
    tape = GatedTape.empty(room, len(gates))
    updates, product = GatedUpdates(tape), from_state.product()
    inputs = (part.unbind(0) for part in gates.split_with_sizes([2 * H, H], dim=-1))
    outcomes = views_of_frames(room, len(gates))
    for frame, (outcome, switches, candidate) in enumerate(zip(outcomes, *inputs, strict=True)):
        product(updates.states[frame], out=outcome)
        updates.step(frame, switches, candidate)
    return updates.states[-1], tape


class _FinalStates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        states, tape = step_states(gates, StackedLinear(weight, bias), keep=True)
        ctx.save_for_backward(weight, bias, *tape)
        return states

    @staticmethod
    def backward(ctx: Any, *d_outputs: torch.Tensor) -> Any:
        (d_state,), (weight, bias, *tensors) = d_outputs, ctx.saved_tensors
        tape = GatedTape(*tensors)
        T, G, B, H = tape.states.shape
        d_gates = d_state.new_empty(T, G, B, 4 * H)
        d_from_state = d_gates[..., : 3 * H]
        with torch.autocast(d_state.device.type, enabled=False):
            gradients = GatedGradients(tape, d_gates)
            for frame, d_frame in reversed(list(enumerate(d_from_state.unbind(0)))):
                d_state = torch.baddbmm(gradients.step(frame, d_state), d_frame, weight)
            d_weights = StackedLinear(weight, bias).gradients(tape.states, d_from_state)
        return d_gates[..., H:], *d_weights


# ---- latents that depend on their own past ----


class LatentNetworks(NamedTuple):
    """The networks that step dynamic latents, all of a kind in one product."""

    from_state: (
        StackedLinear  # to the first hidden layers, whose biases come with the conditions, and to `state_gates`
    )
    from_sample: StackedLinear  # to the gates
    gaussian: StackedLinear  # last hidden layers to means; to means and log-variances where there is noise
    layers: list[StackedLinear]  # the hidden layers but the first

    @classmethod
    def of(cls, latents: Sequence[Any], sampled: bool) -> "LatentNetworks":
        """Of [`DynamicLatent`]s whose posteriors have equally many layers."""
        histories, posteriors = [latent.history for latent in latents], [latent.posterior for latent in latents]
        H = histories[0].state_size
        firsts = [posterior.hidden.first_layer for posterior in posteriors]
        to_first = StackedLinear.of([f.weight[:, :H] for f in firsts], [torch.zeros_like(f.bias) for f in firsts])
        gaussian = [StackedLinear.of_layers([posterior.mean for posterior in posteriors])]
        if sampled:
            gaussian.append(StackedLinear.of_layers([posterior.logvar for posterior in posteriors]))
        deeper = zip(*(posterior.hidden.layers[1:] for posterior in posteriors), strict=True)
        return cls(
            StackedLinear.joined([to_first, state_gates(histories)]),
            StackedLinear.of([unit.weight_ih for unit in histories], [unit.bias_ih for unit in histories]),
            StackedLinear.joined(gaussian) if sampled else gaussian[0],
            [StackedLinear.of_layers(layers) for layers in deeper],
        )

    def tensors(self) -> list[torch.Tensor]:
        return [t for layer in (self.from_state, self.from_sample, self.gaussian, *self.layers) for t in layer]

    @classmethod
    def from_tensors(cls, tensors: Sequence[torch.Tensor]) -> "LatentNetworks":
        first, second, third, *layers = (
            StackedLinear(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True)
        )
        return cls(first, second, third, layers)

    @property
    def state_size(self) -> int:
        return self.from_state.weight.shape[2]

    @property
    def latent_size(self) -> int:
        return self.from_sample.weight.shape[2]


class LatentCourse(NamedTuple):
    """Dynamic latents over time."""

    samples: torch.Tensor  # (T, G, B, Z)
    hidden: torch.Tensor  # (T, G, B, D), last hidden layers of the posteriors
    states: torch.Tensor  # (T, G, B, H), histories before each frame


class LatentTape(NamedTuple):
    """Dynamic latents over time: what they are and what their gradients need. Without gradients, the latter has T = 1."""

    samples: torch.Tensor  # (T, G, B, Z)
    gaussians: torch.Tensor  # (T, G, B, Z): means; (T, G, B, 2 Z): means and deviation times noise
    from_states: torch.Tensor  # (T, G, B, P + 3 H): what the histories give to the first layers and to the gates
    states: torch.Tensor  # of `GatedTape`, the histories before each frame
    switches: torch.Tensor
    candidates: torch.Tensor
    activations: list[torch.Tensor]  # of the posteriors' hidden layers, (T, G, B, P) ... (T, G, B, D)

    @classmethod
    def empty(cls, projected: torch.Tensor, networks: LatentNetworks, keep: bool) -> "LatentTape":
        """To be filled, with room for what gradients need of all frames if `keep`."""
        (T, G, B, P), Z = projected.shape, networks.latent_size
        kept, sampled = T if keep else 1, networks.gaussian.output_size > Z
        from_states = projected.new_empty(kept, G, B, networks.from_state.output_size)
        gaussians = projected.new_empty(kept if sampled else T, G, B, networks.gaussian.output_size)
        gated = GatedTape.empty(from_states[..., P:], T)
        sizes = [P, *(layer.output_size for layer in networks.layers)]
        frames = [*[kept] * len(networks.layers), T]
        activations = [projected.new_empty(n, G, B, size) for n, size in zip(frames, sizes, strict=True)]
        samples = projected.new_empty(T, G, B, Z) if sampled else gaussians
        return cls(samples, gaussians, from_states, gated.states, gated.switches, gated.candidates, activations)

    @classmethod
    def from_tensors(cls, tensors: Sequence[torch.Tensor]) -> "LatentTape":
        samples, gaussians, from_states, states, switches, candidates, *activations = tensors
        return cls(samples, gaussians, from_states, states, switches, candidates, activations)

    def tensors(self) -> list[torch.Tensor]:
        return [*self[:6], *self.activations]

    @property
    def course(self) -> LatentCourse:
        return LatentCourse(self.samples, self.activations[-1], self.states)

    @property
    def gated(self) -> GatedTape:
        first_layer = self.activations[0].shape[-1]
        return GatedTape(self.states, self.from_states[..., first_layer:], self.switches, self.candidates)


def step_latents(
    projected: torch.Tensor,
    noise: torch.Tensor | None,
    networks: LatentNetworks,
    keep: bool = False,
    replace: Replacement | None = None,
) -> LatentTape:
    """
    All frames of dynamic latents, without gradient ([MD], inference of the dynamic latents).

    Args:
        projected: (T, G, B, P), what the conditions give to the first layers.
        noise: (T, G, B, Z) standard normal; None for means.
        keep: whether to keep what gradients need.
        replace: what takes the place of the samples of a frame.
    """
    T = len(projected)
    tape = LatentTape.empty(projected, networks, keep)
    updates, P, H = GatedUpdates(tape.gated), projected.shape[3], networks.state_size
    from_input = projected.new_empty(*projected.shape[1:3], 3 * H)
    input_gates = from_input.split_with_sizes([2 * H, H], dim=-1)
    noises = [None] * T if noise is None else noise.unbind(0)
    parts = (projected, tape.from_states, tape.from_states[..., :P], tape.gaussians, tape.samples)
    frames = zip(updates.states, noises, *(views_of_frames(part, T) for part in parts), strict=False)
    activations = zip(*(views_of_frames(activation, T) for activation in tape.activations), strict=True)
    from_state, from_sample, gaussian = (layer.product() for layer in networks[:3])
    layers = [layer.product() for layer in networks.layers]
    for t, (frame, (hidden, *deeper)) in enumerate(zip(frames, activations, strict=True)):
        state, frame_noise, conditions, from_history, first, outcome, sample = frame
        from_state(state, out=from_history)
        torch.add(conditions, first, out=hidden).tanh_()
        for layer, activation in zip(layers, deeper, strict=True):
            hidden = layer(hidden, out=activation).tanh_()
        gaussian(hidden, out=outcome)
        if frame_noise is not None:
            mean, logvar = outcome.chunk(2, dim=-1)
            torch.add(mean, logvar.mul_(0.5).exp_().mul_(frame_noise), out=sample)
        if replace is not None:
            sample.copy_(replace(t, sample, state))
        from_sample(sample, out=from_input)
        updates.step(t, *input_gates)
    return tape


def run_latents(projected: torch.Tensor, noise: torch.Tensor | None, networks: LatentNetworks) -> LatentCourse:
    """`step_latents`, with gradient where it is enabled."""
    if torch.is_grad_enabled():
        return LatentCourse(*_LatentCourse.apply(projected, noise, *networks.tensors()))
    return step_latents(projected, noise, networks).course


class _LatentCourse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: torch.Tensor, noise: torch.Tensor | None, *weights: torch.Tensor) -> Any:
        tape = step_latents(projected, noise, LatentNetworks.from_tensors(weights), keep=True)
        ctx.num_weights = len(weights)
        ctx.save_for_backward(*weights, *tape.tensors())
        return tuple(tape.course)

    @staticmethod
    def backward(ctx: Any, *d_outputs: torch.Tensor) -> Any:
        tensors = ctx.saved_tensors
        networks = LatentNetworks.from_tensors(tensors[: ctx.num_weights])
        tape = LatentTape.from_tensors(tensors[ctx.num_weights :])
        with torch.autocast(d_outputs[0].device.type, enabled=False):
            gradients = LatentGradients(networks, tape, LatentCourse(*d_outputs))
            return gradients.walk_back(), None, *gradients.of_weights()


class LatentGradients:
    """The way back through the frames of dynamic latents."""

    def __init__(self, networks: LatentNetworks, tape: LatentTape, d_course: LatentCourse):
        self.networks, self.tape, self.d_course = networks, tape, d_course
        (T, G, B, H), P = tape.states.shape, tape.activations[0].shape[-1]
        d_first_and_gates = tape.states.new_empty(T, G, B, P + 4 * H)
        self.d_from_state, self.d_from_sample = d_first_and_gates[..., : P + 3 * H], d_first_and_gates[..., P + H :]
        self.d_gaussians = torch.empty_like(tape.gaussians)
        self.d_layers = [d_first_and_gates[..., :P], *(torch.empty_like(a) for a in tape.activations[1:])]
        self.gated = GatedGradients(tape.gated, d_first_and_gates[..., P:])

    def walk_back(self) -> torch.Tensor:
        """Fill in the gradients of every product's outcome; those of `projected`, (T, G, B, P)."""
        slopes = [(1 - activation.square()).unbind(0) for activation in self.tape.activations]
        d_layers = [d.unbind(0) for d in self.d_layers]
        d_from_state, d_states, d_hidden = (
            d.unbind(0) for d in (self.d_from_state, self.d_course.states, self.d_course.hidden)
        )
        d_next = torch.zeros_like(d_states[0])
        for t in reversed(range(len(d_states))):
            d_state = self.gated.step(t, d_next).add_(d_states[t])
            d_outcome = torch.baddbmm(d_hidden[t], self.through_sample(t), self.networks.gaussian.weight)
            for place in reversed(range(len(slopes))):
                d_layer = d_layers[place][t].copy_(d_outcome).mul_(slopes[place][t])
                if place > 0:
                    d_outcome = torch.bmm(d_layer, self.networks.layers[place - 1].weight)
            d_next = d_state.baddbmm_(d_from_state[t], self.networks.from_state.weight)
        return self.d_layers[0]

    def through_sample(self, t: int) -> torch.Tensor:
        """From a frame's gates to what made its sample: means, and log-variances where there was noise."""
        Z, into = self.networks.latent_size, self.d_gaussians[t]
        d_sample, from_sample = into[..., :Z], self.networks.from_sample.weight
        d_sample.copy_(torch.baddbmm(self.d_course.samples[t], self.d_from_sample[t], from_sample))
        if into.shape[-1] > Z:  # sample = mean + spread, whose slope by the log-variance is spread / 2
            into[..., Z:] = d_sample * self.tape.gaussians[t, ..., Z:] * 0.5
        return into

    def of_weights(self) -> list[torch.Tensor]:
        """In the order of [`LatentNetworks.tensors`]."""
        networks, hidden = self.networks, self.tape.activations
        layers = [
            networks.from_state.gradients(self.tape.states, self.d_from_state),
            networks.from_sample.gradients(self.tape.samples, self.d_from_sample),
            networks.gaussian.gradients(hidden[-1], self.d_gaussians),
            *(
                layer.gradients(*io)
                for layer, *io in zip(networks.layers, hidden[:-1], self.d_layers[1:], strict=True)
            ),
        ]
        return [gradient for layer in layers for gradient in layer]
