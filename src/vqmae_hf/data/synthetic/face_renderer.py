"""Draws talking faces, frame by frame: `face_features` on `face_layers`.

A frame is drawn at twice its size on a head at rest: the lower face is stretched as the jaw drops, eyes and mouth are
drawn. Then one similarity transform moves the head and reduces it, and it is laid over the background.
"""

from __future__ import annotations

import cv2
import numpy as np

from vqmae_hf.data.synthetic.face_features import crease_skin, draw_brow, draw_eye, draw_mouth, mouth_curves
from vqmae_hf.data.synthetic.face_layers import (
    CENTRE,
    FaceGeometry,
    Palette,
    draw_background,
    draw_face,
    draw_hair,
    lay_over,
    mix,
)
from vqmae_hf.data.synthetic.factors import ClipFactors, SpeakerFactors
from vqmae_hf.data.synthetic.trajectories import FrameFactors

MIN_IMAGE_SIZE = 64
_OVERSAMPLING = 2
_JAW_STRETCH = 0.09  # of the part below the nose, at full opening
_NECK_Y = 0.8  # the head turns about this height


def render_face(speaker: SpeakerFactors, clip: ClipFactors, frames: FrameFactors, image_size: int = 128) -> np.ndarray:
    """Draws the frames of a clip.

    Returns:
        frames (T, image_size, image_size, 3) uint8 RGB.

    Raises:
        ValueError: if `image_size` is below 64 (brows and lids would be lost) or odd (H.264 halves the color planes).
    """
    if problems := image_size_problems(image_size):
        raise ValueError("; ".join(problems))
    portrait = _Portrait(speaker, clip, image_size)
    return np.stack([portrait.draw(frames, t) for t in range(frames.num_frames)])


def image_size_problems(image_size: int) -> list[str]:
    """What is wrong with an image size, as no or one sentence."""
    if isinstance(image_size, int) and image_size >= MIN_IMAGE_SIZE and image_size % 2 == 0:
        return []
    return [f"image_size is {image_size!r}; choose an even number of at least {MIN_IMAGE_SIZE}, such as 128"]


class _Portrait:
    """The still layers of one clip, and the drawing of what moves on them."""

    def __init__(self, speaker: SpeakerFactors, clip: ClipFactors, image_size: int) -> None:
        self.image_size, self.side = image_size, image_size * _OVERSAMPLING
        self.clip, self.palette, self.geometry = clip, Palette.of(speaker), FaceGeometry.of(speaker)
        background = draw_background(speaker, self.side)
        self.background = cv2.resize(background, (image_size, image_size), interpolation=cv2.INTER_AREA)
        self.hair = draw_hair(speaker, self.side)
        self.face = draw_face(speaker, self.side).copy()
        crease_skin(self.face, self.geometry, clip)
        for mirror in (-1, 1):
            thickness = speaker.brow_thickness
            draw_brow(self.face, self.geometry, self.palette, clip, mirror=mirror, thickness=thickness)
        self.head = lay_over(self.face, self.hair)
        self.eyes: tuple[float, float, float] | None = None
        self.head_with_eyes = self.head
        self.jaw_top = round(self.side * (self.geometry.nose_tip_y + 0.03))
        reach = round(self.side * 1.02 * self.geometry.half_width)
        self.jaw_columns = slice(self.side // 2 - reach, self.side // 2 + reach)

    def draw(self, frames: FrameFactors, t: int) -> np.ndarray:
        """(image_size, image_size, 3) uint8: frame t."""
        self._move_eyes(float(frames.eye_opening[t]), float(frames.gaze_x[t]), float(frames.gaze_y[t]))
        opening = float(frames.mouth_opening[t])
        layer = self._drop_jaw(opening)
        top = self.jaw_top / self.side
        mouth_y = top + (self.geometry.mouth_y - top) * (1.0 + 0.4 * _JAW_STRETCH * opening)
        curves = mouth_curves(self.geometry, self.clip, opening, float(frames.mouth_spread[t]), mouth_y)
        draw_mouth(layer, curves, self.palette.lips)
        return self._place(layer, float(frames.head_x[t]), float(frames.head_y[t]), float(frames.head_roll[t]))

    def _move_eyes(self, opening: float, gaze_x: float, gaze_y: float) -> None:
        """Draws the eyes anew where they moved: between saccades and blinks they rest for many frames."""
        if self.eyes == (opening, gaze_x, gaze_y):
            return
        self.eyes = (opening, gaze_x, gaze_y)
        self.head_with_eyes = layer = self.head.copy()
        for mirror in (-1, 1):
            gaze = (gaze_x, gaze_y)
            draw_eye(layer, self.geometry, self.palette, self.clip, mirror=mirror, opening=opening, gaze=gaze)

    def _drop_jaw(self, opening: float) -> np.ndarray:
        """(side, side, 4): the head with its lower face stretched; the hair behind stays where it is."""
        layer = self.head_with_eyes.copy()
        top, columns = self.jaw_top, self.jaw_columns
        lower = self.face[top:, columns]
        height, width = lower.shape[:2]
        stretch = np.array([[1.0, 0.0, 0.0], [0.0, 1.0 + _JAW_STRETCH * opening, 0.0]])
        lower = cv2.warpAffine(lower, stretch, (width, height), borderMode=cv2.BORDER_REPLICATE)
        layer[top:, columns] = lay_over(lower, self.hair[top:, columns])
        return layer

    def _place(self, layer: np.ndarray, x: float, y: float, roll: float) -> np.ndarray:
        """Turns the head about the neck, shifts and reduces it, and lays it over the background."""
        matrix = cv2.getRotationMatrix2D((CENTRE[0] * self.side, _NECK_Y * self.side), -roll, 1.0)
        matrix[:, 2] += np.array([x, y]) * self.side
        # Reduced in the same step: a bilinear sample where four pixels meet is their mean.
        matrix /= _OVERSAMPLING
        matrix[:, 2] += 0.5 / _OVERSAMPLING - 0.5
        size = (self.image_size, self.image_size)
        head = cv2.warpAffine(layer, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        return mix(head[..., :3], self.background, head[..., 3])
