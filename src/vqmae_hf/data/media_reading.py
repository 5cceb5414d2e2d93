"""Reading pictures and sound of a file together, in step.

A clip begins with its first picture (with its first sample where there are no pictures). Everything is placed relative to
that moment, however the streams of the file are offset to each other: the sound is cut or padded with zeros to the interval
of the frames.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from vqmae_hf.data.errors import ClipTooLongError
from vqmae_hf.data.media_limits import LARGEST_RESULT_BYTES
from vqmae_hf.data.media_pictures import FrameReader
from vqmae_hf.data.media_sound import read_waveform
from vqmae_hf.data.media_source import probe_media, resolve_source


@dataclass(frozen=True)
class Media:
    """A decoded file.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB, or None without video.
        waveform: (N,) float32 mono in [-1, 1], or None without a sound track; where there are frames,
            N = round(T * sampling_rate / frames_per_second).
        frames_per_second, sampling_rate: in Hz, as asked for.
        source: name of the file.
    """

    frames: np.ndarray | None
    waveform: np.ndarray | None
    frames_per_second: float
    sampling_rate: int
    source: str


def read_media(
    source: Any,
    *,
    frames_per_second: float = 25,
    sampling_rate: int = 16000,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
) -> Media:
    """Decode pictures and sound of a clip to fixed rates, in step with each other.

    Whole pictures are held in memory; `vqmae_hf.data.clips.load_clip` keeps only the faces.

    Args:
        source: path, bytes, binary file object or {"path", "bytes"} dict.
        frames_per_second: rate of the frames, in Hz.
        sampling_rate: rate of the waveform, in Hz; several channels are averaged to one.
        start_seconds, end_seconds: part to return, counted from the start of the clip; None is its end. The file is
            decoded from its beginning, which is exact in every container.

    Raises:
        UnreadableMediaError: the file is missing, damaged, beyond the limits of `media_limits`, or holds neither pictures
            nor sound.
        ClipTooLongError: pictures or sound that take more than `media_limits.LARGEST_RESULT_BYTES`.
        ValueError: a rate or an interval that makes no sense.
    """
    source = resolve_source(source)
    if not probe_media(source).has_video:
        waveform = read_waveform(source, sampling_rate, start_seconds, end_seconds)
        return Media(None, waveform, frames_per_second, sampling_rate, source.name)
    reader = FrameReader(source, frames_per_second, start_seconds, end_seconds)
    frames = _all_pictures(reader)
    end = start_seconds + reader.duration_seconds
    waveform = read_waveform(source, sampling_rate, start_seconds, end, reader.origin_seconds)
    return Media(frames, waveform, frames_per_second, sampling_rate, source.name)


def _all_pictures(reader: FrameReader) -> np.ndarray:
    """(T, H, W, 3) uint8; (0, 0, 0, 3) without a picture."""
    images, room, last = [], LARGEST_RESULT_BYTES, None
    for picture in reader:
        image = images[-1] if picture is last else picture.to_rgb()
        last = picture
        room -= image.nbytes
        if room < 0:
            raise ClipTooLongError.about(
                reader.source.name,
                found=f"more than {len(images)} pictures of {image.shape[1]} x {image.shape[0]}",
                accepted=f"up to {LARGEST_RESULT_BYTES} bytes of pictures in one piece",
                remedy="Pass end_seconds, go through vqmae_hf.data.media.FrameReader(file), or let vqmae_hf.load_clip(file) "
                "keep the faces only",
            )
        images.append(image)
    return np.stack(images) if images else np.zeros((0, 0, 0, 3), np.uint8)
