"""Clips of any length, an hour or a day, window by window in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from vqmae_hf.data.clip_examination import ClipOptions, ExaminedClip, examine_clip
from vqmae_hf.data.clips import Clip


@dataclass(frozen=True)
class ClipWindow(Clip):
    """A part of a longer clip, with what it has to know of the whole.

    Attributes:
        start_seconds: of the window, counted from the start of the file's clip.
        clip_peak: greatest magnitude of the sound of the whole clip, which the models' sound is divided by; None without
            sound.
    """

    start_seconds: float
    clip_peak: float | None


def stream_clip(source: Any, *, window_seconds: float = 10.0, **clip_options: Any) -> Iterator[ClipWindow]:
    """Go through a clip in windows that follow each other, in memory that does not grow with its length.

    The windows put together are what `load_clip` gives with the same options: the same crops, boxes and samples, under the
    same policies, which look at the clip as a whole. For this the file is decoded twice from its beginning to its end,
    whatever the number of windows: in a first pass that keeps one box per frame and the peak of the sound, which comes
    before the first window, and in a second that cuts the crops.

    Args:
        source: path, bytes, binary file object or {"path", "bytes"} dict; a file object is read into memory.
        window_seconds: length of the windows; the last may be shorter. Rounded to whole frames (samples where there are no
            frames); a window's sound is cut at the sample nearest to its first frame.
        **clip_options: those of [`~vqmae_hf.data.clips.load_clip`] but `trim_silence_db`.

    Raises:
        ClipError: on going through; see `load_clip`. Only clips of more than a day are too long.
        ValueError: an option out of its range.
    """
    if not 0 < window_seconds < inf:
        raise ValueError(f"window_seconds: found {window_seconds}; accepted is a finite length above 0")
    if clip_options.get("trim_silence_db") is not None:
        raise ValueError(
            f"trim_silence_db: found {clip_options['trim_silence_db']}; streams are not trimmed. Leave it out, or open the "
            "clip with load_clip"
        )
    return _windows(source, window_seconds, ClipOptions(**clip_options))


def _windows(source: Any, window_seconds: float, options: ClipOptions) -> Iterator[ClipWindow]:
    clip = examine_clip(source, options, keep_pictures=False)
    peak, num_samples = _peak_and_length(clip) if clip.has_sound else (None, 0)
    sound = iter(clip.sound()) if peak is not None else iter(())
    samples = _Samples(sound)
    crops = clip.crops() if clip.pictures is not None else None
    rate = options.sampling_rate if crops is None else clip.pictures.frames_per_second
    total = num_samples if crops is None else len(clip.boxes)
    step = max(1, round(window_seconds * rate))
    for first in range(0, total, step):
        last = min(first + step, total)
        count = round(last * options.sampling_rate / rate) - round(first * options.sampling_rate / rate)
        yield ClipWindow(
            frames=None if crops is None else np.stack([next(crops) for _ in range(first, last)]),
            waveform=None if peak is None else samples.take(count),
            frames_per_second=options.frames_per_second,
            sampling_rate=options.sampling_rate,
            face_boxes=None if crops is None else clip.boxes[first:last],
            source=clip.source.name,
            start_seconds=options.start_seconds + first / rate,
            clip_peak=peak,
        )


def _peak_and_length(clip: ExaminedClip) -> tuple[float | None, int]:
    """Greatest magnitude, None where the sound is silent and may be left out; and the number of samples."""
    peak, count = 0.0, 0
    for piece in clip.sound():
        peak = max(peak, float(np.abs(piece).max()))
        count += len(piece)
    return (peak if clip.is_heard(peak, count) else None), count


class _Samples:
    """Takes any number of samples at a time out of pieces of sound that follow each other."""

    def __init__(self, pieces: Iterator[np.ndarray]):
        self._pieces = pieces
        self._rest = np.zeros(0, np.float32)

    def take(self, count: int) -> np.ndarray:
        """(count,) float32 the next samples; fewer at the end."""
        taken = [self._rest]
        missing = count - len(self._rest)
        while missing > 0 and (piece := next(self._pieces, None)) is not None:
            taken.append(piece)
            missing -= len(piece)
        samples = np.concatenate(taken)
        self._rest = samples[count:].copy()
        return samples[:count]
