"""What media can come from, and how a file is opened and decoded with all its failures as typed errors."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from vqmae_hf.data.errors import UnreadableMediaError

READABLE = "a media file that FFmpeg can decode, such as mp4, mov, mkv, webm, avi, mpg, wav, flac or mp3"
REENCODE = (
    "If it plays in a player, write it anew with ffmpeg -i FILE -c:v libx264 -c:a aac NEW.mp4; otherwise leave it out"
)


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
    """Open a file for reading; every failure of FFmpeg inside the block becomes an `UnreadableMediaError`."""
    content = io.BytesIO(source.content) if isinstance(source.content, bytes) else source.content
    try:
        with av.open(content, "r", metadata_errors="ignore") as container:
            if not (best_stream(container, "video") or best_stream(container, "audio")):
                raise _unreadable(source, f"neither pictures nor sound in what looks like {container.format.name}")
            yield container
    except FileNotFoundError as error:
        raise UnreadableMediaError.about(
            source.name, found="no such file", accepted=READABLE, remedy="Check the path"
        ) from error
    except (av.FFmpegError, OSError) as error:
        raise _unreadable(source, _what_is_wrong(source, error)) from error


def best_stream(container: InputContainer, kind: Literal["video", "audio"]) -> Stream | None:
    """The stream that a player would choose, or None; a cover picture is no video."""
    stream = container.streams.best(kind)
    if stream is not None and stream.disposition & Disposition.attached_pic:
        return None
    return stream


def decode(container: InputContainer, stream: Stream) -> Iterator[av.VideoFrame | av.AudioFrame]:
    """Decode a stream, inside `open_media`.

    Files cut out of longer ones may begin with packets that need earlier ones: failures before the first frame are
    passed over. Later ones are damage, and raised.
    """
    failure, decoded = None, False
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            if decoded:
                raise
            failure, frames = error, []
        for frame in frames:
            decoded = True
            yield frame
    if failure is not None and not decoded:
        raise failure


def _unreadable(source: MediaSource, found: str) -> UnreadableMediaError:
    return UnreadableMediaError.about(source.name, found=found, accepted=READABLE, remedy=REENCODE)


def _what_is_wrong(source: MediaSource, error: Exception) -> str:
    is_bytes = isinstance(source.content, bytes)
    if is_bytes and not source.content:
        return "zero bytes"
    if not is_bytes and os.path.isdir(source.content):
        return "a folder"
    if not is_bytes and os.path.isfile(source.content) and os.path.getsize(source.content) == 0:
        return "zero bytes"
    return f"damaged or foreign data ({getattr(error, 'strerror', None) or error})"
