"""The pictures of the report, each as a data address that a page can show without further files."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from vqmae_hf.data.media import read_media
from vqmae_hf.evaluation.confusion_chart import draw_confusions
from vqmae_hf.evaluation.pictures import frame_strip, named_rows, spectrogram
from vqmae_hf.evaluation.reconstructions import decode_masked_codes, predict_masked_codes
from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining
from vqmae_hf.quickstart.real_clips import RealClip
from vqmae_hf.training.assembly import inner_tokenizers

# Blue and orange, told apart by everyone; see Okabe and Ito's palette.
COLOURS = {"visual": "#0072B2", "audio": "#D55E00", "contrastive": "#009E73"}
TERM_NAMES = {"visual": "face codes", "audio": "voice codes", "contrastive": "InfoNCE"}
MASK_SEED = 0


def as_address(image: Image.Image | Figure) -> str:
    """A picture as `data:image/png;base64,...`."""
    buffer = io.BytesIO()
    if isinstance(image, Figure):
        image.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    else:
        image.save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def corpus_sheet(paths: Sequence[str], names: Sequence[str]) -> Image.Image:
    """One row of frames for each clip, beside its name."""
    rows = []
    for path, name in zip(paths, names, strict=True):
        frames = read_media(path).frames
        rows.append((name, frame_strip(frames.transpose(0, 3, 1, 2) / 255 - 0.5)))
    return named_rows(rows)


def tokenized_sheet(
    pixels: torch.Tensor, decoded: torch.Tensor, spectra: torch.Tensor, decoded_spectra: torch.Tensor
) -> Image.Image:
    """Frames (T, 3, H, H) and spectra (S, bins), each above what its tokens say."""
    loudest = float(spectra.max())
    return named_rows(
        [
            ("face", frame_strip(pixels)),
            ("its tokens", frame_strip(decoded)),
            ("voice", spectrogram(spectra, loudest=loudest)),
            ("its tokens", spectrogram(decoded_spectra, loudest=loudest)),
        ]
    )


def masked_sheet(
    model: VQMAEForPreTraining, codes: Mapping[str, torch.Tensor], mask_ratio: tuple[float, float]
) -> Image.Image:
    """A clip as tokenized, as the model sees it at these (visual, audio) masking ratios, and as it completes it."""
    generator = torch.Generator().manual_seed(MASK_SEED)
    predicted = predict_masked_codes(model, codes, mask_ratio=mask_ratio, generator=generator)
    values = decode_masked_codes(predicted, inner_tokenizers(model))
    rows = []
    for modality, shown in (("visual", frame_strip), ("audio", spectrogram)):
        for name, picture in zip(("tokenized", "seen", "completed"), values[modality], strict=True):
            options = {"loudest": float(values[modality].original.max())} if modality == "audio" else {}
            rows.append((name, shown(picture[0], **options)))
    return named_rows(rows)


def pretraining_curves(log_history: Sequence[Mapping[str, float]]) -> Figure:
    """Each term over the optimizer steps: line for training, dots for validation speakers."""
    logged = {name.removeprefix("eval_") for row in log_history for name in row}
    trained = [term for term in COLOURS if f"{term}_loss" in logged]
    figure = Figure(figsize=(3.2 * len(trained), 2.8))
    for place, term in enumerate(trained):
        axes, colour = figure.add_subplot(1, len(trained), place + 1), COLOURS[term]
        for prefix, style, label in (("", "-", "training"), ("eval_", "o", "unseen speakers")):
            points = [
                (row["step"], row[f"{prefix}{term}_loss"]) for row in log_history if f"{prefix}{term}_loss" in row
            ]
            if points:
                axes.plot(*zip(*points, strict=True), style, color=colour, markersize=4, label=label)
        axes.set_title(TERM_NAMES[term], fontsize=10)
        axes.set_xlabel("optimizer step", fontsize=9)
        axes.set_ylabel("loss (nats)", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    return figure


def validation_curves(histories: Mapping[str, Sequence[Mapping[str, float]]]) -> Figure:
    """Macro-F1 on the validation speakers over the epochs of each classifier."""
    figure = Figure(figsize=(9, 3))
    axes = figure.add_subplot()
    colours = {"audio + video": "#009E73", "audio only": "#D55E00", "video only": "#0072B2"}
    for name, history in histories.items():
        modalities, start = name.split(", ")
        points = [(row["epoch"], row["eval_macro_f1"]) for row in history if "eval_macro_f1" in row]
        style = "-" if start == "pre-trained" else ":"
        axes.plot(*zip(*points, strict=True), style, color=colours[modalities], label=name, linewidth=2)
    axes.set_xlabel("epoch")
    axes.set_ylabel("macro-F1, validation speakers")
    axes.set_ylim(0, 1)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, ncol=2)
    return figure


def confusion_figure(matrix: Sequence[Sequence[int]], classes: Sequence[str], title: str) -> Figure:
    """Rows: what was acted; columns: what the model said; each cell % of its row."""
    figure = Figure(figsize=(3.4, 3.2))
    draw_confusions(figure.add_subplot(), matrix, classes, title=title, font_size=8)
    return figure


def boxed_strip(clip: RealClip) -> np.ndarray:
    """Original pictures with the found face framed, side by side, (H, W, 3) uint8."""
    pictures = []
    for frame, (x, y, width, height) in zip(clip.frames, clip.boxes, strict=True):
        image = Image.fromarray(frame)
        ImageDraw.Draw(image).rectangle([x, y, x + width, y + height], outline="#F0E442", width=4)
        pictures.append(np.asarray(image))
    return np.concatenate(pictures, axis=1)


def real_sheet(clip: RealClip) -> Image.Image:
    """The recording, the face that was found, what its tokens say, and both spectrograms."""
    rebuilt = clip.reconstruction
    faces, decoded = (
        frames.transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5 for frames in (rebuilt.clip.frames, rebuilt.frames)
    )
    loudest = float(rebuilt.spectra.max())
    return named_rows(
        [
            ("recording", boxed_strip(clip)),
            ("face", frame_strip(faces)),
            ("its tokens", frame_strip(decoded)),
            ("voice", spectrogram(rebuilt.spectra, loudest=loudest)),
            ("its tokens", spectrogram(rebuilt.decoded_spectra, loudest=loudest)),
        ]
    )


def prediction_strip(path: str | Path) -> Image.Image:
    """Six frames of a clip, small."""
    frames = read_media(path).frames
    return Image.fromarray(frame_strip(frames.transpose(0, 3, 1, 2) / 255 - 0.5, num_frames=6))


def bars(answer: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Labels with their scores as percentages, for the bars of the page."""
    return [{"label": item["label"], "percent": round(100 * item["score"], 1)} for item in answer]
