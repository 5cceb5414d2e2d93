"""From a media file to what the processors take: face crops and a waveform, in step, with a policy for what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

import numpy as np

from vqmae_hf.data.errors import (
    ClipError,
    EmptyClipError,
    MissingAudioError,
    MissingFaceError,
    MissingVideoError,
    SilentAudioError,
    UnreadableMediaError,
)
from vqmae_hf.data.faces import (
    SECONDS_BETWEEN_DETECTIONS,
    FaceDetector,
    add_margin,
    as_face_detector,
    center_box,
    crop_square,
    detect_faces,
    follow_face,
)
from vqmae_hf.data.media import FrameReader, MediaSource, probe_media, read_waveform, resolve_source

__all__ = [
    "Clip",
    "ClipError",
    "EmptyClipError",
    "MissingAudioError",
    "MissingFaceError",
    "MissingVideoError",
    "SilentAudioError",
    "UnreadableMediaError",
    "load_clip",
]

MODALITIES = ("audio", "visual")
# Below this peak, -60 dB of full scale, a sound track is silent. The quietest utterance of RAVDESS peaks at -47 dB.
SILENCE_PEAK = 1e-3
POLICIES = {
    "on_missing_face": ("error", "center"),
    "on_missing_audio": ("error", "visual_only"),
    "on_missing_video": ("error", "audio_only"),
    "on_silence": ("error", "visual_only", "keep"),
}


@dataclass(frozen=True)
class Clip:
    """A clip as the processors take it. Frames and waveform begin at the same moment.

    Attributes:
        frames: (T, face_size, face_size, 3) uint8 RGB crops, or None.
        waveform: (N,) float32 mono in [-1, 1], or None; N = round(T * sampling_rate / frames_per_second) beside frames.
        frames_per_second, sampling_rate: in Hz.
        face_boxes: (T, 4) float64 squares that were cut out, x, y, side, side in pixels of the shown picture, which may
            reach over its border; None without frames.
        source: name of the file.
    """

    frames: np.ndarray | None
    waveform: np.ndarray | None
    frames_per_second: float
    sampling_rate: int
    face_boxes: np.ndarray | None
    source: str

    @property
    def duration_seconds(self) -> float:
        """Length of the clip."""
        if self.frames is not None:
            return len(self.frames) / self.frames_per_second
        return len(self.waveform) / self.sampling_rate


def load_clip(
    source: Any,
    *,
    audio_source: Any = None,
    modalities: Sequence[str] = MODALITIES,
    frames_per_second: float = 25,
    sampling_rate: int = 16000,
    face_size: int = 96,
    crop_faces: bool = True,
    face_detector: FaceDetector | str | PathLike | None = None,
    start_seconds: float = 0.0,
    end_seconds: float | None = None,
    on_missing_face: Literal["error", "center"] = "error",
    on_missing_audio: Literal["error", "visual_only"] = "error",
    on_missing_video: Literal["error", "audio_only"] = "error",
    on_silence: Literal["error", "visual_only", "keep"] = "error",
) -> Clip:
    """Decode a clip, find the face in every frame, and cut it out.

    Args:
        source: path, bytes, binary file object or {"path", "bytes"} dict.
        audio_source: likewise, for corpora that keep the sound in a file of its own; None is the sound of `source`.
        modalities: what to load, of "audio" and "visual".
        frames_per_second: rate of the frames, in Hz.
        sampling_rate: rate of the waveform, in Hz.
        face_size: side of the crops, in pixels.
        crop_faces: False takes the square in the middle of the pictures, for videos that show nothing but the face.
        face_detector: None for OpenCV's Haar cascade, the path of a YuNet .onnx file, or a callable that takes a
            (H, W, 3) uint8 RGB frame and returns (n, 4) boxes x, y, width, height in pixels.
        start_seconds, end_seconds: part to load; None is the end of the clip.
        on_missing_face: for pictures without any face; "center" takes the square in their middle.
        on_missing_audio: for a file without a sound track; "visual_only" returns a clip without waveform.
        on_missing_video: for a file without pictures; "audio_only" returns a clip without frames.
        on_silence: for sound that peaks below `SILENCE_PEAK`; "visual_only" drops it, "keep" returns it.

    Raises:
        MissingVideoError, MissingAudioError, MissingFaceError, SilentAudioError: according to the policies, and whatever
            they say where nothing would be left of the clip.
        EmptyClipError: no frame or no sample in the part asked for.
        UnreadableMediaError: the file is missing, damaged or holds neither pictures nor sound.
        ValueError: an argument out of its range.
    """
    policies = {
        "on_missing_face": on_missing_face,
        "on_missing_audio": on_missing_audio,
        "on_missing_video": on_missing_video,
        "on_silence": on_silence,
    }
    _check_options(modalities, face_size, policies)
    detector = as_face_detector(face_detector)
    source = resolve_source(source)
    audio_source = source if audio_source is None else resolve_source(audio_source)
    with_frames, with_sound = _what_there_is(source, audio_source, modalities, policies)

    frames = boxes = waveform = None
    reader = FrameReader(source, frames_per_second, start_seconds, end_seconds) if with_frames else None
    if reader is not None:
        boxes = _boxes_to_cut(reader, detector if crop_faces else None, on_missing_face)
        frames = np.stack(
            [crop_square(picture.to_rgb(), box, face_size) for picture, box in zip(reader, boxes, strict=True)]
        )
    if with_sound:
        if reader is not None and audio_source is source:
            waveform = reader.read_waveform(sampling_rate)
        else:
            end = end_seconds if reader is None else start_seconds + reader.num_frames / frames_per_second
            waveform = read_waveform(audio_source, sampling_rate, start_seconds, end)
        waveform = _heard(waveform, audio_source, frames is not None, on_silence)
    return Clip(frames, waveform, frames_per_second, sampling_rate, boxes, source.name)


def _check_options(modalities: Sequence[str], face_size: int, policies: dict[str, str]) -> None:
    """Raise one ValueError that lists every option out of its range."""
    problems = []
    if isinstance(modalities, str) or not modalities or set(modalities) - set(MODALITIES):
        problems.append(f'modalities: found {modalities!r}; accepted are ("audio", "visual"), ("audio",), ("visual",)')
    if not isinstance(face_size, int | np.integer) or face_size < 1:
        problems.append(f"face_size: found {face_size!r}; accepted is a whole number of pixels above 0")
    for name, choice in policies.items():
        if choice not in POLICIES[name]:
            problems.append(f"{name}: found {choice!r}; accepted is one of {', '.join(map(repr, POLICIES[name]))}")
    if problems:
        raise ValueError("; ".join(problems))


def _what_there_is(
    source: MediaSource, audio_source: MediaSource, modalities: Sequence[str], policies: dict[str, str]
) -> tuple[bool, bool]:
    """Whether to load frames and sound, from what was asked for, what is there, and the policies."""
    info = probe_media(source)
    has_audio = info.has_audio if audio_source is source else probe_media(audio_source).has_audio
    with_frames = "visual" in modalities and info.has_video
    with_sound = "audio" in modalities and has_audio
    if "visual" in modalities and not with_frames and (policies["on_missing_video"] == "error" or not with_sound):
        raise MissingVideoError.about(
            source.name,
            found="sound without pictures" if info.has_audio else "no pictures",
            accepted="a file with a video stream",
            remedy='To use the sound alone, pass modalities=("audio",) or on_missing_video="audio_only"',
        )
    if "audio" in modalities and not with_sound and (policies["on_missing_audio"] == "error" or not with_frames):
        raise MissingAudioError.about(
            audio_source.name,
            found="pictures without sound" if info.has_video else "no sound track",
            accepted="a file with an audio stream",
            remedy='To use the pictures alone, pass modalities=("visual",) or on_missing_audio="visual_only"',
        )
    return with_frames, with_sound


def _boxes_to_cut(reader: FrameReader, detector: FaceDetector | None, on_missing_face: str) -> np.ndarray:
    """(T, 4) squares to cut out of the frames: around the face, or in the middle without detector or by the policy."""
    faces = None
    if detector is not None:
        step = max(1, round(SECONDS_BETWEEN_DETECTIONS * reader.frames_per_second))
        # Where nothing is found at a glance, every frame is looked at before giving up.
        for every in dict.fromkeys((step, 1)):
            examined = (picture.to_rgb() for index, picture in enumerate(reader) if index % every == 0)
            found = detect_faces(examined, detector)
            times = range(0, reader.num_frames, every)
            faces = follow_face(found, times, reader.num_frames, reader.frames_per_second)
            if faces is not None:
                return add_margin(faces)
    shape = None
    for picture in reader:
        shape = shape or picture.to_rgb().shape
    if shape is None:
        raise EmptyClipError.about(
            reader.source.name,
            found=f"no picture from {reader.start_seconds} to {reader.end_seconds or 'the end'} seconds",
            accepted="at least one frame",
            remedy="Check start_seconds and end_seconds against probe_media(file).duration_seconds",
        )
    if detector is not None and on_missing_face == "error":
        raise MissingFaceError.about(
            reader.source.name,
            found=f"no face in any of {reader.num_frames} frames of {shape[1]} x {shape[0]} pixels",
            accepted="a clip that shows a face from the front",
            remedy='If the pictures show nothing but a face, pass crop_faces=False; on_missing_face="center" takes their '
            "middle, face_detector= the path of a YuNet .onnx file or a callable finds turned faces",
        )
    return np.tile(center_box(*shape[:2]), (reader.num_frames, 1))


def _heard(waveform: np.ndarray, source: MediaSource, with_frames: bool, on_silence: str) -> np.ndarray | None:
    """The waveform, or None where it is silent and may be left out."""
    if len(waveform) == 0:
        raise EmptyClipError.about(
            source.name,
            found="a sound track without a sample in the part asked for",
            accepted="at least one sample",
            remedy="Check start_seconds and end_seconds against probe_media(file).duration_seconds",
        )
    peak = float(np.abs(waveform).max())
    if peak >= SILENCE_PEAK or on_silence == "keep":
        return waveform
    if on_silence == "visual_only" and with_frames:
        return None
    raise SilentAudioError.about(
        source.name,
        found=f"silence (peak {peak:.1e} of full scale)",
        accepted=f"sound that peaks at {SILENCE_PEAK:.0e} or more",
        remedy='on_silence="visual_only" uses the pictures alone, on_silence="keep" the silence as it is',
    )
