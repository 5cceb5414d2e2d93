"""
The recurrences of MDVAE frame by frame, with gradients of their own.

Stepped by autograd, every frame adds its share to the gradient of every weight: hundreds of small products and sums. Here
only what must be stepped is stepped, in both directions of time, in memory made once; what does not depend on the
neighbouring frame, the gradients of the weights above all, is computed for all frames at once.

Letters: T frames, G recurrences side by side, which do not depend on each other, B clips, H state, Z numbers of a latent, P
the widest first layer of the posteriors, D the widest last one.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F

Replacement = Callable[
    [int, torch.Tensor, torch.Tensor], torch.Tensor
]  # frame, samples (G, B, Z), histories (G, B, H)


Block = tuple[torch.Tensor, torch.Tensor]  # a linear layer: weight (D', D) and bias (D',), as `nn.Linear` has them


class StackedLinear(NamedTuple):
    """Linear layers of several networks, applied to the inputs of each at once: (G, B, D) -> (G, B, D')."""

    weight: torch.Tensor  # (G, D', D), with zeros where a network is narrower than the widest
    bias: torch.Tensor  # (G, 1, D')

    @classmethod
    def of(cls, networks: Sequence[Sequence[Block]]) -> "StackedLinear":
        """Of layers with the same inputs of each network, whose outputs stand side by side; narrow ones are widened."""
        stacked = []
        for part in range(2):  # weights, biases
            places = [widened([block[part] for block in blocks]) for blocks in zip(*networks, strict=True)]
            rows = [tensor for network in zip(*places, strict=True) for tensor in network]
            together = rows[0] if len(rows) == 1 else torch.cat(rows)
            stacked.append(together.unflatten(0, (len(networks), -1)))
        weight, bias = stacked
        return cls(weight, bias.unsqueeze(1))

    @property
    def output_size(self) -> int:
        return self.weight.shape[1]

    @property
    def columns(self) -> torch.Tensor:
        """(G, D, D'): `outputs.baddbmm_(inputs, columns)` adds the product to the biases."""
        return self.weight.transpose(1, 2)

    def biases(self, num_frames: int, num_clips: int) -> torch.Tensor:
        """The biases for all frames and clips, (T, G, B, D'), to which the product of each frame is added in its turn."""
        shape = (num_frames, self.bias.shape[0], num_clips, self.output_size)
        return self.bias.expand(shape).clone(memory_format=torch.contiguous_format)

    def gradients(self, inputs: torch.Tensor, d_outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of weight and bias from all inputs (T, G, B, D) and gradients of outputs (T, G, B, D')."""
        inputs, d_outputs = (tensor.transpose(0, 1).flatten(1, 2) for tensor in (inputs, d_outputs))
        return torch.bmm(d_outputs.transpose(1, 2), inputs), d_outputs.sum(dim=1, keepdim=True)


def stack_widened(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """`widened` tensors on a new first axis."""
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(widened(tensors))


def widened(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Tensors of as many axes, each with zeros at the end of those where another is wider."""
    shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    missing = [[wide - size for size, wide in zip(tensor.shape, shape, strict=True)] for tensor in tensors]
    return [
        F.pad(tensor, [n for wanted in reversed(axes) for n in (0, wanted)]) if any(axes) else tensor
        for tensor, axes in zip(tensors, missing, strict=True)
    ]


# ---- gated recurrent units ----


def state_gates(unit: Any) -> list[Block]:
    """
    What the state of a [`GatedRecurrence`] gives to its gates, as weights and biases: candidate; reset and update.

    The inputs' order is reset, update, candidate. Thus the gradients of both stand in one row: those of the switches, which
    are the same, in the middle.
    """
    sizes = [2 * unit.state_size, unit.state_size]
    switches, candidate = zip(unit.weight_hh.split(sizes), unit.bias_hh.split(sizes), strict=True)
    return [candidate, switches]


class GatedTape(NamedTuple):
    """
    Gated recurrent units over time. Before its update, a frame holds in `gates` and `candidates` what does not depend on the
    state; afterwards what the gradients need.
    """

    states: torch.Tensor  # (T, G, B, H), before each update
    gates: torch.Tensor  # (T, G, B, 3 H): what the state gives to the candidate, reset, update
    candidates: torch.Tensor  # (T, G, B, H)

    @classmethod
    def begin(cls, gates: torch.Tensor, candidates: torch.Tensor) -> "GatedTape":
        """With the first states, zeros."""
        states = candidates.new_empty(candidates.shape)
        states[0] = 0
        return cls(states, gates, candidates)


class GatedUpdates:
    """Goes over a tape frame by frame; `states` holds the state before each frame and, at the end, the last one."""

    def __init__(self, tape: GatedTape):
        H = tape.states.shape[-1]
        self.states = [*tape.states.unbind(0), torch.empty_like(tape.states[0])]
        from_state, reset, update = tape.gates.split_with_sizes([H, H, H], dim=-1)
        parts = (from_state, tape.gates[..., H:], reset, update, tape.candidates)
        self.frames = list(zip(self.states, *(part.unbind(0) for part in parts), self.states[1:], strict=False))

    def step(self, frame: int) -> None:
        """The arithmetic of [`GatedRecurrence.step`] after its products, which have been added to the tape."""
        state, from_state, switches, reset, update, candidate, following = self.frames[frame]
        switches.sigmoid_()
        candidate.addcmul_(reset, from_state).tanh_()
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
        from_state, reset, update = tape.gates.split_with_sizes([H, H, H], dim=-1)
        closed = 1 - update
        by_update = (tape.states - tape.candidates) * closed * update
        by_candidate = closed * (1 - tape.candidates.square())
        by_reset = from_state * reset * (1 - reset)
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
    return _FinalStates.apply(gates, *from_state) if torch.is_grad_enabled() else step_states(gates, from_state)[0]


def step_states(gates: torch.Tensor, from_state: StackedLinear) -> tuple[torch.Tensor, GatedTape]:
    """`final_states` without gradient, and what a gradient needs."""
    (T, _, B, _), H = gates.shape, gates.shape[-1] // 3
    outcomes = from_state.biases(T, B)
    outcomes[..., H:] += gates[..., : 2 * H]
    tape = GatedTape.begin(outcomes, gates[..., 2 * H :].clone(memory_format=torch.contiguous_format))
    updates, columns = GatedUpdates(tape), from_state.columns
    for frame, outcome in enumerate(outcomes.unbind(0)):
        outcome.baddbmm_(updates.states[frame], columns)
        updates.step(frame)
    return updates.states[-1], tape


class _FinalStates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gates: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        states, tape = step_states(gates, StackedLinear(weight, bias))
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

    from_state: StackedLinear  # to the first hidden layers, whose biases come with the conditions, and to the gates
    from_sample: StackedLinear  # to the gates
    gaussian: StackedLinear  # last hidden layers to means; to means and log-variances where there is noise
    layers: list[StackedLinear]  # the hidden layers but the first

    @classmethod
    def of(cls, latents: Sequence[Any], sampled: bool) -> "LatentNetworks":
        """Of [`DynamicLatent`]s whose posteriors have equally many layers."""
        histories, posteriors = [latent.history for latent in latents], [latent.posterior for latent in latents]
        H = histories[0].state_size
        firsts = [posterior.hidden.first_layer for posterior in posteriors]
        to_first = [(first.weight[:, :H], torch.zeros_like(first.bias)) for first in firsts]
        outcomes = [[p.mean, p.logvar] if sampled else [p.mean] for p in posteriors]
        deeper = zip(*(posterior.hidden.layers[1:] for posterior in posteriors), strict=True)
        return cls(
            StackedLinear.of([[first, *state_gates(h)] for first, h in zip(to_first, histories, strict=True)]),
            StackedLinear.of([[(unit.weight_ih, unit.bias_ih)] for unit in histories]),
            StackedLinear.of([[(layer.weight, layer.bias) for layer in layers] for layers in outcomes]),
            [StackedLinear.of([[(layer.weight, layer.bias)] for layer in layers]) for layers in deeper],
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
    """
    Dynamic latents over time: what they are and what their gradients need. Before its turn, a frame holds what does not
    depend on its history: the biases, and what the conditions give to the first layers.
    """

    samples: torch.Tensor  # (T, G, B, Z)
    gaussians: torch.Tensor  # (T, G, B, Z): means; (T, G, B, 2 Z): means and deviation times noise
    from_states: torch.Tensor  # (T, G, B, P + 3 H): first hidden layers, then the gates of `GatedTape`
    from_samples: torch.Tensor  # (T, G, B, 3 H): what the samples give to reset and update, then the candidates
    states: torch.Tensor  # (T, G, B, H), the histories before each frame
    deeper: list[torch.Tensor]  # the posteriors' other hidden layers, (T, G, B, P') ... (T, G, B, D)

    @classmethod
    def begin(cls, projected: torch.Tensor, networks: LatentNetworks) -> "LatentTape":
        (T, _, B, P), Z, H = projected.shape, networks.latent_size, networks.state_size
        from_states, from_samples, gaussians, *deeper = (
            layer.biases(T, B) for layer in (*networks[:3], *networks.layers)
        )
        from_states[..., :P] += projected
        samples = gaussians if networks.gaussian.output_size == Z else torch.empty_like(gaussians[..., :Z])
        states = GatedTape.begin(from_states[..., P:], from_samples[..., 2 * H :]).states
        return cls(samples, gaussians, from_states, from_samples, states, deeper)

    @classmethod
    def from_tensors(cls, tensors: Sequence[torch.Tensor]) -> "LatentTape":
        samples, gaussians, from_states, from_samples, states, *deeper = tensors
        return cls(samples, gaussians, from_states, from_samples, states, deeper)

    def tensors(self) -> list[torch.Tensor]:
        return [*self[:5], *self.deeper]

    @property
    def activations(self) -> list[torch.Tensor]:
        """Of all hidden layers of the posteriors, (T, G, B, P) ... (T, G, B, D)."""
        gates = 3 * self.states.shape[-1]
        return [self.from_states[..., :-gates], *self.deeper]

    @property
    def course(self) -> LatentCourse:
        return LatentCourse(self.samples, self.activations[-1], self.states)

    @property
    def gated(self) -> GatedTape:
        H = self.states.shape[-1]
        return GatedTape(self.states, self.from_states[..., -3 * H :], self.from_samples[..., 2 * H :])


def step_latents(
    projected: torch.Tensor,
    noise: torch.Tensor | None,
    networks: LatentNetworks,
    replace: Replacement | None = None,
) -> LatentTape:
    """
    All frames of dynamic latents, without gradient ([MD], inference of the dynamic latents).

    Args:
        projected: (T, G, B, P), what the conditions give to the first layers.
        noise: (T, G, B, Z) standard normal; None for means.
        replace: what takes the place of the samples of a frame.
    """
    tape, H = LatentTape.begin(projected, networks), networks.state_size
    updates, switches = GatedUpdates(tape.gated), tape.gated.gates[..., H:]
    noises = [None] * len(projected) if noise is None else noise.unbind(0)
    parts = (
        tape.from_states,
        tape.gaussians,
        tape.samples,
        tape.from_samples,
        tape.from_samples[..., : 2 * H],
        switches,
    )
    frames = zip(updates.states, noises, *(part.unbind(0) for part in parts), strict=False)
    activations = zip(*(activation.unbind(0) for activation in tape.activations), strict=True)
    to_state, to_sample, to_gaussian, *to_layers = (layer.columns for layer in (*networks[:3], *networks.layers))
    for t, (frame, (hidden, *deeper)) in enumerate(zip(frames, activations, strict=True)):
        state, frame_noise, from_state, gaussian, sample, from_sample, sample_switches, frame_switches = frame
        from_state.baddbmm_(state, to_state)
        hidden.tanh_()
        for columns, activation in zip(to_layers, deeper, strict=True):
            hidden = activation.baddbmm_(hidden, columns).tanh_()
        gaussian.baddbmm_(hidden, to_gaussian)
        if frame_noise is not None:
            mean, logvar = gaussian.chunk(2, dim=-1)
            torch.add(mean, logvar.mul_(0.5).exp_().mul_(frame_noise), out=sample)
        if replace is not None:
            sample.copy_(replace(t, sample, state))
        from_sample.baddbmm_(sample, to_sample)
        frame_switches.add_(sample_switches)
        updates.step(t)
    return tape


def run_latents(projected: torch.Tensor, noise: torch.Tensor | None, networks: LatentNetworks) -> LatentCourse:
    """`step_latents`, with gradient where it is enabled."""
    if torch.is_grad_enabled():
        return LatentCourse(*_LatentCourse.apply(projected, noise, *networks.tensors()))
    return step_latents(projected, noise, networks).course


class _LatentCourse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, projected: torch.Tensor, noise: torch.Tensor | None, *weights: torch.Tensor) -> Any:
        tape = step_latents(projected, noise, LatentNetworks.from_tensors(weights))
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
