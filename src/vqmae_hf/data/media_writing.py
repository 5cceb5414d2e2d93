"""Writing clips as mp4 files (H.264 + AAC) with PyAV, whose wheels bring their FFmpeg."""

import heapq
import os
import uuid
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import ColorRange, Colorspace
from av.video.stream import VideoStream

# The sampling rates that AAC knows.
AAC_SAMPLING_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
AAC_FRAME_LENGTH = 1024  # samples in one AAC packet
CLIP_SUFFIXES = (".mp4", ".m4v", ".m4a")
X264_OPTIONS = {
    "crf": "18",  # constant rate factor, close to visually lossless, which small face crops need
    "preset": "veryfast",
    # One thread: small pictures gain nothing from more, and several writers may run side by side. Without
    # "cpu-independent", x264's vector code was seen to give other bytes for the same frames on the same machine.
    "x264-params": "threads=1:lookahead-threads=1:cpu-independent=1",
}


def write_clip(
    path: str | os.PathLike,
    frames: np.ndarray | None,
    waveform: np.ndarray | None,
    *,
    frames_per_second: float | Fraction = 25,
    sampling_rate: int = 16000,
) -> Path:
    """Write one clip as an mp4 that every player opens: H.264 in yuv420p, mono AAC.

    The file appears under its name only when it is complete: it is written beside it and then moved there.
    Both streams start at time 0. The same arrays give the same bytes on the same machine.

    Args:
        path: file to write, ending in .mp4, .m4v or .m4a; missing folders are made, an existing file is replaced.
        frames: (T, H, W, 3) uint8 RGB with even H and W, or None for a clip without pictures.
        waveform: (N,) floating point mono in [-1, 1], or None for a silent film.
        frames_per_second: rate of the frames, in Hz.
        sampling_rate: rate of the waveform, in Hz; one that AAC knows.

    Returns:
        The path written.

    Raises:
        ValueError: an argument that cannot be written, naming what was found and what is accepted.
    """
    path = Path(path)
    if path.suffix.lower() not in CLIP_SUFFIXES:
        raise ValueError(f"path: {path} ends in {path.suffix!r}; accepted endings are {', '.join(CLIP_SUFFIXES)}")
    if frames is None and waveform is None:
        raise ValueError(f"{path}: frames and waveform are both None; a clip needs at least one of them")
    if frames is not None:
        frames = _checked_frames(frames)
        rate = _checked_rate(frames_per_second)
    if waveform is not None:
        waveform = _checked_waveform(waveform)
        _check_sampling_rate(sampling_rate)

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.part")
    try:
        # The index first, so that a browser can show the clip before it has all of it; lengths in samples, not in
        # milliseconds, so that a reader gets back the very length of the waveform.
        options = {"movflags": "+faststart", "movie_timescale": str(sampling_rate)}
        with av.open(str(partial), "w", format="mp4", options=options) as container:
            packets = []  # one iterator per stream; both streams have to be there before the first packet is written
            if frames is not None:
                stream = _add_video_stream(container, *frames.shape[1:3], rate)
                packets.append(_video_packets(stream, frames, rate))
            if waveform is not None:
                stream = _add_audio_stream(container, sampling_rate)
                packets.append(_audio_packets(stream, waveform, sampling_rate))
            for packet in heapq.merge(*packets, key=lambda packet: packet.dts * packet.time_base):
                container.mux(packet)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _checked_frames(frames: np.ndarray) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(
            f"frames: found {frames.dtype} of shape {frames.shape}; accepted is uint8 RGB of shape (T, H, W, 3) with "
            "at least one frame; scale floats in [0, 1] with (255 * frames).round().astype('uint8')"
        )
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(
            f"frames: height {height} and width {width} have to be even, since H.264 in yuv420p halves the colour "
            f"planes; crop to {height - height % 2} x {width - width % 2} or resize"
        )
    return frames


def _checked_rate(frames_per_second: float | Fraction) -> Fraction:
    rate = Fraction(frames_per_second).limit_denominator(1001)
    if not 0 < rate <= 1000:
        raise ValueError(f"frames_per_second: found {frames_per_second}; accepted are rates above 0 and up to 1000 Hz")
    return rate


def _checked_waveform(waveform: np.ndarray) -> np.ndarray:
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or waveform.size == 0 or not np.issubdtype(waveform.dtype, np.floating):
        raise ValueError(
            f"waveform: found {waveform.dtype} of shape {waveform.shape}; accepted is a mono floating-point waveform "
            "of shape (N,), N > 0, in [-1, 1]; average the channels, and divide 16-bit integers by 32768"
        )
    peak = float(np.abs(waveform).max())
    if not peak <= 1.0:  # also true for NaN
        raise ValueError(f"waveform: the peak magnitude is {peak}; accepted is [-1, 1]: divide by the peak")
    return waveform.astype(np.float32, copy=False)


def _check_sampling_rate(sampling_rate: int) -> None:
    if sampling_rate not in AAC_SAMPLING_RATES:
        raise ValueError(f"sampling_rate: found {sampling_rate}; AAC accepts one of {AAC_SAMPLING_RATES} Hz")


def _add_video_stream(container: av.container.OutputContainer, height: int, width: int, rate: Fraction) -> VideoStream:
    stream = container.add_stream("libx264", rate=rate, options=X264_OPTIONS)
    stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
    # Said in the file, so that no player has to guess the colour matrix from the picture size.
    stream.codec_context.colorspace = Colorspace.ITU601
    stream.codec_context.color_range = ColorRange.MPEG
    return stream


def _video_packets(stream: VideoStream, frames: np.ndarray, rate: Fraction) -> Iterator[av.Packet]:
    """Yield the H.264 packets of (T, H, W, 3) frames."""
    for index, image in enumerate(frames):
        rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU601, dst_color_range=ColorRange.MPEG)
        frame.pts, frame.time_base = index, 1 / rate
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _add_audio_stream(container: av.container.OutputContainer, sampling_rate: int) -> AudioStream:
    stream = container.add_stream("aac", rate=sampling_rate, layout="mono")
    stream.codec_context.bit_rate = 4 * sampling_rate  # 64 kbit/s at 16 kHz: transparent for one voice
    return stream


def _audio_packets(stream: AudioStream, waveform: np.ndarray, sampling_rate: int) -> Iterator[av.Packet]:
    """Yield the AAC packets of a (N,) waveform."""
    for start in range(0, len(waveform), AAC_FRAME_LENGTH):
        block = np.ascontiguousarray(waveform[None, start : start + AAC_FRAME_LENGTH])
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sampling_rate, start, Fraction(1, sampling_rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)
