"""Pictures of frames and spectra, for people: strips, spectrograms, and rows of them with their names."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

ROW_HEIGHT = 96
ROW_GAP = 4
NAME_WIDTH = 110
DYNAMIC_RANGE_DB = 80.0


def frame_strip(pixels: torch.Tensor | np.ndarray, num_frames: int = 8) -> np.ndarray:
    """Frames side by side, evenly chosen from the clip.

    Args:
        pixels: (T, 3, H, W), pixel values minus 0.5.
        num_frames: frames shown; fewer if the clip has fewer.

    Returns:
        (H, W * frames, 3) uint8.
    """
    frames = np.asarray(torch.as_tensor(pixels).float().cpu())
    chosen = frames[np.linspace(0, len(frames) - 1, min(num_frames, len(frames))).round().astype(int)]
    shown = ((chosen + 0.5).clip(0, 1) * 255).round().astype(np.uint8)
    return np.concatenate(list(shown.transpose(0, 2, 3, 1)), axis=1)


def pixels_to_frames(pixels: torch.Tensor) -> np.ndarray:
    """Pixel values minus 0.5, (T, 3, H, W), as (T, H, W, 3) uint8."""
    return ((pixels.float().cpu() + 0.5).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def spectrogram(
    spectra: torch.Tensor | np.ndarray, *, loudest: float | None = None, width: int = 768, height: int = ROW_HEIGHT
) -> np.ndarray:
    """Power spectra in decibels as colours, low frequencies at the bottom.

    Args:
        spectra: (S, 513) power.
        loudest: power of the brightest colour, so that pictures compare; None: the largest of these spectra. The
            darkest is 80 dB below.
        width, height: of the picture, in pixels; by default those of a strip of 8 frames, so that times align.

    Returns:
        (height, width, 3) uint8.
    """
    power = np.asarray(torch.as_tensor(spectra).float().cpu(), dtype=np.float64)
    top = power.max() if loudest is None else loudest
    decibels = 10 * np.log10(np.maximum(power, 1e-20) / max(top, 1e-20))
    shade = (decibels / DYNAMIC_RANGE_DB + 1).clip(0, 1)
    colours = (colormaps["magma"](shade.T[::-1])[..., :3] * 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(colours).resize((width, height), Image.Resampling.BOX))


def named_rows(rows: Sequence[tuple[str, np.ndarray]], row_height: int = ROW_HEIGHT) -> Image.Image:
    """One picture of rows (name, (H, W, 3) uint8), each scaled to `row_height` pixels, names on the left."""
    images = [Image.fromarray(pixels) for _, pixels in rows]
    scaled = [image.resize((max(1, image.width * row_height // image.height), row_height)) for image in images]
    width = NAME_WIDTH + max(image.width for image in scaled)
    sheet = Image.new("RGB", (width, len(rows) * (row_height + ROW_GAP) - ROW_GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=14)
    for place, ((name, _), image) in enumerate(zip(rows, scaled, strict=True)):
        top = place * (row_height + ROW_GAP)
        sheet.paste(image, (NAME_WIDTH, top))
        draw.multiline_text((4, top + row_height // 2), name, fill="black", font=font, anchor="lm")
    return sheet
