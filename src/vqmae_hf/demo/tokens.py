"""
What the tab *Tokens* shows: the codes of one frame and of one spectrum, and what each of them stands for.

Letters: T frames, S spectra, G x G codes per frame, C codes per spectrum, K codes of a codebook.
"""

from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image

from vqmae_hf.data.clips import Clip
from vqmae_hf.demo.media import picture_address
from vqmae_hf.demo.pieces import picture
from vqmae_hf.evaluation.pictures import DYNAMIC_RANGE_DB, pixels_to_frames
from vqmae_hf.inference.coded_clips import CodedClip, tokenize_clip
from vqmae_hf.modeling.modeling_vqmae import VQMAEPreTrainedModel
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.training.assembly import inner_tokenizers

NUMBERED_UP_TO = 12  # codes a side that leave room for their numbers
CURVE_WIDTH, CURVE_HEIGHT = 640, 150


@dataclass(frozen=True)
class TokenView:
    """
    A clip as tokens, ready to be shown at any moment.

    Args:
        coded: the codes.
        frames: (T, H, H, 3) uint8, decoded, or None without pictures.
        spectra: (S, 513) decoded power, or None without sound.
        colours: by modality, (K, 3) uint8: codes that are alike have like colours.
        sampling_rate: in Hz.
    """

    coded: CodedClip
    frames: np.ndarray | None
    spectra: torch.Tensor | None
    colours: dict[str, np.ndarray]
    sampling_rate: int

    @property
    def last_frame(self) -> int:
        """Number of the last frame."""
        return self.coded.num_frames - 1


@torch.no_grad()
def view_tokens(model: VQMAEPreTrainedModel, processor: VQMAEProcessor, clip: Clip) -> TokenView:
    """The codes of a clip, and what they decode to."""
    tokenizers = inner_tokenizers(model)
    coded = tokenize_clip(clip, processor, tokenizers)
    decoded = {
        modality: tokenizers[modality].decode(codes[None].to(model.device))[0].float().cpu()
        for modality, codes in coded.codes.items()
    }
    return TokenView(
        coded,
        pixels_to_frames(decoded["visual"]) if "visual" in decoded else None,
        decoded.get("audio"),
        {modality: code_colours(tokenizers[modality].get_codebook()) for modality in coded.codes},
        processor.feature_extractor.sampling_rate,
    )


def code_colours(codebook: torch.Tensor) -> np.ndarray:
    """
    A colour for each code, (K, d) -> (K, 3) uint8: its rank along the first principal component of the codebook, from
    blue to yellow (cividis, which colour-blind people see alike).
    """
    vectors = codebook.detach().float().cpu()
    centred = vectors - vectors.mean(0)
    direction = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    rank = (centred @ direction).argsort().argsort().numpy() / max(1, len(vectors) - 1)
    return (colormaps["cividis"](rank)[:, :3] * 255).round().astype(np.uint8)


def tokens_panel(view: TokenView, frame: int) -> str:
    """The codes at the time of a frame as HTML; the page shows the decoded patch below the pointer."""
    frame = min(max(0, frame), view.last_frame)
    seconds = frame / view.coded.clip.frames_per_second
    parts = []
    if view.frames is not None:
        parts.append(_face_part(view, frame))
    if view.spectra is not None:
        parts.append(_voice_part(view, frame * view.coded.spectra_per_frame))
    return (
        f'<div class="vq-result vq-tokens" data-frame="{frame}"><p class="vq-note">At {seconds:.2f} s. Point at a code to '
        f"see what it stands for; codes that are alike have like colours.</p>{''.join(parts)}</div>"
    )


def _face_part(view: TokenView, frame: int) -> str:
    assert view.frames is not None
    codes, pixels = view.coded.codes["visual"][frame].numpy(), view.frames[frame]
    side = len(codes)
    large = np.asarray(Image.fromarray(pixels).resize((384, 384), Image.Resampling.BICUBIC))
    address = picture_address(large, lossy=True)
    cells = [
        _cell(code, view.colours["visual"], f"row {row + 1}, column {column + 1}", side <= NUMBERED_UP_TO, row, column)
        for (row, column), code in np.ndenumerate(codes)
    ]
    grid = f'style="grid-template-columns:repeat({side},1fr)"'
    blank = "".join(
        f'<i class="vq-code" data-row="{row}" data-column="{column}"></i>'
        for row in range(side)
        for column in range(side)
    )
    return (
        f'<section class="vq-face-codes" data-side="{side}"><h4>Face: {side} × {side} codes</h4><div class="vq-columns">'
        f'<figure><figcaption>Codes</figcaption><div class="vq-grid vq-colours" {grid}>{"".join(cells)}</div></figure>'
        f'<figure><figcaption>Decoded</figcaption><div class="vq-decoded">{picture(address, "Decoded frame")}'
        f'<div class="vq-grid" {grid}>{blank}</div></div></figure>'
        f'<figure class="vq-lens"><figcaption>Patch</figcaption><div class="vq-patch" '
        f'style="background-image:url({address})"></div><p class="vq-said">–</p></figure></div></section>'
    )


def _voice_part(view: TokenView, spectrum: int) -> str:
    assert view.spectra is not None
    spectrum = min(spectrum, len(view.spectra) - 1)
    codes, power = view.coded.codes["audio"][spectrum].numpy(), view.spectra[spectrum].numpy()
    highest = view.sampling_rate / 2
    bands = np.linspace(0, highest, len(codes) + 1)
    level = 10 * np.log10(np.maximum(power, 1e-20) / max(float(view.spectra.max()), 1e-20))
    cells = []
    for place, code in enumerate(codes):
        bins = slice(place * len(power) // len(codes), (place + 1) * len(power) // len(codes))
        words = f"{bands[place]:.0f} to {bands[place + 1]:.0f} Hz, {level[bins].max():.0f} dB".replace(" -", " −")
        cells.append(_cell(code, view.colours["audio"], words, False, 0, place))
    grid = f'style="grid-template-columns:repeat({len(codes)},1fr)"'
    return (
        f'<section class="vq-voice-codes"><h4>Voice: {len(codes)} codes of one spectrum</h4>'
        f'<div class="vq-spectrum">{_curve(level)}<div class="vq-band"></div></div>'
        f'<div class="vq-grid vq-colours vq-strip" {grid}>{"".join(cells)}</div>'
        f'<div class="vq-axis"><span style="left:0">0 kHz</span><span style="left:50%">{highest / 2000:g} kHz</span>'
        f'<span style="left:100%">{highest / 1000:g} kHz</span></div><p class="vq-said">–</p></section>'
    )


def _cell(code: int, colours: np.ndarray, place: str, numbered: bool, row: int, column: int) -> str:
    """One code: its colour, its number where there is room, and what the page says when it is pointed at."""
    red, green, blue = colours[code].tolist()
    ink = "#000" if red * 0.3 + green * 0.59 + blue * 0.11 > 120 else "#fff"
    words = escape(f"code {code}: {place}", quote=True)
    return (
        f'<i class="vq-code" tabindex="0" data-row="{row}" data-column="{column}" data-says="{words}" title="{words}" '
        f'style="background:rgb({red},{green},{blue});color:{ink}">{code if numbered else ""}</i>'
    )


def _curve(level: np.ndarray) -> str:
    """A decoded spectrum in decibels below the loudest of the clip, over frequency."""
    places = np.linspace(0, CURVE_WIDTH, len(level))
    heights = (-level / DYNAMIC_RANGE_DB).clip(0, 1) * CURVE_HEIGHT
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True))
    return (
        f'<svg viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="Decoded spectrum"><polygon points="0,{CURVE_HEIGHT} {points} {CURVE_WIDTH},{CURVE_HEIGHT}"></polygon>'
        f'<polyline points="{points}"></polyline></svg><span class="vq-top">0 dB</span>'
        f'<span class="vq-bottom">−{DYNAMIC_RANGE_DB:.0f} dB</span>'
    )
