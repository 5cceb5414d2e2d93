"""What the tab *Factors* shows: two clips, and one with some of the factors of either ([MD], swapping of factors)."""

from collections.abc import Mapping

import torch

from vqmae_hf.data.clips import Clip
from vqmae_hf.demo.media import clip_address, picture_address
from vqmae_hf.demo.pieces import picture, player
from vqmae_hf.evaluation.pictures import spectrogram
from vqmae_hf.inference.factor_mixing import mix_factors
from vqmae_hf.inference.talking_faces import (
    EncodedClip,
    GeneratedClip,
    TalkingFaceModel,
    decode_clip,
    process_clip,
)

FACTOR_NAMES = {
    "w": "w: who speaks, in which mood",
    "z_av": "z_av: what lips and voice do together",
    "z_a": "z_a: what only the voice does",
    "z_v": "z_v: what only the face does",
}


@torch.no_grad()
def encode_loaded(talker: TalkingFaceModel, clip: Clip) -> EncodedClip:
    """
    The latents of a clip that was loaded for the model.

    Raises:
        ValueError: the clip lacks a modality, in words for a visitor.
    """
    if clip.frames is None or clip.waveform is None:
        missing = "picture" if clip.frames is None else "sound"
        raise ValueError(
            f"One of the clips has no {missing}. Factors are inferred from both; please choose another clip."
        )
    values = process_clip(talker, clip)
    return EncodedClip(clip, values, talker.model.encode(**values))


def mix_clips(
    talker: TalkingFaceModel, first: EncodedClip, second: EncodedClip, weights: Mapping[str, float]
) -> GeneratedClip:
    """The clip whose factors are a part of the way, 0 to 1, from those of the first clip to those of the second."""
    return decode_clip(talker, mix_factors(second.latents, first.latents, weights))


def factors_panel(
    mixed: GeneratedClip, first: GeneratedClip, second: GeneratedClip, weights: Mapping[str, float]
) -> str:
    """Three clips that play together."""
    said = ", ".join(f"{name} {100 * weight:.0f} %" for name, weight in weights.items() if weight)
    columns = [
        _column(first, "Clip A", "as the model decodes it"),
        _column(mixed, "Mixed", f"of B: {said}" if said else "nothing of B: move a slider"),
        _column(second, "Clip B", "as the model decodes it"),
    ]
    return f'<div class="vq-result vq-factors"><div class="vq-columns vq-together">{"".join(columns)}</div></div>'


def _column(clip: GeneratedClip, name: str, note: str) -> str:
    address = clip_address(clip.frames, clip.waveform, clip.frames_per_second, clip.sampling_rate)
    below = ""
    if clip.spectra is not None:
        pixels = spectrogram(clip.spectra, width=400, height=110)
        below = f'<div class="vq-voice">{picture(picture_address(pixels), f"{name}: spectrogram of the voice")}</div>'
    return f"<div>{player(address, name, note=note)}{below}</div>"
