"""What a clip is made of, found in a first pass that keeps boxes only, under the policies for what is missing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf
from os import PathLike
from typing import Any, Literal, NamedTuple

import numpy as np

from vqmae_hf.data.errors import (
    EmptyClipError,
    MissingAudioError,
    MissingFaceError,
    MissingVideoError,
    SilentAudioError,
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
from vqmae_hf.data.media import FrameReader, MediaSource, SoundReader, probe_media, resolve_source

MODALITIES = ("audio", "visual")
# Below this peak, -60 dB of full scale, a sound track is silent. The quietest utterance of RAVDESS peaks at -47 dB.
SILENCE_PEAK = 1e-3
# Clips up to this length in which a glance finds no face are looked at frame by frame before giving up.
LONGEST_SECOND_LOOK_SECONDS = 60.0
POLICIES = {
    "on_missing_face": ("error", "center"),
    "on_missing_audio": ("error", "visual_only"),
    "on_missing_video": ("error", "audio_only"),
    "on_silence": ("error", "visual_only", "keep"),
}


@dataclass(frozen=True)
class ClipOptions:
    """The options that [`~vqmae_hf.data.clips.load_clip`] explains.

    Raises:
        ValueError: listing every option out of its range.
    """

    audio_source: Any = None
    modalities: Sequence[str] = MODALITIES
    frames_per_second: float = 25
    sampling_rate: int = 16000
    face_size: int = 96
    crop_faces: bool = True
    face_detector: FaceDetector | str | PathLike | None = None
    start_seconds: float = 0.0
    end_seconds: float | None = None
    on_missing_face: Literal["error", "center"] = "error"
    on_missing_audio: Literal["error", "visual_only"] = "error"
    on_missing_video: Literal["error", "audio_only"] = "error"
    on_silence: Literal["error", "visual_only", "keep"] = "error"
    trim_silence_db: float | None = None

    def __post_init__(self):
        problems = []
        if isinstance(self.modalities, str) or not self.modalities or set(self.modalities) - set(MODALITIES):
            accepted = '("audio", "visual"), ("audio",), ("visual",)'
            problems.append(f"modalities: found {self.modalities!r}; accepted are {accepted}")
        if not isinstance(self.face_size, int | np.integer) or self.face_size < 1:
            problems.append(f"face_size: found {self.face_size!r}; accepted is a whole number of pixels above 0")
        for name, choices in POLICIES.items():
            if getattr(self, name) not in choices:
                found, accepted = getattr(self, name), ", ".join(map(repr, choices))
                problems.append(f"{name}: found {found!r}; accepted is one of {accepted}")
        problems += self._trimming_problems()
        if problems:
            raise ValueError("; ".join(problems))

    def _trimming_problems(self) -> list[str]:
        threshold = self.trim_silence_db
        if threshold is None:
            return []
        is_number = isinstance(threshold, int | float) and not isinstance(threshold, bool)
        if not is_number or not 0 < threshold < inf:
            return [f"trim_silence_db: found {threshold!r}; accepted is a number of dB above 0, such as 35, or None"]
        if "visual" in self.modalities:
            return [
                f"trim_silence_db: found {threshold} beside pictures, which the sound would no longer be in step with; "
                'pass modalities=("audio",) to use the sound alone, or leave trim_silence_db out'
            ]
        return []


class ExaminedClip(NamedTuple):
    """A clip before its crops are cut.

    Attributes:
        source, audio_source: where pictures and sound come from.
        pictures: a reader that has been gone through once, or None for a clip without frames.
        boxes: (T, 4) squares to cut out, x, y, side, side in pixels of the shown picture; None without frames.
        has_sound: whether there is a sound track to read.
        options: as asked for.
    """

    source: MediaSource
    audio_source: MediaSource
    pictures: FrameReader | None
    boxes: np.ndarray | None
    has_sound: bool
    options: ClipOptions

    def crops(self) -> Iterator[np.ndarray]:
        """Decode the pictures once more and yield T crops, (face_size, face_size, 3) uint8."""
        last = rgb = None
        for picture, box in zip(self.pictures, self.boxes, strict=True):
            if picture is not last:
                last, rgb = picture, picture.to_rgb()
            yield crop_square(rgb, box, self.options.face_size)

    def sound(self) -> SoundReader:
        """The sound over the time of the frames; over the part asked for where there are none."""
        options, end, origin = self.options, self.options.end_seconds, None
        if self.pictures is not None:
            end = options.start_seconds + self.pictures.duration_seconds
            origin = self.pictures.origin_seconds if self.audio_source is self.source else None
        return SoundReader(self.audio_source, options.sampling_rate, options.start_seconds, end, origin)

    def is_heard(self, peak: float, num_samples: int) -> bool:
        """Whether the sound is to be used, by its peak magnitude and the policy for silence.

        Raises:
            EmptyClipError: no samples.
            SilentAudioError: silence, and the policy does not allow it or nothing would be left.
        """
        if num_samples == 0:
            raise EmptyClipError.about(
                self.audio_source.name,
                found="a sound track without a sample in the part asked for",
                accepted="at least one sample",
                remedy="Check start_seconds and end_seconds against probe_media(file).duration_seconds",
            )
        if peak >= SILENCE_PEAK or self.options.on_silence == "keep":
            return True
        if self.options.on_silence == "visual_only" and self.pictures is not None:
            return False
        raise SilentAudioError.about(
            self.audio_source.name,
            found=f"silence (peak {peak:.1e} of full scale)",
            accepted=f"sound that peaks at {SILENCE_PEAK:.0e} or more",
            remedy='on_silence="visual_only" uses the pictures alone, on_silence="keep" the silence as it is',
        )


def examine_clip(
    source: Any, options: ClipOptions, *, most_frames: float = inf, keep_pictures: bool = True
) -> ExaminedClip:
    """Find out what there is of a clip and where the face is in every frame.

    Args:
        source: path, bytes, binary file object or {"path", "bytes"} dict.
        options: see `ClipOptions`.
        most_frames, keep_pictures: see `FrameReader`.

    Raises:
        MissingVideoError, MissingAudioError, MissingFaceError, EmptyClipError, ClipTooLongError, UnreadableMediaError: see
            `load_clip`.
        ValueError: a rate, an interval or a detector that makes no sense.
    """
    detector = as_face_detector(options.face_detector)
    source = resolve_source(source)
    audio_source = source if options.audio_source is None else resolve_source(options.audio_source)
    has_frames, has_sound = _what_there_is(source, audio_source, options)
    if not has_frames:
        return ExaminedClip(source, audio_source, None, None, has_sound, options)
    reader = FrameReader(
        source,
        options.frames_per_second,
        options.start_seconds,
        options.end_seconds,
        most_frames=most_frames,
        keep_pictures=keep_pictures,
    )
    boxes = _boxes_to_cut(reader, detector if options.crop_faces else None, options.on_missing_face)
    return ExaminedClip(source, audio_source, reader, boxes, has_sound, options)


def _what_there_is(source: MediaSource, audio_source: MediaSource, options: ClipOptions) -> tuple[bool, bool]:
    """Whether to load frames and sound, from what was asked for, what is there, and the policies."""
    info = probe_media(source)
    has_audio = info.has_audio if audio_source is source else probe_media(audio_source).has_audio
    with_frames = "visual" in options.modalities and info.has_video
    with_sound = "audio" in options.modalities and has_audio
    if "visual" in options.modalities and not with_frames and (options.on_missing_video == "error" or not with_sound):
        raise MissingVideoError.about(
            source.name,
            found="sound without pictures" if info.has_audio else "no pictures",
            accepted="a file with a video stream",
            remedy='To use the sound alone, pass modalities=("audio",) or on_missing_video="audio_only"',
        )
    if "audio" in options.modalities and not with_sound and (options.on_missing_audio == "error" or not with_frames):
        raise MissingAudioError.about(
            audio_source.name,
            found="pictures without sound" if info.has_video else "no sound track",
            accepted="a file with an audio stream",
            remedy='To use the pictures alone, pass modalities=("visual",) or on_missing_audio="visual_only"',
        )
    return with_frames, with_sound


def _boxes_to_cut(reader: FrameReader, detector: FaceDetector | None, on_missing_face: str) -> np.ndarray:
    """(T, 4) squares to cut out of the frames: around the face, or in the middle without detector or by the policy."""
    step = max(1, round(SECONDS_BETWEEN_DETECTIONS * reader.frames_per_second))
    for every in dict.fromkeys((step, 1)):
        shape, found = _look(reader, detector, every)
        times = range(0, reader.num_frames, every)
        faces = None if detector is None else follow_face(found, times, reader.num_frames, reader.frames_per_second)
        if faces is not None:
            return add_margin(faces)
        if detector is None or reader.duration_seconds > LONGEST_SECOND_LOOK_SECONDS:
            break
    if detector is not None and on_missing_face == "error":
        raise MissingFaceError.about(
            reader.source.name,
            found=f"no face in any of {reader.num_frames} frames of {shape[1]} x {shape[0]} pixels",
            accepted="a clip that shows a face from the front",
            remedy='If the pictures show nothing but a face, pass crop_faces=False; on_missing_face="center" takes their '
            "middle, face_detector= the path of a YuNet .onnx file or a callable finds turned faces",
        )
    return np.tile(center_box(*shape[:2]), (reader.num_frames, 1))


def _look(
    reader: FrameReader, detector: FaceDetector | None, every: int
) -> tuple[tuple[int, int, int], list[np.ndarray]]:
    """The shape of the pictures and, with a detector, the faces of every so many frames; a held picture is seen once."""
    shape, last, found = None, None, []
    for index, picture in enumerate(reader):
        if index % every or (detector is None and shape is not None):
            continue
        if picture is not last:
            rgb = picture.to_rgb()
            shape = shape or rgb.shape
            boxes = None if detector is None else detect_faces([rgb], detector)[0]
        last = picture
        found.append(boxes)
    if shape is None:
        raise EmptyClipError.about(
            reader.source.name,
            found=f"no picture from {reader.start_seconds} to {reader.end_seconds or 'the end'} seconds",
            accepted="at least one frame",
            remedy="Check start_seconds and end_seconds against probe_media(file).duration_seconds",
        )
    return shape, found
