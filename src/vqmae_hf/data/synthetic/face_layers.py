"""What of a synthetic portrait does not move: background with shoulders, hair, the shaded face without its features.

Coordinates are fractions of the image side, the head at rest; x to the right, y down. Pictures are RGB. The layers depend
on the speaker alone and are kept for the next clip, so they are read-only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from vqmae_hf.data.synthetic.factors import SpeakerFactors

CENTRE = (0.5, 0.5)  # of the face oval
MIDLINE = np.array([CENTRE[0], 0.0])
SUBPIXEL_BITS = 4  # of the coordinates given to OpenCV

_SKIN = ((255, 222, 200), (243, 201, 170), (226, 175, 138), (198, 141, 104), (158, 104, 74), (128, 84, 60))
_HAIR = ((38, 30, 28), (72, 46, 32), (118, 78, 44), (176, 132, 76), (150, 74, 40), (128, 122, 118))
_IRIS = ((74, 46, 28), (112, 78, 40), (92, 116, 70), (72, 112, 148), (96, 128, 150))
_CLOTHES = ((52, 70, 104), (120, 52, 58), (60, 98, 84), (86, 80, 96), (184, 172, 152), (44, 46, 54))
_BACKGROUND = ((186, 200, 214), (204, 196, 182), (176, 196, 184), (206, 188, 192), (168, 178, 196))


def palette_color(palette: tuple[tuple[int, int, int], ...], tone: float) -> np.ndarray:
    """(3,) float32 color at `tone` (0-1) of a palette, linear between its entries."""
    position = np.linspace(0.0, 1.0, len(palette))
    return np.array([np.interp(tone, position, channel) for channel in zip(*palette, strict=True)], np.float32)


class Palette(NamedTuple):
    """The colors of a speaker, (3,) float32 each, 0 to 255."""

    skin: np.ndarray
    hair: np.ndarray
    brow: np.ndarray
    iris: np.ndarray
    sclera: np.ndarray
    lips: np.ndarray
    clothes: np.ndarray
    background: np.ndarray

    @classmethod
    def of(cls, speaker: SpeakerFactors) -> Palette:
        skin = palette_color(_SKIN, speaker.skin_tone)
        # As with people, hair and eyes darken with the skin: light ones on dark skin also hide the face from detectors.
        darker = 1.0 - 0.55 * np.float32(speaker.skin_tone) ** 2
        hair = darker * palette_color(_HAIR, speaker.hair_tone)
        return cls(
            skin=skin,
            hair=hair,
            # Dark enough to be read on any skin.
            brow=np.minimum(0.55 * hair, 0.45 * skin),
            iris=darker * palette_color(_IRIS, speaker.eye_tone),
            sclera=np.array([236.0, 232.0, 226.0], np.float32) * (0.72 + 0.28 * skin.mean() / 255.0),
            lips=skin * np.array([0.84, 0.58, 0.6], np.float32),
            clothes=palette_color(_CLOTHES, speaker.clothing_tone),
            background=palette_color(_BACKGROUND, speaker.background_tone),
        )


class FaceGeometry(NamedTuple):
    """Where the parts of a speaker's face lie at rest, in fractions of the image side."""

    half_width: float
    upper_height: float  # face oval, from its centre up to the top of the forehead
    lower_height: float  # down to the chin
    eye_x: float  # distance of each eye from the midline
    eye_y: float
    eye_half_width: float
    eye_half_height: float
    brow_y: float
    nose_tip_y: float
    nose_half_width: float
    mouth_y: float
    mouth_half_width: float
    lip_height: float

    @classmethod
    def of(cls, speaker: SpeakerFactors) -> FaceGeometry:
        eye_y = CENTRE[1] - 0.035
        return cls(
            half_width=0.255 * speaker.face_width,
            upper_height=0.32 * speaker.face_height,
            lower_height=0.335 * speaker.face_height,
            eye_x=0.113 * speaker.eye_spacing,
            eye_y=eye_y,
            eye_half_width=0.062 * speaker.eye_size,
            eye_half_height=0.03 * speaker.eye_size,
            brow_y=eye_y - 0.082 * speaker.brow_height,
            nose_tip_y=CENTRE[1] + 0.088 * speaker.nose_length,
            nose_half_width=0.042 * speaker.nose_width,
            mouth_y=CENTRE[1] + 0.192 * speaker.face_height,
            mouth_half_width=0.108 * speaker.mouth_width,
            lip_height=0.024 * speaker.lip_fullness,
        )


def fill(image: np.ndarray, points: np.ndarray, color: np.ndarray | float) -> None:
    """Fills a polygon (n, 2), in pixels of `image`, with smooth edges; on a layer with opacity, the color is opaque."""
    fixed = np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.fillPoly(image, [fixed], scalar(color), cv2.LINE_AA, SUBPIXEL_BITS)


def stroke(image: np.ndarray, points: np.ndarray, color: np.ndarray | float, thickness: int) -> None:
    """Draws an open smooth line through points (n, 2), in pixels of `image`; opaque like `fill`."""
    fixed = np.rint(points * (1 << SUBPIXEL_BITS)).astype(np.int32)
    cv2.polylines(image, [fixed], False, scalar(color), thickness, cv2.LINE_AA, SUBPIXEL_BITS)


def scalar(color: np.ndarray | float) -> tuple[float, ...]:
    """A color, or a level of gray, as OpenCV takes it; it ignores the opacity where the image has none."""
    return (*color.tolist(), 255.0) if isinstance(color, np.ndarray) else (color,)


def mix(front: np.ndarray, back: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8 `front` over `back`, by opacity (H, W) uint8."""
    share = opacity.astype(np.float32) / 255.0
    return cv2.blendLinear(np.ascontiguousarray(front), np.ascontiguousarray(back), share, 1.0 - share)


def lay_over(front: np.ndarray, back: np.ndarray) -> np.ndarray:
    """One layer of two, (H, W, 4) each: opaque where either is."""
    mixed = mix(front, back, front[..., 3])
    mixed[..., 3] = np.maximum(front[..., 3], back[..., 3])
    return mixed


@lru_cache(maxsize=2)
def draw_background(speaker: SpeakerFactors, side: int) -> np.ndarray:
    """(side, side, 3) uint8: a softly lit wall, neck and shoulders."""
    palette, geometry = Palette.of(speaker), FaceGeometry.of(speaker)
    y, x = _grid(side)
    light = 1.06 - 0.55 * ((x - 0.35) ** 2 + (y - 0.3) ** 2)
    image = palette.background * light[..., None]

    shoulders = np.array([(-0.1, 1.1), (0.02, 0.95), (0.28, 0.87), (0.72, 0.87), (0.98, 0.95), (1.1, 1.1)])
    cloth_light = 1.1 - 0.5 * np.abs(x - 0.42) - 0.6 * (y - 0.86)
    _paint(image, _smooth_outline(shoulders) * side, palette.clothes * cloth_light[..., None])
    neck = 0.52 * geometry.half_width
    outline = np.array(
        [(-neck, 0.6), (neck, 0.6), (neck, 0.84), (1.5 * neck, 0.9), (0.0, 0.955), (-1.5 * neck, 0.9), (-neck, 0.84)]
    )
    chin = CENTRE[1] + geometry.lower_height
    neck_light = 0.62 + 0.25 * np.clip((y - chin) / 0.1, 0.0, 1.0) - 0.4 * (x - 0.45)
    _paint(image, (outline + MIDLINE) * side, palette.skin * neck_light[..., None])
    return _frozen(np.clip(image, 0, 255).astype(np.uint8))


@lru_cache(maxsize=2)
def draw_hair(speaker: SpeakerFactors, side: int) -> np.ndarray:
    """(side, side, 4) uint8, RGB and opacity: the hair behind the head."""
    palette, geometry = Palette.of(speaker), FaceGeometry.of(speaker)
    image = np.broadcast_to(palette.hair, (side, side, 3)).copy()
    opacity = np.zeros((side, side), np.uint8)
    outline = _hair_back(speaker, geometry) * side
    _paint(image, outline, 0.78 * palette.hair * _hair_streaks(side)[..., None])
    fill(opacity, outline, 255)
    return _frozen(np.dstack([np.clip(image, 0, 255).astype(np.uint8), opacity]))


@lru_cache(maxsize=2)
def draw_face(speaker: SpeakerFactors, side: int) -> np.ndarray:
    """(side, side, 4) uint8, RGB and opacity: ears, shaded face with its nose, front hair; no eyes, brows and mouth yet."""
    palette, geometry = Palette.of(speaker), FaceGeometry.of(speaker)
    image = np.broadcast_to(0.6 * palette.skin, (side, side, 3)).copy()
    opacity = np.zeros((side, side), np.uint8)
    for mirror in (-1, 1):
        ear = _ellipse((CENTRE[0] + mirror * 0.985 * geometry.half_width, geometry.eye_y + 0.05), 0.03, 0.062) * side
        _paint(image, ear, 0.8 * np.broadcast_to(palette.skin, image.shape))
        fill(opacity, ear, 255)
    outline = face_outline(geometry, speaker.jaw_width) * side
    _paint(image, outline, _shaded_skin(palette, geometry, side))
    fill(opacity, outline, 255)
    for mirror in (-1, 1):
        nostril = (CENTRE[0] + mirror * 0.45 * geometry.nose_half_width, geometry.nose_tip_y + 0.014)
        fill(image, _ellipse(nostril, 0.011, 0.006) * side, 0.42 * palette.skin)
    front = _hair_front(speaker, geometry) * side
    shadow = np.zeros((side, side), np.float32)
    fill(shadow, front + np.array([0.0, 0.018 * side]), 1.0)
    image *= 1.0 - 0.3 * cv2.GaussianBlur(shadow, (0, 0), 0.014 * side)[..., None]
    _paint(image, front, palette.hair * _hair_streaks(side)[..., None])
    fill(opacity, front, 255)
    return _frozen(np.dstack([np.clip(image, 0, 255).astype(np.uint8), opacity]))


def face_outline(geometry: FaceGeometry, jaw_width: float) -> np.ndarray:
    """(n, 2): an oval that narrows from the cheeks to the jaw."""
    angle = np.linspace(0.0, 2.0 * np.pi, 96, endpoint=False)
    down = np.sin(angle)
    height = np.where(down > 0, geometry.lower_height, geometry.upper_height)
    narrowing = 1.0 - (1.0 - jaw_width) * np.clip(down, 0.0, None) ** 2
    x = CENTRE[0] + geometry.half_width * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.85 * narrowing
    return np.stack([x, CENTRE[1] + height * down], axis=1)


def _shaded_skin(palette: Palette, geometry: FaceGeometry, side: int) -> np.ndarray:
    """(side, side, 3) float32: skin lit from above left, with the hollows and ridges that make a face."""
    y, x = _grid(side)
    u = (x - CENTRE[0]) / (1.12 * geometry.half_width)
    v = (y - CENTRE[1]) / (1.15 * geometry.lower_height)
    depth = np.sqrt(np.clip(1.0 - u**2 - v**2, 0.02, 1.0))
    light = 0.56 + 0.5 * np.clip(-0.3 * u - 0.33 * v + 0.9 * depth, 0.0, 1.0)

    def spot(cx: float, cy: float, sx: float, sy: float) -> np.ndarray:
        return np.exp(-0.5 * (((x - CENTRE[0] - cx) / sx) ** 2 + ((y - cy) / sy) ** 2))

    eye_x, eye_y, nose_y, nose = geometry.eye_x, geometry.eye_y, geometry.nose_tip_y, geometry.nose_half_width
    for mirror in (-1, 1):
        light -= 0.20 * spot(mirror * 0.92 * eye_x, eye_y - 0.012, 0.055, 0.032)  # sockets
        light -= 0.10 * spot(mirror * 0.5 * eye_x, eye_y, 0.02, 0.04)  # sides of the bridge
        light += 0.05 * spot(mirror * 1.15 * eye_x, nose_y - 0.02, 0.05, 0.04)  # cheek bones
        light -= 0.08 * spot(mirror * 1.35 * nose, nose_y - 0.005, 0.014, 0.03)  # wings of the nose
        light -= 0.05 * spot(mirror * 0.16, geometry.mouth_y, 0.05, 0.08)  # below the cheek bones
    light += 0.13 * spot(-0.004, 0.5 * (eye_y + nose_y), 0.016, 0.07)  # bridge
    light += 0.10 * spot(-0.006, nose_y - 0.012, 0.02, 0.016)  # tip
    light -= 0.20 * spot(0.006, nose_y + 0.022, 0.8 * nose, 0.012)  # shadow under the nose
    light += 0.05 * spot(0.0, eye_y - 0.16, 0.1, 0.05)  # forehead
    light -= 0.12 * spot(0.0, geometry.mouth_y + 0.062, 0.05, 0.014)  # below the lower lip
    light += 0.06 * spot(-0.01, geometry.mouth_y + 0.105, 0.04, 0.022)  # chin
    skin = palette.skin * light[..., None]
    blush = sum(spot(mirror * 1.3 * eye_x, nose_y, 0.05, 0.035) for mirror in (-1, 1))
    return skin * (1.0 - blush[..., None] * np.array([0.0, 0.1, 0.08], np.float32))


def _hair_back(speaker: SpeakerFactors, geometry: FaceGeometry) -> np.ndarray:
    """(n, 2): the hair behind the head; long styles fall to the shoulders."""
    width, top = geometry.half_width, CENTRE[1] - geometry.upper_height
    if speaker.hair_style == 3:  # long and wavy
        side = [(1.08, 0.42), (1.2, 0.6), (1.16, 0.76), (1.3, 0.93), (0.7, 0.97)]
    elif speaker.hair_style == 2:  # a bob, to the jaw
        side = [(1.1, 0.42), (1.22, 0.6), (1.24, 0.74), (0.8, 0.77)]
    else:
        side = [(1.05, 0.36), (1.04, 0.46), (0.9, 0.52)]
    right = [(width * x, y) for x, y in side]
    crown = [(0.0, top - 0.062), (0.55 * width, top - 0.045), (0.95 * width, top + 0.07)]
    half = crown + right
    outline = half + [(-x, y) for x, y in reversed(half[1:])]
    return _smooth_outline(np.array(outline) + MIDLINE)


def _hair_front(speaker: SpeakerFactors, geometry: FaceGeometry) -> np.ndarray:
    """(n, 2): the hair over the forehead, up to a hairline that leaves the brows free."""
    width, top = geometry.half_width, CENTRE[1] - geometry.upper_height
    temple = geometry.eye_y - (0.02 if speaker.hair_style < 2 else -0.1)
    hairlines = {
        0: [(0.86, 0.13), (0.5, 0.085), (0.0, 0.075), (-0.5, 0.085), (-0.86, 0.13)],  # short
        1: [(0.86, 0.14), (0.55, 0.07), (0.1, 0.075), (-0.45, 0.125), (-0.86, 0.15)],  # swept to a side
        2: [(0.84, 0.16), (0.6, 0.13), (0.0, 0.115), (-0.6, 0.13), (-0.84, 0.16)],  # fringe
        3: [(0.84, 0.17), (0.45, 0.09), (0.12, 0.04), (-0.35, 0.10), (-0.84, 0.18)],  # parted
    }
    line = [(x * width, top + y) for x, y in hairlines[speaker.hair_style]]
    crown = [
        (-0.98 * width, top + 0.08),
        (-0.58 * width, top - 0.035),
        (0.0, top - 0.055),
        (0.58 * width, top - 0.035),
        (0.98 * width, top + 0.08),
    ]
    outline = [
        (1.05 * width, temple),
        (0.94 * width, temple),
        *line,
        (-0.94 * width, temple),
        (-1.05 * width, temple),
        *crown,
    ]
    return _smooth_outline(np.array(outline) + MIDLINE)


def _hair_streaks(side: int) -> np.ndarray:
    """(side, side) brightness of hair: strands along the vertical with a shine near the crown."""
    strands = np.random.default_rng(0).standard_normal((side, side)).astype(np.float32)
    strands = cv2.GaussianBlur(strands, (0, 0), sigmaX=0.006 * side, sigmaY=0.08 * side)
    y, x = _grid(side)
    shine = np.exp(-0.5 * ((y - 0.17) / 0.05) ** 2 - 0.5 * ((x - 0.42) / 0.16) ** 2)
    return 0.92 + 0.1 * strands / strands.std() + 0.35 * shine


def _paint(image: np.ndarray, points: np.ndarray, texture: np.ndarray) -> None:
    """Puts `texture` inside a polygon, in place, with smooth edges."""
    mask = np.zeros(image.shape[:2], np.uint8)
    fill(mask, points, 255)
    share = (mask / np.float32(255.0))[..., None]
    image += share * (texture - image)


def _ellipse(centre: tuple[float, float], half_width: float, half_height: float) -> np.ndarray:
    angle = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
    return np.stack([centre[0] + half_width * np.cos(angle), centre[1] + half_height * np.sin(angle)], axis=1)


def _smooth_outline(points: np.ndarray) -> np.ndarray:
    """(n, 2) corners -> (8 n, 2): the closed uniform quadratic B-spline that they control."""
    following = np.roll(points, -1, axis=0)
    start, end = 0.5 * (points + following), 0.5 * (following + np.roll(points, -2, axis=0))
    t = np.linspace(0.0, 1.0, 8, endpoint=False)[:, None, None]
    curve = (1 - t) ** 2 * start + 2 * t * (1 - t) * following + t**2 * end
    return curve.transpose(1, 0, 2).reshape(-1, 2)


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """(side, 1) y and (1, side) x of the pixel centres, in fractions of the side."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side
    return line[:, None], line[None, :]


def _frozen(layer: np.ndarray) -> np.ndarray:
    layer.setflags(write=False)
    return layer
