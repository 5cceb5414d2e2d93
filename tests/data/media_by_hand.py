"""Clips for the tests of this folder: frames that tell their number, sounds that tell their time."""

from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np

RATE = 16000


def numbered_frames(count: int) -> np.ndarray:
    """(count, 32, 96, 3) frames with their number as six black or white fields, which no codec blurs."""
    bits = (np.arange(count)[:, None] >> np.arange(6)) & 1
    return np.tile(np.repeat(255 * bits, 16, axis=1)[:, None, :, None], (1, 32, 1, 3)).astype(np.uint8)


def frame_numbers(frames: np.ndarray) -> np.ndarray:
    fields = frames.reshape(len(frames), 32, 6, 16, 3).mean(axis=(1, 3, 4))
    return (fields > 128) @ (1 << np.arange(6))


def tone(seconds: float, hertz: float = 300.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def flash_and_click(seconds: float = 2.0, moment: float = 0.8, rate: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """A white frame and a short burst that begin at the same moment."""
    frames = np.zeros((round(seconds * rate), 64, 64, 3), np.uint8)
    frames[round(moment * rate)] = 255
    waveform = np.zeros(round(seconds * RATE), np.float32)
    burst = slice(round(moment * RATE), round((moment + 0.02) * RATE))
    waveform[burst] = np.random.default_rng(0).uniform(-0.9, 0.9, burst.stop - burst.start)
    return frames, waveform


def flash_seconds(frames: np.ndarray, rate: float) -> float:
    return float(np.argmax(frames.mean(axis=(1, 2, 3)) > 128)) / rate


def click_seconds(waveform: np.ndarray) -> float:
    return float(np.argmax(np.abs(waveform) > 0.2)) / RATE


def write_streams(target, *, container_format, pictures=(), picture_rate=25, sound=None, sound_start=0.0, rotation=0):
    """A file made by hand: pictures [(seconds, image)], sound (channels, N) that starts `sound_start` seconds later."""
    with av.open(target, "w", format=container_format) as container:
        video = audio = None
        if pictures:
            video = container.add_stream("mpeg4", rate=picture_rate, options={"qscale": "2"})
            video.height, video.width = pictures[0][1].shape[:2]
            video.codec_context.time_base = video.time_base = Fraction(1, 1000)
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            audio = container.add_stream(
                "pcm_s16le", rate=44100, layout={1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
            )
        packets = []
        for seconds, image in pictures:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            packets += video.encode(frame)
        packets += video.encode(None) if video else []
        if sound is not None:
            interleaved = np.round(32767 * sound.T).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=audio.layout.name)
            frame.sample_rate, frame.time_base = 44100, Fraction(1, 44100)
            frame.pts = round(sound_start * 44100)
            packets += [*audio.encode(frame), *audio.encode(None)]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return target


class Coding(NamedTuple):
    """A container and what goes into it; None for no pictures or no sound."""

    container: str
    video_codec: str | None
    audio_codec: str | None
    suffix: str


# One of each container that the wheels of PyAV write.
CODINGS = {
    coding.suffix: coding
    for coding in (
        Coding("mp4", "libx264", "aac", "mp4"),
        Coding("mov", "mpeg4", "pcm_s16le", "mov"),
        Coding("matroska", "libx264", "flac", "mkv"),
        Coding("webm", "libvpx", "libopus", "webm"),
        Coding("avi", "mpeg4", "pcm_s16le", "avi"),
        Coding("mpeg", "mpeg2video", "mp2", "mpg"),
        Coding("mpegts", "libx264", "aac", "ts"),
        Coding("flv", "flv", "aac", "flv"),
        Coding("asf", "wmv2", "wmav2", "wmv"),
        Coding("wav", None, "pcm_s16le", "wav"),
        Coding("flac", None, "flac", "flac"),
        Coding("mp3", None, "libmp3lame", "mp3"),
        Coding("ipod", None, "aac", "m4a"),
        Coding("ogg", None, "libopus", "ogg"),
    )
}
BIT_EXACT = {"fflags": "+bitexact"}  # no random numbers and no dates in the file
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def write_coded(
    target,
    coding: Coding,
    frames: np.ndarray | None,
    waveform: np.ndarray | None,
    *,
    rate: Fraction | float = 25,
    sampling_rate: int = 48000,
    channels: int = 1,
    start: float = 0.0,
    sound_start: float = 0.0,
    pixel_format: str = "yuv420p",
):
    """Frames (T, H, W, 3) from `start` seconds on and a waveform (N,) from `sound_start` on, in any coding."""
    rate = Fraction(rate).limit_denominator(1001)
    options = BIT_EXACT | ({"avoid_negative_ts": "disabled"} if min(start, sound_start) < 0 else {})
    with av.open(target, "w", format=coding.container, options=options) as output:
        video = audio = None
        if frames is not None and coding.video_codec:
            video = output.add_stream(coding.video_codec, rate=rate)
            video.height, video.width, video.pix_fmt = *frames.shape[1:3], pixel_format
            video.bit_rate = 2_000_000
        if waveform is not None and coding.audio_codec:
            audio = output.add_stream(coding.audio_codec, rate=sampling_rate, layout=LAYOUTS[channels])
            audio.bit_rate = 96_000 * channels
        packets = [] if video is None else _picture_packets(video, frames, rate, start)
        packets += [] if audio is None else _sound_packets(audio, waveform, sampling_rate, channels, sound_start)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            output.mux(packet)
    return target


def _picture_packets(stream, frames, rate, start):
    packets = []
    for index, image in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format=stream.pix_fmt)
        frame.pts, frame.time_base = index + round(start * rate), 1 / rate
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _sound_packets(stream, waveform, sampling_rate, channels, start):
    samples = np.tile(waveform.astype(np.float32), (channels, 1))
    frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=LAYOUTS[channels])
    frame.sample_rate, frame.time_base, frame.pts = (
        sampling_rate,
        Fraction(1, sampling_rate),
        round(start * sampling_rate),
    )
    return stream.encode(frame) + stream.encode(None)
