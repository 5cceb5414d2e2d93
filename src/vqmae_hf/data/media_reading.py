"""Reading pictures and sound by time stamps, so that they stay in step.

A clip begins with its first picture (with its first sample where there are no pictures). Everything is placed relative to
that moment, however the streams of the file are offset to each other: frame k is the picture that a player shows k / rate
seconds later, and the sound is cut or padded with zeros to the same interval.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import inf
from typing import Any, NamedTuple

import av
import numpy as np

from vqmae_hf.data.errors import UnreadableMediaError
from vqmae_hf.data.media_source import (
    REENCODE,
    MediaSource,
    best_stream,
    decode,
    open_media,
    probe_media,
    resolve_source,
)

# Matroska and FLV round time stamps to milliseconds: a picture counts as shown if it is due within this time.
TIME_STAMP_TOLERANCE = 0.002  # seconds
# A step between packets of sound above this is a gap or an overlap; below it, rounding of time stamps.
SOUND_GAP = 0.05  # seconds
# Pictures further apart than this are a broken clock: filling the time between them would fill the memory.
LONGEST_PICTURE = 60.0  # seconds
# Decoded pictures kept between two passes over a clip; those of larger clips are decoded again.
KEPT_PICTURE_BYTES = 256 * 2**20


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


class Picture(NamedTuple):
    """A decoded picture, when it is due in seconds of the file's clock, and the (width, height) to show it in."""

    seconds: float
    frame: av.VideoFrame
    size: tuple[int, int]

    def to_rgb(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, stretched and turned as the file says it is to be shown."""
        width, height = self.size
        rgb = self.frame.to_ndarray(format="rgb24", width=width, height=height)
        quarter_turns = round(self.frame.rotation / 90) % 4  # counter-clockwise
        return np.ascontiguousarray(np.rot90(rgb, quarter_turns)) if quarter_turns else rgb


class SoundStretch(NamedTuple):
    """Sound without a gap: (N,) float32 mono samples that start at `seconds` of the file's clock."""

    seconds: float
    samples: np.ndarray


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
        UnreadableMediaError: the file is missing, damaged or holds neither pictures nor sound.
        ValueError: a rate or an interval that makes no sense.
    """
    source = resolve_source(source)
    if not probe_media(source).has_video:
        waveform = read_waveform(source, sampling_rate, start_seconds, end_seconds)
        return Media(None, waveform, frames_per_second, sampling_rate, source.name)
    reader = FrameReader(source, frames_per_second, start_seconds, end_seconds)
    images = [picture.to_rgb() for picture in reader]
    frames = np.stack(images) if images else np.zeros((0, 0, 0, 3), np.uint8)
    return Media(frames, reader.read_waveform(sampling_rate), frames_per_second, sampling_rate, source.name)


class FrameReader:
    """The pictures of a clip at a fixed rate, one per frame; can be gone through more than once.

    Decoded pictures are kept for the next pass while they fit in `KEPT_PICTURE_BYTES` and decoded anew otherwise, so that
    memory stays bounded whatever the clip.

    Args:
        source: path, bytes, binary file object or {"path", "bytes"} dict of a file with pictures.
        frames_per_second: rate of the frames, in Hz.
        start_seconds, end_seconds: part to read, counted from the first picture; None is the end of the clip.

    Attributes:
        num_frames: T, known after the first pass.
        origin_seconds: when the first picture of the clip is due on the file's clock, known after the first pass.
    """

    def __init__(
        self,
        source: Any,
        frames_per_second: float = 25,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
    ):
        _check_rate("frames_per_second", frames_per_second)
        _check_interval(start_seconds, end_seconds)
        self.source = resolve_source(source)
        self.frames_per_second = float(frames_per_second)
        self.start_seconds, self.end_seconds = start_seconds, end_seconds
        self.num_frames = 0
        self.origin_seconds = 0.0
        self._kept: list[Picture] | None = None

    def __iter__(self) -> Iterator[Picture]:
        if self._kept is not None:
            yield from self._kept
            return
        kept, kept_bytes, count, last = [], 0, 0, None
        for picture in self._resampled():
            count += 1
            kept_bytes += 0 if picture is last else sum(plane.buffer_size for plane in picture.frame.planes)
            if kept_bytes <= KEPT_PICTURE_BYTES:
                kept.append(picture)
            else:
                kept.clear()
            last = picture
            yield picture
        self.num_frames = count
        self._kept = kept if len(kept) == count else None

    def _resampled(self) -> Iterator[Picture]:
        """Yield for each tick of the target rate the picture shown at that moment."""
        rate, shown, count, begin, end = self.frames_per_second, None, 0, 0.0, 0.0
        limit = inf if self.end_seconds is None else round((self.end_seconds - self.start_seconds) * rate)
        for picture, duration in _timed_pictures(self.source):
            if shown is None:
                self.origin_seconds = picture.seconds
                begin = picture.seconds + self.start_seconds
                shown = picture
            while count < limit and begin + count / rate < picture.seconds - TIME_STAMP_TOLERANCE:
                yield shown
                count += 1
            if count >= limit:
                return
            shown, end = picture, picture.seconds + duration
        # The last picture is shown for its duration; a clip shorter than half a tick still has one frame.
        total = min(limit, max(round((end - begin) * rate), int(end > begin)))
        while count < total:
            yield shown
            count += 1

    def read_waveform(self, sampling_rate: int = 16000) -> np.ndarray | None:
        """Decode the sound of the frames, after a pass over them.

        Returns:
            (N,) float32 mono in [-1, 1] with N = round(num_frames * sampling_rate / frames_per_second), zero where the
            sound track has nothing; None without a sound track.
        """
        end_seconds = self.start_seconds + self.num_frames / self.frames_per_second
        return read_waveform(self.source, sampling_rate, self.start_seconds, end_seconds, self.origin_seconds)


def read_waveform(
    source: Any,
    sampling_rate: int = 16000,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    origin_seconds: float | None = None,
) -> np.ndarray | None:
    """Decode the sound of a file, mixed to mono and resampled.

    Args:
        source: path, bytes, binary file object or {"path", "bytes"} dict.
        sampling_rate: in Hz.
        start_seconds, end_seconds: part to return, counted from the origin; None is the end of the sound.
        origin_seconds: the origin on the file's clock; None is the first sample.

    Returns:
        (N,) float32 in [-1, 1]; up to a given `end_seconds` zero where the sound track has nothing. None without a sound
        track.

    Raises:
        UnreadableMediaError: the file is missing or damaged.
        ValueError: a rate or an interval that makes no sense.
    """
    _check_rate("sampling_rate", sampling_rate)
    _check_interval(start_seconds, end_seconds)
    with open_media(resolve_source(source)) as container:
        stream = best_stream(container, "audio")
        if stream is None:
            return None
        timed = _timed_sound(container, stream)
        first = next(timed, None)
        if origin_seconds is None:
            origin_seconds = first[0] if first else 0.0
        until = inf if end_seconds is None else origin_seconds + end_seconds
        stretches = list(_stretches(chain([first] if first else [], timed), sampling_rate, until))
        if end_seconds is None:
            until = _end_of_sound(container, stream, stretches, sampling_rate)
    begin = origin_seconds + start_seconds
    return _lay_out(stretches, begin, max(0, round((until - begin) * sampling_rate)), sampling_rate)


def _timed_pictures(source: MediaSource) -> Iterator[tuple[Picture, float]]:
    """Yield the pictures of a file with rising times, and the usual duration of one in seconds."""
    with open_media(source) as container:
        stream = best_stream(container, "video")
        usual = float(1 / stream.average_rate) if stream.average_rate else 0.04
        shape, last = None, None
        for frame in decode(container, stream):
            shape = shape or (round(frame.width * (stream.sample_aspect_ratio or 1)), frame.height)
            due = 0.0 if last is None else last + usual
            seconds = due if frame.pts is None else frame.time
            if last is not None and seconds <= last:
                continue  # two pictures for one moment: a player shows the first
            if last is not None and seconds - last > LONGEST_PICTURE:
                raise UnreadableMediaError.about(
                    source.name,
                    found=f"a jump of {seconds - last:.0f} seconds between two pictures",
                    accepted=f"pictures at most {LONGEST_PICTURE:.0f} seconds apart",
                    remedy=REENCODE,
                )
            yield Picture(seconds, frame, shape), usual
            last = seconds


def _timed_sound(
    container: av.container.InputContainer, stream: av.AudioStream
) -> Iterator[tuple[float, av.AudioFrame]]:
    """Yield the packets of sound with the time of their first sample."""
    due = 0.0
    for frame in decode(container, stream):
        seconds = due if frame.pts is None else frame.time
        yield seconds, frame
        due = seconds + frame.samples / frame.sample_rate


def _stretches(
    timed: Iterator[tuple[float, av.AudioFrame]], sampling_rate: int, until: float
) -> Iterator[SoundStretch]:
    """Resample and mix to mono; a new stretch begins after a gap and where the format of the sound changes."""
    start, due, form, resampler, blocks = 0.0, 0.0, None, None, []
    for seconds, frame in timed:
        if seconds >= until:
            break
        if form != _form(frame) or abs(seconds - due) > SOUND_GAP:
            if resampler is not None:
                yield _finish(start, resampler, blocks)
            # Out of 32-bit integers, FFmpeg mixes channels by their average; out of floats, by a sum that exceeds 1.
            resampler = av.AudioResampler(format="s32p", layout="mono", rate=sampling_rate)
            start, form, blocks = seconds, _form(frame), []
            due = seconds
        due += frame.samples / frame.sample_rate
        frame.pts = None  # the resampler shall count samples, not follow rounded time stamps
        blocks += [block.to_ndarray()[0] for block in resampler.resample(frame)]
    if resampler is not None:
        yield _finish(start, resampler, blocks)


def _form(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _finish(start: float, resampler: av.AudioResampler, blocks: list[np.ndarray]) -> SoundStretch:
    blocks = [*blocks, *(block.to_ndarray()[0] for block in resampler.resample(None))]
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.int32)
    return SoundStretch(start, (samples / 2.0**31).astype(np.float32))


def _end_of_sound(
    container: av.container.InputContainer, stream: av.AudioStream, stretches: list[SoundStretch], sampling_rate: int
) -> float:
    """When the sound ends on the file's clock: encoders fill up their last packet, and mp4 says where the sound ended."""
    if not stretches:
        return 0.0
    end = stretches[-1].seconds + len(stretches[-1].samples) / sampling_rate
    if "mp4" in container.format.name and stream.duration:
        end = min(end, stretches[0].seconds + float(stream.duration * stream.time_base))
    return end


def _lay_out(stretches: list[SoundStretch], begin: float, num_samples: int, sampling_rate: int) -> np.ndarray:
    """Put stretches at their times into (num_samples,) zeros that begin at `begin` seconds."""
    waveform = np.zeros(num_samples, np.float32)
    for seconds, samples in stretches:
        offset = round((seconds - begin) * sampling_rate)
        samples = samples[max(0, -offset) :]
        place = waveform[max(0, offset) :][: len(samples)]
        place[:] = samples[: len(place)]
    return waveform


def _check_rate(name: str, rate: float) -> None:
    if not 0 < rate < inf:
        raise ValueError(f"{name}: found {rate}; accepted is a positive number of Hz")


def _check_interval(start_seconds: float, end_seconds: float | None) -> None:
    if not 0 <= start_seconds <= (inf if end_seconds is None else end_seconds):
        raise ValueError(
            f"start_seconds, end_seconds: found {start_seconds} and {end_seconds}; accepted is 0 <= start <= end, in "
            "seconds from the start of the clip, or None for its end"
        )
