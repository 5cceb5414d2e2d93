"""Clips taken apart into the latents of an MDVAE and put together otherwise ([MD], analysis of the latent space)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from vqmae_hf.evaluation.pictures import named_rows
from vqmae_hf.inference.talking_faces import (
    GeneratedClip,
    Model,
    TalkingFaceModel,
    check_names,
    clip_strip,
    decode_clip,
    encode_clip,
    load_talking_face_model,
)
from vqmae_hf.modeling.modeling_outputs_mdvae import MDVAELatents
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor


def resynthesize_clip(
    source: Any, model: Model, processor: MDVAEProcessor | None = None, **clip_options: Any
) -> GeneratedClip:
    """
    A file through the latents and back ([MD], analysis and resynthesis).

    Args:
        source: a path, bytes, a file object, or `{"path", "bytes"}`.
        model, processor: see [`load_talking_face_model`].
        **clip_options: further arguments of [`~vqmae_hf.data.clips.load_clip`], such as its policies.

    Raises:
        ClipError: what `load_clip` raises about the file.
        ValueError: see `load_talking_face_model` and `load_for`.
    """
    talker = load_talking_face_model(model, processor)
    encoded = encode_clip(talker, source, **clip_options)
    return decode_clip(talker, encoded.latents, {"original": encoded.clip})


def swap_clips(
    source: Any,
    target: Any,
    model: Model,
    processor: MDVAEProcessor | None = None,
    *,
    factors: str | Sequence[str] = ("w",),
    on_length_difference: Literal["shorter", "error"] = "shorter",
    **clip_options: Any,
) -> GeneratedClip:
    """
    `target` with the `factors` of `source` in place of its own ([MD], swapping of factors): `("w",)` is the person and the
    mood of `source` with what `target` does with mouth, head and voice.

    Args:
        source, target: files, as for `resynthesize_clip`, of any length.
        factors: one or more of "w", "z_av", "z_a", "z_v" that the model has.
        on_length_difference: what to do where a dynamic factor is swapped between clips of different length: "shorter" ends
            the result with the shorter clip. With w alone there is nothing to do: the result is as long as `target`.

    Raises:
        ClipError, ValueError: as `resynthesize_clip`; factors that the model does not have; lengths that differ, if "error".
    """
    talker = load_talking_face_model(model, processor)
    factors = check_names("factors", factors, ["w", *talker.model.config.dynamic_latents])
    if on_length_difference not in ("shorter", "error"):
        raise ValueError(f"on_length_difference={on_length_difference!r}: 'shorter' and 'error' are accepted.")
    encoded = {
        "source": encode_clip(talker, source, **clip_options),
        "target": encode_clip(talker, target, **clip_options),
    }
    dynamic = talker.model.config.dynamic_latents
    lengths = {f"{part} {each.clip.source}": each.latents[dynamic[0]].shape[1] for part, each in encoded.items()}
    if on_length_difference == "error" and set(factors) != {"w"} and len(set(lengths.values())) > 1:
        raise ValueError(
            f"found clips of different length, in frames: {lengths}; for {factors}, which move in time, equal lengths are "
            "accepted. Cut one with end_seconds, or pass on_length_difference='shorter'."
        )
    swapped = talker.model.swap(encoded["source"].latents, encoded["target"].latents, factors)
    return decode_clip(talker, swapped, {part: each.clip for part, each in encoded.items()})


@dataclass
class InterpolatedClip(GeneratedClip):
    """
    The same clip said several times, one after the other, with w a step further each time.

    Args:
        steps: each of them alone, with frames, sound and `.write`.
        weights: how far each is from the target (0) to the source (1).
    """

    steps: list[GeneratedClip] = field(default_factory=list)
    weights: tuple[float, ...] = ()

    def figure(self) -> Image.Image:
        """Frames of the sources and of every step, at the same times."""
        rows = [(name, clip_strip(clip.frames)) for name, clip in self.sources.items() if clip.frames is not None]
        for weight, step in zip(self.weights, self.steps, strict=True):
            rows += step.picture_rows(f"w at {weight:.2f}")[:1]
        return named_rows(rows)


def interpolate_clips(
    source: Any,
    target: Any,
    model: Model,
    processor: MDVAEProcessor | None = None,
    *,
    weights: int | Sequence[float] = 5,
    **clip_options: Any,
) -> InterpolatedClip:
    """
    `target` with its w on the way to that of `source`, all other factors its own ([MD], interpolation of w).

    Args:
        source, target: files, as for `resynthesize_clip`, of any lengths.
        weights: 0 is the w of `target`, 1 that of `source`; or a number of steps, evenly from 0 to 1.

    Raises:
        ClipError, ValueError: as `resynthesize_clip`; fewer than two steps; weights that are not finite.
    """
    path = torch.linspace(0, 1, weights) if isinstance(weights, int) else torch.tensor([float(x) for x in weights])
    if len(path) < 2 or not path.isfinite().all():
        raise ValueError(
            f"weights={weights!r}: accepted are two or more finite numbers, or a number of steps from 2 on."
        )
    talker = load_talking_face_model(model, processor)
    encoded = {
        "source": encode_clip(talker, source, **clip_options),
        "target": encode_clip(talker, target, **clip_options),
    }
    latents = talker.model.interpolate(
        encoded["source"].latents, encoded["target"].latents, path.to(talker.model.device)
    )
    steps = [decode_clip(talker, part_of_batch(latents, i)) for i in range(len(path))]
    return InterpolatedClip(
        latents=latents,
        frames=_joined([step.frames for step in steps]),
        waveform=_joined([step.waveform for step in steps]),
        spectra=torch.cat([s.spectra for s in steps if s.spectra is not None])
        if steps[0].spectra is not None
        else None,
        frames_per_second=steps[0].frames_per_second,
        sampling_rate=steps[0].sampling_rate,
        sources={part: each.clip for part, each in encoded.items()},
        steps=steps,
        weights=tuple(path.tolist()),
    )


def continue_clip(
    source: Any,
    model: Model,
    processor: MDVAEProcessor | None = None,
    *,
    num_frames: int,
    kept_frames: int | None = None,
    sample: bool = True,
    generator: torch.Generator | None = None,
    **clip_options: Any,
) -> GeneratedClip:
    """
    A clip that goes on: its first frames, then frames from the priors ([MD], generation), with the person and the mood (w)
    of the part that is known.

    Args:
        source: as for `resynthesize_clip`.
        num_frames: to add, at the frame rate of the model.
        kept_frames: frames of the file that are known; all without.
        sample: draw from the priors; False takes their means.
        generator: source of the noise; a fresh one with seed 0 without, so that the same call gives the same clip.

    Returns:
        `kept_frames + num_frames` frames, the known ones decoded from their latents.

    Raises:
        ClipError, ValueError: as `resynthesize_clip`; numbers of frames that are below 1 or more than the clip has.
    """
    talker = load_talking_face_model(model, processor)
    encoded = encode_clip(talker, source, **clip_options)
    latents = _first_frames(talker, encoded.values, encoded.clip.source, kept_frames)
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    continued = talker.model.continue_sequence(latents, num_frames, sample=sample, generator=generator)
    return decode_clip(talker, continued, {"original": encoded.clip})


def _first_frames(
    talker: TalkingFaceModel, values: dict[str, torch.Tensor], name: str, kept_frames: int | None
) -> MDVAELatents:
    """The latents of the first frames of a clip, inferred from these frames alone."""
    T = next(iter(values.values())).shape[1]
    kept = T if kept_frames is None else kept_frames
    if not 1 <= kept <= T:
        raise ValueError(f"{name}: found {T} frames and kept_frames={kept_frames}; 1 to {T} are accepted.")
    with torch.no_grad():
        return talker.model.encode(**{part: tensor[:, :kept] for part, tensor in values.items()})


def part_of_batch(latents: MDVAELatents, clip: int) -> MDVAELatents:
    """One clip of a batch of latents, as a batch of one."""
    return MDVAELatents(**{name: tensor[clip : clip + 1] for name, tensor in latents.items()})


def _joined(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    found = [part for part in parts if part is not None]
    return np.concatenate(found) if found else None
