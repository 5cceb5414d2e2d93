"""Reading pictures by their time stamps at a fixed rate, in bounded memory."""

from collections.abc import Iterator
from math import inf
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Stream
from av.video.reformatter import VideoReformatter

from vqmae_hf.data.errors import ClipTooLongError, UnreadableMediaError
from vqmae_hf.data.media_limits import (
    FASTEST_FRAME_RATE,
    LONGEST_CLIP_SECONDS,
    LONGEST_PICTURE_SECONDS,
    OBLONGEST_PIXEL,
    REENCODE,
    SLOWEST_FRAME_RATE,
    check_interval,
    check_picture_size,
    check_step,
)
from vqmae_hf.data.media_source import MediaSource, best_stream, decode, open_media, resolve_source

# Matroska and FLV round time stamps to milliseconds: a change of picture this close to the middle of a frame is taken to
# come after it.
TIME_STAMP_TOLERANCE = 0.002  # seconds
USUAL_FRAME_SECONDS = 0.04  # how long the only picture of a file without a rate is shown
# Decoded pictures kept between two passes over a clip; those of larger clips are decoded again.
KEPT_PICTURE_BYTES = 256 * 2**20


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        seconds: when it is due on the file's clock.
        frame: as decoded.
        size: (width, height) to show it in.
        source: name of the file.
        converter: shared by the pictures of a pass. Left to itself, every frame keeps a converter of its own, of 300 kB.
    """

    seconds: float
    frame: av.VideoFrame
    size: tuple[int, int]
    source: str
    converter: VideoReformatter

    def to_rgb(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB, stretched, turned and mirrored as the file says it is to be shown.

        Raises:
            UnreadableMediaError: FFmpeg cannot convert this kind of picture.
        """
        width, height = self.size
        try:
            rgb = self.converter.reformat(self.frame, width, height, "rgb24").to_ndarray()
        except (av.FFmpegError, ValueError) as error:
            raise UnreadableMediaError.about(
                self.source,
                found=f"a picture of {self.frame.format.name} that cannot be converted ({error})",
                accepted="pictures that FFmpeg converts to RGB",
                remedy=REENCODE,
            ) from error
        return _turned(rgb, self.frame)


class FrameReader:
    """The pictures of a clip at a fixed rate, one per frame; can be gone through more than once.

    Frame k is the picture that a player shows in the middle of the time from k / rate to (k + 1) / rate: no event is
    moved by more than half a frame, and as many are moved forth as back.

    Decoded pictures are kept for the next pass while they fit in `KEPT_PICTURE_BYTES` and decoded anew otherwise, so that
    memory stays bounded whatever the clip.

    Args:
        source: path, bytes, binary file object or {"path", "bytes"} dict of a file with pictures.
        frames_per_second: rate of the frames, in Hz, at most 1000.
        start_seconds, end_seconds: part to read, counted from the first picture; None is the end of the clip.
        most_frames: what the caller has room for.
        keep_pictures: False decodes every pass anew.

    Attributes:
        num_frames: T, known after the first pass.
        origin_seconds: when the first picture of the clip is due on the file's clock, known after the first pass.

    Raises:
        UnreadableMediaError: on going through: missing, damaged, or beyond the limits of `media_limits`.
        ClipTooLongError: on going through: more than `most_frames`, or than a day.
        ValueError: a rate or an interval that makes no sense.
    """

    def __init__(
        self,
        source: Any,
        frames_per_second: float = 25,
        start_seconds: float = 0.0,
        end_seconds: float | None = None,
        *,
        most_frames: float = inf,
        keep_pictures: bool = True,
    ):
        if not 0 < frames_per_second <= FASTEST_FRAME_RATE:
            raise ValueError(
                f"frames_per_second: found {frames_per_second}; accepted are rates above 0 and up to "
                f"{FASTEST_FRAME_RATE:.0f} Hz"
            )
        check_interval(start_seconds, end_seconds)
        self.source = resolve_source(source)
        self.frames_per_second = float(frames_per_second)
        self.start_seconds, self.end_seconds = start_seconds, end_seconds
        self.most_frames, self.keep_pictures = most_frames, keep_pictures
        self.num_frames = 0
        self.origin_seconds = 0.0
        self._kept: list[Picture] | None = None

    @property
    def duration_seconds(self) -> float:
        """Length of the frames together, known after the first pass."""
        return self.num_frames / self.frames_per_second

    def __iter__(self) -> Iterator[Picture]:
        if self._kept is not None:
            yield from self._kept
            return
        budget = KEPT_PICTURE_BYTES if self.keep_pictures else 0
        kept, count, last = [], 0, None
        for picture in self._resampled():
            count += 1
            if count > self.most_frames:
                raise self._too_long(f"more than {self.most_frames} frames")
            budget -= 0 if picture is last else sum(plane.buffer_size for plane in picture.frame.planes)
            if budget >= 0:
                kept.append(picture)
            else:
                kept.clear()
            last = picture
            yield picture
        self.num_frames = count
        self._kept = kept if len(kept) == count else None

    def _resampled(self) -> Iterator[Picture]:
        """Yield for each tick of the target rate the picture shown in the middle between it and the next."""
        rate, shown, count, begin, end = self.frames_per_second, None, 0, 0.0, 0.0
        limit = inf if self.end_seconds is None else round((self.end_seconds - self.start_seconds) * rate)
        for picture, duration in _timed_pictures(self.source):
            if shown is None:
                self.origin_seconds = picture.seconds
                begin = picture.seconds + self.start_seconds
                shown = picture
            if picture.seconds - self.origin_seconds > LONGEST_CLIP_SECONDS:
                raise self._too_long(f"pictures over {picture.seconds - self.origin_seconds:.0f} seconds")
            while count < limit and begin + (count + 0.5) / rate < picture.seconds + TIME_STAMP_TOLERANCE:
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

    def _too_long(self, found: str) -> ClipTooLongError:
        return ClipTooLongError.about(
            self.source.name,
            found=found,
            accepted=f"what fits in memory, and at most {LONGEST_CLIP_SECONDS / 3600:.0f} hours",
            remedy="Pass end_seconds to take a part, or go through it with vqmae_hf.stream_clip(file)",
        )


def _timed_pictures(source: MediaSource) -> Iterator[tuple[Picture, float]]:
    """Yield the pictures of a file with rising times, and how long each would be shown were it the last, in seconds."""
    with open_media(source) as container:
        stream = best_stream(container, "video")
        usual = _usual_duration(stream)
        size, last, step, converter = None, None, USUAL_FRAME_SECONDS, VideoReformatter()
        for frame in decode(container, stream, source):
            size = size or _shown_size(source, stream, frame)
            due = 0.0 if last is None else last + (usual or step)
            seconds = due if frame.pts is None else frame.time
            if last is not None:
                check_step(source.name, seconds - last, LONGEST_PICTURE_SECONDS)
                if seconds <= last:
                    continue  # two pictures for one moment: a player shows the first
                step = seconds - last
            yield Picture(seconds, frame, size, source.name, converter), usual or step
            last = seconds


def _usual_duration(stream: Stream) -> float | None:
    """How long a picture is shown by the header, in seconds; None if it does not say or talks nonsense."""
    rate = float(stream.average_rate or 0)
    return 1 / rate if SLOWEST_FRAME_RATE <= rate <= FASTEST_FRAME_RATE else None


def _shown_size(source: MediaSource, stream: Stream, frame: av.VideoFrame) -> tuple[int, int]:
    """(width, height) of the first picture with its pixels made square; those of the others follow it."""
    ratio = float(stream.sample_aspect_ratio or 1)
    if not 1 / OBLONGEST_PIXEL <= ratio <= OBLONGEST_PIXEL:
        ratio = 1.0
    width = max(1, round(frame.width * ratio))
    check_picture_size(source.name, width, frame.height)
    return width, frame.height


def _turned(rgb: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Apply the display matrix of a frame, to multiples of a quarter turn; phones hold it, and mirror selfies by it.

    The matrix maps a point (x, y) to (a x + c y, b x + d y), y downwards.
    """
    side_data = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if side_data is None:
        return rgb
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        rgb, across, down = rgb.transpose(1, 0, 2), c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(rgb[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])
