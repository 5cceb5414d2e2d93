"""Reading sound by its time stamps, mixed to mono and resampled, in bounded memory."""

from collections.abc import Iterator
from math import inf
from typing import Any, NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.stream import Stream

from vqmae_hf.data.errors import ClipTooLongError
from vqmae_hf.data.media_limits import (
    HIGHEST_SAMPLING_RATE,
    LARGEST_RESULT_BYTES,
    LONGEST_CLIP_SECONDS,
    LOWEST_SAMPLING_RATE,
    check_interval,
    check_sound,
    check_step,
)
from vqmae_hf.data.media_source import MediaSource, best_stream, decode, open_media, resolve_source

# A step between packets of sound above this is a gap or an overlap; below it, rounding of time stamps.
SOUND_GAP = 0.05  # seconds
# Zeros of a gap are handed out in pieces of this many samples.
LONGEST_PIECE = 2**16


class SoundBlock(NamedTuple):
    """(N,) float32 mono samples; the first is due `offset` samples after `seconds` of the file's clock."""

    seconds: float
    offset: int
    samples: np.ndarray


class SoundReader:
    """The sound of a file from start to end, as pieces that follow each other without a gap.

    Memory holds one piece at a time, whatever the file. Gaps of the sound track are zeros; sound for a moment that has had
    its sound is dropped, as with pictures. Can be gone through more than once.

    Args:
        source: path, bytes, binary file object or {"path", "bytes"} dict of a file with a sound track.
        sampling_rate: of the waveform, in Hz, 1000 to 768000; several channels are averaged to one.
        start_seconds, end_seconds: part to read, counted from the origin; None is the end of the sound. Up to a given end
            the pieces are filled up with zeros.
        origin_seconds: the origin on the file's clock; None is the first sample.

    Raises:
        UnreadableMediaError: on going through: missing, damaged, or beyond the limits of `media_limits`.
        ClipTooLongError: on going through: a time stamp more than a day after the origin.
        ValueError: a rate or an interval that makes no sense.
    """

    def __init__(
        self,
        source: Any,
        sampling_rate: int = 16000,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        origin_seconds: float | None = None,
    ):
        if not LOWEST_SAMPLING_RATE <= sampling_rate <= HIGHEST_SAMPLING_RATE:
            raise ValueError(
                f"sampling_rate: found {sampling_rate}; accepted is {LOWEST_SAMPLING_RATE} to {HIGHEST_SAMPLING_RATE} Hz"
            )
        check_interval(start_seconds, end_seconds)
        self.source = resolve_source(source)
        self.sampling_rate = sampling_rate
        self.start_seconds, self.end_seconds, self.origin_seconds = start_seconds, end_seconds, origin_seconds

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (N,) float32 pieces in [-1, 1], N > 0, nothing without a sound track."""
        with open_media(self.source) as container:
            stream = best_stream(container, "audio")
            if stream is not None:
                yield from self._pieces(container, stream)

    def _pieces(self, container: InputContainer, stream: Stream) -> Iterator[np.ndarray]:
        rate, done = self.sampling_rate, 0
        begin = until = total = None
        for block in _blocks(_timed_sound(container, stream, self.source), rate):
            if begin is None:
                origin = block.seconds if self.origin_seconds is None else self.origin_seconds
                begin = origin + self.start_seconds
                until, total = self._end(container, stream, origin)
            if block.seconds + block.offset / rate >= until:
                break
            self._check_length(block.seconds - origin)
            place = round((block.seconds - begin) * rate) + block.offset
            yield from _silence(place - done)
            samples = block.samples[max(0, done - place) : max(0, total - place) if total < inf else None]
            if len(samples):
                yield samples
            done = max(done, place + len(block.samples))
        if self.end_seconds is not None:
            total = round((self.end_seconds - self.start_seconds) * rate)
            yield from _silence(total - done)

    def _end(self, container: InputContainer, stream: Stream, origin: float) -> tuple[float, float]:
        """When the sound ends on the file's clock, and how many samples there are until then; inf if only decoding tells."""
        if self.end_seconds is not None:
            length = self.end_seconds
        elif "mp4" in container.format.name and stream.duration:
            # Encoders fill up their last packet; mp4 says where the sound ended.
            length = float(stream.duration * stream.time_base)
        else:
            return inf, inf
        return origin + length, max(0, round((length - self.start_seconds) * self.sampling_rate))

    def _check_length(self, seconds: float) -> None:
        if seconds > LONGEST_CLIP_SECONDS:
            raise ClipTooLongError.about(
                self.source.name,
                found=f"sound over {seconds:.0f} seconds",
                accepted=f"at most {LONGEST_CLIP_SECONDS / 3600:.0f} hours",
                remedy="If its time stamps are right, cut the file in parts",
            )


def read_waveform(
    source: Any,
    sampling_rate: int = 16000,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    origin_seconds: float | None = None,
) -> np.ndarray | None:
    """Decode the sound of a file, mixed to mono and resampled, in one piece.

    Args:
        source, sampling_rate, start_seconds, end_seconds, origin_seconds: see `SoundReader`.

    Returns:
        (N,) float32 in [-1, 1]; up to a given `end_seconds` zero where the sound track has nothing. None without a sound
        track.

    Raises:
        UnreadableMediaError: the file is missing or damaged.
        ClipTooLongError: more samples than fit in `media_limits.LARGEST_RESULT_BYTES`.
        ValueError: a rate or an interval that makes no sense.
    """
    reader = SoundReader(source, sampling_rate, start_seconds, end_seconds, origin_seconds)
    with open_media(reader.source) as container:
        if best_stream(container, "audio") is None:
            return None
    pieces, count, most = [np.zeros(0, np.float32)], 0, LARGEST_RESULT_BYTES // 4
    for piece in reader:
        count += len(piece)
        if count > most:
            raise ClipTooLongError.about(
                reader.source.name,
                found=f"more than {most / sampling_rate:.0f} seconds of sound at {sampling_rate} Hz",
                accepted=f"up to {most} samples in one piece",
                remedy="Pass end_seconds to take a part, or go through it with vqmae_hf.stream_clip(file)",
            )
        pieces.append(piece)
    return np.concatenate(pieces)


def _timed_sound(
    container: InputContainer, stream: Stream, source: MediaSource
) -> Iterator[tuple[float, av.AudioFrame]]:
    """Yield the packets of sound with the time of their first sample."""
    due = None
    for frame in decode(container, stream, source):
        check_sound(source.name, frame.sample_rate, frame.layout.nb_channels)
        seconds = (due or 0.0) if frame.pts is None else frame.time
        if due is not None:
            check_step(source.name, seconds - due)
        yield seconds, frame
        due = seconds + frame.samples / frame.sample_rate


def _blocks(timed: Iterator[tuple[float, av.AudioFrame]], sampling_rate: int) -> Iterator[SoundBlock]:
    """Resample and mix to mono; begin anew after a gap and where the format of the sound changes."""
    start, count, due, form, resampler = 0.0, 0, 0.0, None, None
    for seconds, frame in timed:
        if form != _form(frame) or abs(seconds - due) > SOUND_GAP:
            if resampler is not None:
                yield SoundBlock(start, count, _samples(resampler, None))
            # Out of 32-bit integers, FFmpeg mixes channels by their average; out of floats, by a sum that exceeds 1.
            resampler = av.AudioResampler(format="s32p", layout="mono", rate=sampling_rate)
            start, count, due, form = seconds, 0, seconds, _form(frame)
        due += frame.samples / frame.sample_rate
        frame.pts = None  # the resampler shall count samples, not follow rounded time stamps
        samples = _samples(resampler, frame)
        yield SoundBlock(start, count, samples)
        count += len(samples)
    if resampler is not None:
        yield SoundBlock(start, count, _samples(resampler, None))


def _form(frame: av.AudioFrame) -> tuple[str, str, int]:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _samples(resampler: av.AudioResampler, frame: av.AudioFrame | None) -> np.ndarray:
    """(N,) float32 what comes out of a resampler for a packet, or at the end."""
    blocks = [block.to_ndarray()[0] for block in resampler.resample(frame)]
    return np.concatenate(
        [np.zeros(0, np.float32), *(np.float32(2.0**-31) * block for block in blocks)], dtype=np.float32
    )


def _silence(count: int) -> Iterator[np.ndarray]:
    """(count,) zeros in pieces; nothing for a count below one."""
    while count > 0:
        yield np.zeros(min(count, LONGEST_PIECE), np.float32)
        count -= LONGEST_PIECE
