"""Pictures and clips as data addresses: a page needs no files on the server for what was made for one visitor."""

import base64
import io
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vqmae_hf.data.media import write_clip

# Of an attention map: tubes are few and large, so that a small picture of them is enlarged smoothly.
MAP_SIZE = 48
# From no attention (transparent) to the most: orange, which everyone tells from the grey picture below.
HEAT_COLOUR, MOST_OPAQUE = (230, 110, 0), 215
# Differences below half of the mean attention are shown fainter, not blown up.
SMALLEST_SPAN = 0.5


def picture_address(pixels: np.ndarray, *, lossy: bool = False) -> str:
    """(H, W, 3 or 4) uint8 as `data:image/...;base64,...`."""
    buffer = io.BytesIO()
    kind = "jpeg" if lossy else "png"
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, format=kind, **({"quality": 88} if lossy else {}))
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def clip_address(
    frames: np.ndarray | None, waveform: np.ndarray | None, frames_per_second: float, sampling_rate: int
) -> str:
    """An mp4 as `data:video/mp4;base64,...`; the file it passes through is deleted at once."""
    with tempfile.TemporaryDirectory(prefix="vqmae-demo-") as folder:
        path = write_clip(
            Path(folder) / "clip.mp4",
            frames,
            waveform,
            frames_per_second=frames_per_second,
            sampling_rate=sampling_rate,
        )
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def heat(levels: np.ndarray) -> np.ndarray:
    """Attention (H, W) as (H, W, 4) uint8: the more, the less transparent, from its least to its most."""
    least, most = float(levels.min()), float(levels.max())
    opacity = (levels - least) / max(most - least, SMALLEST_SPAN) * MOST_OPAQUE
    coloured = np.empty((*levels.shape, 4), np.uint8)
    coloured[..., :3], coloured[..., 3] = HEAT_COLOUR, opacity.clip(0, MOST_OPAQUE).round()
    return coloured


def face_heat_sprite(levels: torch.Tensor, every: int) -> tuple[str, int]:
    """
    Attention over the face as one picture of maps below each other, for the page to choose from as the clip plays.

    Args:
        levels: (T, rows, columns), per frame.
        every: frames from one map to the next.

    Returns:
        Its address, and the number of maps.
    """
    maps = levels[::every].numpy()
    return picture_address(heat(np.concatenate([enlarged(part, MAP_SIZE, MAP_SIZE) for part in maps]))), len(maps)


def voice_heat(levels: torch.Tensor, every: int, width: int, height: int) -> str:
    """Attention over the voice, (S, bands), as a picture to lie on a spectrogram; low frequencies at the bottom."""
    return picture_address(heat(enlarged(levels[::every].numpy().T[::-1], width, height)))


def enlarged(levels: np.ndarray, width: int, height: int) -> np.ndarray:
    """A small map (h, w), smoothly."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(levels)).resize((width, height), Image.Resampling.BICUBIC))
