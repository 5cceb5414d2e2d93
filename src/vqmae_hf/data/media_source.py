"""What media can come from, and how a file is opened and decoded with all its failures as typed errors."""

import io
import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from vqmae_hf.data.errors import ClipError, UnreadableMediaError
from vqmae_hf.data.media_limits import (
    DAMAGED_PACKET_SHARE,
    FEW_DAMAGED_PACKETS,
    LARGEST_PICTURE_PIXELS,
    REENCODE,
    check_picture_size,
    check_sound,
)

logger = logging.getLogger(__name__)

READABLE = "a media file that FFmpeg can decode, such as mp4, mov, mkv, webm, avi, mpg, wav, flac or mp3"
# For FFmpeg: decoders refuse larger pictures before they make room for them; of a playlist's entries none may be opened.
_OPTIONS = {"max_pixels": str(LARGEST_PICTURE_PIXELS), "protocol_whitelist": "none"}


class MediaSource(NamedTuple):
    """A source that can be opened more than once: `content` is a path or the bytes themselves."""

    name: str
    content: str | bytes


@dataclass(frozen=True)
class MediaInfo:
    """What the header of a file says, before anything is decoded.

    Attributes:
        source: name of the file.
        has_video, has_audio: whether there is such a stream (the cover picture of a song is not video).
        width, height: of the pictures as stored, in pixels; None without video.
        frames_per_second: average rate of the pictures, in Hz; None without video or if unknown.
        sampling_rate, num_channels: of the sound; None without audio.
        duration_seconds: of the whole file; None if the header does not say.
    """

    source: str
    has_video: bool
    has_audio: bool
    width: int | None
    height: int | None
    frames_per_second: float | None
    sampling_rate: int | None
    num_channels: int | None
    duration_seconds: float | None


def resolve_source(source: Any) -> MediaSource:
    """Turn whatever users and `datasets` columns hold into a source with a name.

    Args:
        source: str or Path, bytes, a binary file object (read to its end), a dict with "path" and "bytes" as a
            `Video(decode=False)` or `Audio(decode=False)` column yields, or a resolved source.

    Raises:
        UnreadableMediaError: none of these.
    """
    if isinstance(source, MediaSource):
        return source
    if isinstance(source, str | os.PathLike):
        return MediaSource(os.fspath(source), os.fspath(source))
    name = None
    content = source
    if isinstance(source, dict):
        name, content = source.get("path"), source.get("bytes")
        if content is None and name is not None:
            return resolve_source(name)
    elif hasattr(source, "read"):
        name, content = getattr(source, "name", None), source.read()
    if isinstance(content, bytes | bytearray | memoryview):
        return MediaSource(str(name or f"<{len(content)} bytes>"), bytes(content))
    raise UnreadableMediaError.about(
        "source",
        found=f"{type(source).__name__} {source!r:.80}",
        accepted='a path, bytes, a binary file object, or a dict with "path" or "bytes"',
        remedy="Pictures and waveforms that are arrays already go straight to the processor",
    )


def probe_media(source: Any) -> MediaInfo:
    """Say what is in a file without decoding it.

    Args:
        source: see `resolve_source`.

    Raises:
        UnreadableMediaError: the file is missing, damaged or holds neither pictures nor sound.
    """
    source = resolve_source(source)
    with open_media(source) as container:
        video, audio = best_stream(container, "video"), best_stream(container, "audio")
        return MediaInfo(
            source=source.name,
            has_video=video is not None,
            has_audio=audio is not None,
            width=video.width if video else None,
            height=video.height if video else None,
            frames_per_second=float(video.average_rate) if video and video.average_rate else None,
            sampling_rate=audio.rate if audio else None,
            num_channels=audio.layout.nb_channels if audio else None,
            duration_seconds=container.duration / av.time_base if container.duration else None,
        )


@contextmanager
def open_media(source: MediaSource) -> Iterator[InputContainer]:
    """Open a file for reading; every failure of FFmpeg inside the block becomes an `UnreadableMediaError`.

    Nothing but the file itself is opened: playlists that name other files or addresses are refused.
    """
    reader = None
    try:
        with _open_file(source) as file:
            reader = _Reader(file, os.path.basename(source.name))
            with av.open(reader, "r", metadata_errors="ignore", options=_OPTIONS) as container:
                if not (best_stream(container, "video") or best_stream(container, "audio")):
                    raise _unreadable(source, f"neither pictures nor sound in what looks like {container.format.name}")
                yield container
            if reader.failure is not None:
                raise reader.failure
    except FileNotFoundError as error:
        raise UnreadableMediaError.about(
            source.name, found="no such file", accepted=READABLE, remedy="Check the path"
        ) from error
    # PyAV raises ValueError and ArithmeticError about headers that make no sense, such as a clock of zero Hz.
    except (av.FFmpegError, OSError, ValueError, ArithmeticError) as error:
        failure = None if reader is None else reader.failure  # of which everything else is a consequence
        if failure is None and isinstance(error, ClipError):
            raise
        raise _unreadable(source, _what_is_wrong(source, failure or error)) from (failure or error)


def best_stream(container: InputContainer, kind: Literal["video", "audio"]) -> Stream | None:
    """The stream that a player would choose, or None; neither a cover picture nor a coding FFmpeg cannot read counts."""
    stream = container.streams.best(kind)
    if stream is None or stream.codec_context is None or stream.disposition & Disposition.attached_pic:
        return None
    return stream


def decode(container: InputContainer, stream: Stream, source: MediaSource) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Decode a stream, inside `open_media`.

    Files cut out of longer ones may begin with packets that need earlier ones: failures before the first frame are
    passed over. Later ones are damage: a few are passed over with a warning in the log, more are raised
    (see `media_limits`). A file that ends in the middle of a packet is refused, since what it lacks may be most of it.

    Raises:
        UnreadableMediaError: pictures, rates or channels beyond `media_limits`, or a file cut off.
        av.FFmpegError: too many packets that cannot be decoded, or none that can.
    """
    _check_header(stream, source)
    stream.codec_context.options = _OPTIONS
    count = damaged = 0
    failure, decoded, cut_off = None, False, False
    for packet in container.demux():
        if packet.size:
            cut_off = packet.is_corrupt and not _is_raw_sound(packet.stream)
        if packet.stream.index != stream.index:
            continue
        count += 1
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            failure, frames = error.with_traceback(None), []  # its frames would keep the pictures alive
            damaged += decoded
            if damaged > FEW_DAMAGED_PACKETS + DAMAGED_PACKET_SHARE * count:
                raise
        for frame in frames:
            decoded = True
            yield frame
    if cut_off:
        raise _unreadable(source, "a file that was cut off: it ends in the middle of a packet")
    if failure is not None and not decoded:
        raise failure
    if damaged:
        logger.warning("%s: %d of %d packets of %s are damaged", source.name, damaged, count, stream.type)


class _Reader:
    """A binary file for FFmpeg that never raises.

    PyAV keeps what a callback raises and raises it at some later call, which may be about another file. Seeks to
    nowhere, which damaged files ask for, fail by number instead, and a failure to read is kept in `failure`.
    """

    def __init__(self, file: BinaryIO, name: str):
        self.name = name  # FFmpeg looks at the ending where the content leaves a doubt
        self.failure: OSError | None = None
        self._file = file

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.failure = error.with_traceback(None)
            return b""

    def seek(self, offset: int, whence: int) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -1

    def tell(self) -> int:
        return self._file.tell()


def _open_file(source: MediaSource) -> BinaryIO:
    if isinstance(source.content, bytes):
        return io.BytesIO(source.content)
    mode = os.stat(source.content).st_mode
    if not stat.S_ISREG(mode):  # opening a pipe would wait for its other end
        raise _unreadable(source, "a folder" if stat.S_ISDIR(mode) else "a device or pipe")
    return open(source.content, "rb")


def _check_header(stream: Stream, source: MediaSource) -> None:
    if stream.type == "video":
        check_picture_size(source.name, stream.codec_context.width, stream.codec_context.height)
    elif stream.codec_context.sample_rate:  # some codings tell their rate in the first packet
        check_sound(source.name, stream.codec_context.sample_rate, stream.codec_context.layout.nb_channels or 1)


def _is_raw_sound(stream: Stream) -> bool:
    """Whether packets are samples, cut anywhere: programs that write to a pipe claim more of them than there are."""
    return stream.type == "audio" and stream.codec_context is not None and stream.codec_context.name.startswith("pcm_")


def _unreadable(source: MediaSource, found: str) -> UnreadableMediaError:
    return UnreadableMediaError.about(source.name, found=found, accepted=READABLE, remedy=REENCODE)


def _what_is_wrong(source: MediaSource, error: Exception) -> str:
    is_bytes = isinstance(source.content, bytes)
    size = (
        len(source.content) if is_bytes else os.path.getsize(source.content) if os.path.isfile(source.content) else 1
    )
    if size == 0:
        return "zero bytes"
    return f"damaged or foreign data ({getattr(error, 'strerror', None) or error})"
