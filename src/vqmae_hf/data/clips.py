"""From a media file to what the processors take: face crops and a waveform, in step, with a policy for what is missing."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal

import numpy as np

from vqmae_hf.data.clip_examination import MODALITIES, ClipOptions, ExaminedClip, examine_clip
from vqmae_hf.data.errors import (
    ClipError,
    ClipTooLongError,
    EmptyClipError,
    MissingAudioError,
    MissingFaceError,
    MissingVideoError,
    SilentAudioError,
    UnreadableMediaError,
)
from vqmae_hf.data.faces import FaceDetector
from vqmae_hf.data.media import read_waveform
from vqmae_hf.data.media_limits import LARGEST_RESULT_BYTES
from vqmae_hf.data.waveform_edits import trim_silence

__all__ = [
    "Clip",
    "ClipError",
    "ClipTooLongError",
    "EmptyClipError",
    "MissingAudioError",
    "MissingFaceError",
    "MissingVideoError",
    "SilentAudioError",
    "UnreadableMediaError",
    "load_clip",
]


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
    trim_silence_db: float | None = None,
) -> Clip:
    """Decode a clip, find the face in every frame, and cut it out.

    Clips of any length go through [`~vqmae_hf.data.clip_streaming.stream_clip`] in bounded memory. A few damaged packets are
    concealed, with a warning in the log; what `vqmae_hf.data.media_limits` sets bounds to is refused beyond them.

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
        start_seconds, end_seconds: part to load; None is the end of the clip. Decoding begins at the beginning of the file.
        on_missing_face: for pictures without any face; "center" takes the square in their middle.
        on_missing_audio: for a file without a sound track; "visual_only" returns a clip without waveform.
        on_missing_video: for a file without pictures; "audio_only" returns a clip without frames.
        on_silence: for sound that peaks below `SILENCE_PEAK`; "visual_only" drops it, "keep" returns it.
        trim_silence_db: of a clip without pictures, keep what lies between the first and the last moment that is less than
            so many dB below the loudest, and 80 ms around it; None keeps all. Times then count from the first sample kept.

    Raises:
        MissingVideoError, MissingAudioError, MissingFaceError, SilentAudioError: according to the policies, and whatever
            they say where nothing would be left of the clip.
        EmptyClipError: no frame or no sample in the part asked for.
        ClipTooLongError: crops or samples that take more than 1 GiB: 26 minutes of crops at the defaults.
        UnreadableMediaError: the file is missing, damaged, beyond the limits, or holds neither pictures nor sound.
        ValueError: an argument out of its range.
    """
    options = ClipOptions(
        audio_source=audio_source,
        modalities=modalities,
        frames_per_second=frames_per_second,
        sampling_rate=sampling_rate,
        face_size=face_size,
        crop_faces=crop_faces,
        face_detector=face_detector,
        start_seconds=start_seconds,
        end_seconds=end_seconds,
        on_missing_face=on_missing_face,
        on_missing_audio=on_missing_audio,
        on_missing_video=on_missing_video,
        on_silence=on_silence,
        trim_silence_db=trim_silence_db,
    )
    clip = examine_clip(source, options, most_frames=LARGEST_RESULT_BYTES // (3 * face_size**2))
    frames = None
    if clip.pictures is not None:
        frames = np.empty((len(clip.boxes), face_size, face_size, 3), np.uint8)
        for frame, crop in zip(frames, clip.crops(), strict=True):
            frame[:] = crop
    waveform = _heard_waveform(clip) if clip.has_sound else None
    return Clip(frames, waveform, frames_per_second, sampling_rate, clip.boxes, clip.source.name)


def _heard_waveform(clip: ExaminedClip) -> np.ndarray | None:
    """(N,) the sound of a clip, trimmed if that was asked for, or None where it is silent and may be left out."""
    sound = clip.sound()
    waveform = read_waveform(
        sound.source, sound.sampling_rate, sound.start_seconds, sound.end_seconds, sound.origin_seconds
    )
    peak = float(np.abs(waveform).max(initial=0.0))
    if not clip.is_heard(peak, len(waveform)):
        return None
    threshold_db = clip.options.trim_silence_db
    return waveform if threshold_db is None else trim_silence(waveform, sound.sampling_rate, threshold_db)
