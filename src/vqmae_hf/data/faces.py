"""Finding the face of a clip, following it, and cutting it out.

Detectors look at a few frames per second. Of everything they find, `follow_face` picks the one face that is large and
stays where it was, and fills in the frames between, so that every frame of a clip with a face has a box.
"""

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d, median_filter

# (H, W, 3) uint8 RGB -> (n, 4) boxes x, y, width, height in pixels, n >= 0
FaceDetector = Callable[[np.ndarray], np.ndarray]

SECONDS_BETWEEN_DETECTIONS = 0.2
# Added on each side of the detected box, as a share of it. Haar boxes reach from the forehead to the chin; a mouth that
# opens wide needs some room below.
FACE_MARGIN = 0.08
# Standard deviations of the smoothing over time. Heads move slowly, and sizes more slowly than places.
PLACE_SMOOTHING_SECONDS = 0.15
SIZE_SMOOTHING_SECONDS = 0.5
# What a jump to a face elsewhere costs, in detections of the largest face: a second of it. So a moment of something else is
# never worth two jumps, and a cut to another picture is followed.
JUMP_COST = 1 / SECONDS_BETWEEN_DETECTIONS
# Where a path may come from: any detection of this long, and before that the best path only, so that the time for a clip
# grows with its length and not with its square. So that it stays small, only the largest faces of a frame are candidates.
MEMORY_SECONDS = 20.0
MOST_FACES = 16

_per_thread = threading.local()


@dataclass(frozen=True)
class HaarFaceDetector:
    """OpenCV's packaged cascade for frontal faces, run on a small grey copy of the frame.

    May be shared between threads and sent to other processes.

    Args:
        cascade_path: cascade file; None is OpenCV's `haarcascade_frontalface_alt2.xml`.
        image_height: the shorter side of the copy, in pixels; smaller is faster and less exact.
        smallest_face: side of the smallest face, as a share of the shorter side. Faces of three times this size are looked
            for first, then of twice: most of the time goes into small ones (GRID: 5.6 ms a frame instead of 10.9).
    """

    cascade_path: str | None = None
    image_height: int = 240
    smallest_face: float = 0.1

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Find the faces in a (H, W, 3) uint8 RGB frame: (n, 4) boxes x, y, width, height in pixels."""
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        scale = min(1.0, self.image_height / min(grey.shape))
        if scale < 1.0:
            grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        for times in (3, 2, 1):
            side = max(20, round(times * self.smallest_face * min(grey.shape)))
            boxes = self._cascade().detectMultiScale(grey, scaleFactor=1.1, minNeighbors=3, minSize=(side, side))
            if len(boxes):
                return np.asarray(boxes, np.float64) / scale
        return np.zeros((0, 4))

    def _cascade(self) -> cv2.CascadeClassifier:
        path = self.cascade_path or os.path.join(cv2.data.haarcascades, "haarcascade_frontalface_alt2.xml")
        return _made_once(path, lambda: _load_cascade(path))


@dataclass(frozen=True)
class YuNetFaceDetector:
    """A YuNet network (an .onnx file of OpenCV's model zoo), which also finds turned faces.

    May be shared between threads and sent to other processes.

    Args:
        model_path: the .onnx file.
        score: least confidence of a face, 0 to 1.
        image_height: frames are shrunk until their shorter side is at most this, in pixels.
    """

    model_path: str
    score: float = 0.7
    image_height: int = 320

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Find the faces in a (H, W, 3) uint8 RGB frame: (n, 4) boxes x, y, width, height in pixels."""
        scale = min(1.0, self.image_height / min(frame.shape[:2]))
        image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        if scale < 1.0:
            image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        network = _made_once((self.model_path, self.score), self._load)
        network.setInputSize((image.shape[1], image.shape[0]))
        _, found = network.detect(image)
        return np.zeros((0, 4)) if found is None else found[:, :4].astype(np.float64) / scale

    def _load(self) -> "cv2.FaceDetectorYN":
        try:
            return cv2.FaceDetectorYN.create(self.model_path, "", (320, 320), self.score)
        except cv2.error as error:
            raise _bad_detector(self.model_path, str(error).strip()) from error


def as_face_detector(face_detector: FaceDetector | str | os.PathLike | None) -> FaceDetector:
    """Turn what users give into a detector.

    Args:
        face_detector: None for the packaged Haar cascade, the path of a YuNet .onnx or a cascade .xml file, or a callable
            that takes a (H, W, 3) uint8 RGB frame and returns (n, 4) boxes x, y, width, height in pixels.

    Raises:
        ValueError: none of these, or no such file.
    """
    if face_detector is None:
        return HaarFaceDetector()
    if callable(face_detector):
        return face_detector
    if not isinstance(face_detector, str | os.PathLike):
        raise _bad_detector(repr(face_detector), "which is neither")
    path = os.fspath(face_detector)
    if not os.path.isfile(path):
        raise _bad_detector(path, "but there is no such file")
    if path.endswith(".onnx"):
        return YuNetFaceDetector(path)
    if path.endswith(".xml"):
        return HaarFaceDetector(path)
    raise _bad_detector(path, "which ends in neither .onnx nor .xml")


def detect_faces(frames: Iterable[np.ndarray], face_detector: FaceDetector) -> list[np.ndarray]:
    """Run a detector over frames and check what it gives.

    Args:
        frames: (H, W, 3) uint8 RGB images.
        face_detector: see `as_face_detector`.

    Returns:
        For each frame (n, 4) float64 boxes x, y, width, height in pixels, n >= 0.

    Raises:
        ValueError: the detector gave something else.
    """
    return [_checked_boxes(face_detector(frame), face_detector) for frame in frames]


def follow_face(
    detections: Sequence[np.ndarray],
    times: Sequence[int],
    num_frames: int,
    frames_per_second: float,
) -> np.ndarray | None:
    """Choose one face among the detections and give it a box in every frame.

    The chosen face is the path through the detections with the greatest sum of sizes less the cost of its jumps: large,
    present often, and where it was before. Frames between two detections get the interpolated box, frames before the
    first and after the last the nearest. The track is smoothed by filters without delay.

    Args:
        detections: for each examined frame (n, 4) boxes x, y, width, height in pixels, n >= 0.
        times: the numbers of the examined frames, rising, each in [0, num_frames).
        num_frames: T, frames of the clip.
        frames_per_second: rate of the frames, in Hz.

    Returns:
        (T, 4) float64 square boxes x, y, side, side without margin, which may reach over the border of the image; None
        if there is no detection at all.
    """
    places = [(time, _square(box)) for time, boxes in zip(times, detections, strict=True) for box in _largest(boxes)]
    if not places:
        return None
    memory = MEMORY_SECONDS * frames_per_second
    chosen = _best_path(np.array([time for time, _ in places]), np.array([square for _, square in places]), memory)
    known_times = np.array([places[index][0] for index in chosen])
    known = np.array([places[index][1] for index in chosen])
    known = median_filter(known, size=(min(3, len(known)), 1), mode="nearest")  # a single outlier moves nothing
    every = np.arange(num_frames)
    track = np.stack([np.interp(every, known_times, column) for column in known.T], axis=1)  # (T, 3)
    x, y = gaussian_filter1d(track[:, :2], PLACE_SMOOTHING_SECONDS * frames_per_second, axis=0, mode="nearest").T
    side = np.exp(gaussian_filter1d(track[:, 2], SIZE_SMOOTHING_SECONDS * frames_per_second, mode="nearest"))
    return np.stack([x - side / 2, y - side / 2, side, side], axis=1)


def add_margin(boxes: np.ndarray, margin: float = FACE_MARGIN) -> np.ndarray:
    """Grow (T, 4) boxes x, y, width, height on each side by a share of their size."""
    grown = np.array(boxes, np.float64)
    grown[:, :2] -= margin * grown[:, 2:]
    grown[:, 2:] *= 1 + 2 * margin
    return grown


def center_box(height: int, width: int) -> np.ndarray:
    """(4,) the largest square in the middle of an image: x, y, side, side in pixels."""
    side = min(height, width)
    return np.array([(width - side) / 2, (height - side) / 2, side, side])


def crop_square(image: np.ndarray, box: np.ndarray, size: int) -> np.ndarray:
    """Cut a square out of an image and scale it, to fractions of a pixel.

    Whole-pixel crops would make a steady face tremble. What lies outside the image repeats its border.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) x, y, side, side in pixels.
        size: side of the result in pixels.

    Returns:
        (size, size, 3) uint8.
    """
    x, y, side = box[:3]
    # Warping takes single points of the image: draw a whole multiple of the size first and average it down.
    factor = max(1, int(np.ceil(side / size - 0.01)))
    drawn = factor * size
    step = side / drawn
    matrix = np.array([[step, 0, x + step / 2 - 0.5], [0, step, y + step / 2 - 0.5]])  # of pixel centres
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    crop = cv2.warpAffine(image, matrix, (drawn, drawn), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return crop if factor == 1 else cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA)


def _square(box: np.ndarray) -> tuple[float, float, float]:
    """Middle and logarithmic side of the square around a box."""
    x, y, width, height = box
    return x + width / 2, y + height / 2, float(np.log(max(width, height)))


def _largest(boxes: np.ndarray) -> np.ndarray:
    """The (n, 4) boxes in their order, or the `MOST_FACES` largest of more."""
    if len(boxes) <= MOST_FACES:
        return boxes
    return boxes[np.argsort(-boxes[:, 2:].prod(1), kind="stable")[:MOST_FACES]]


def _best_path(times: np.ndarray, squares: np.ndarray, memory: float) -> list[int]:
    """The path through (n,) detections with (n, 3) middles and log sides that gains most, by dynamic programming.

    `times` do not fall. Of the detections more than `memory` frames ago, only the end of the best path is considered.
    """
    sides = np.exp(squares[:, 2])
    gain, before = sides / sides.max(), np.full(len(times), -1)
    starts = np.searchsorted(times, times - memory)  # of what is remembered
    ends = np.searchsorted(times, times)  # of what is earlier
    best, forgotten = [], 0  # the end of the best forgotten path, and how many detections are forgotten
    for index in range(len(times)):
        for leaving in range(forgotten, starts[index]):
            best = [leaving] if not best or gain[leaving] > gain[best[0]] else best
        forgotten = starts[index]
        earlier = np.array([*best, *range(starts[index], ends[index])])
        if len(earlier) == 0:
            continue
        distance = np.linalg.norm(squares[earlier, :2] - squares[index, :2], axis=1)
        change = distance / np.sqrt(sides[earlier] * sides[index]) + np.abs(squares[earlier, 2] - squares[index, 2])
        reached = gain[earlier] - JUMP_COST * np.minimum(change, 1.0) ** 2  # small moves are nearly free
        if reached.max() > 0:
            before[index] = earlier[reached.argmax()]
            gain[index] += reached.max()
    path, index = [], int(gain.argmax())
    while index >= 0:
        path.append(index)
        index = int(before[index])
    return path[::-1]


def _checked_boxes(boxes: Any, face_detector: FaceDetector) -> np.ndarray:
    boxes = np.asarray(boxes if boxes is not None and len(boxes) else np.zeros((0, 4)), np.float64)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not np.isfinite(boxes).all() or (boxes[:, 2:] <= 0).any():
        raise ValueError(
            f"face_detector: {face_detector!r} gave an array of shape {boxes.shape} with values {boxes.tolist()!s:.100}; "
            "accepted are (n, 4) finite boxes x, y, width > 0, height > 0 in pixels, n = 0 without a face"
        )
    return boxes


def _load_cascade(path: str) -> cv2.CascadeClassifier:
    try:
        cascade = cv2.CascadeClassifier(path)
    except cv2.error as error:
        raise _bad_detector(path, str(error).strip()) from error
    if cascade.empty():
        raise _bad_detector(path, "which holds no cascade")
    return cascade


def _made_once(key: Any, make: Callable[[], Any]) -> Any:
    """The object made for a key in this thread: OpenCV's detectors must not be shared between threads."""
    made = _per_thread.__dict__.setdefault("made", {})
    if key not in made:
        made[key] = make()
    return made[key]


def _bad_detector(found: str, trouble: str) -> ValueError:
    return ValueError(
        f"face_detector: found {found}, {trouble}; accepted is None (the packaged Haar cascade), the path of a YuNet .onnx "
        "or a cascade .xml file, or a callable that takes a (H, W, 3) uint8 RGB frame and returns (n, 4) boxes"
    )
