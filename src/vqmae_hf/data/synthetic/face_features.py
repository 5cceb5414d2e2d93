"""The features of a synthetic face that move or express something: folds of the skin, brows, eyes and mouth.

All functions draw on a layer (side, side, 4) of `face_layers` at rest, in place; lengths are fractions of its side.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

from vqmae_hf.data.synthetic.face_layers import (
    CENTRE,
    MIDLINE,
    SUBPIXEL_BITS,
    FaceGeometry,
    Palette,
    fill,
    mix,
    scalar,
    stroke,
)
from vqmae_hf.data.synthetic.factors import ClipFactors

_PUPIL = np.array([16.0, 12.0, 12.0])
_GLINT = np.array([250.0, 250.0, 250.0])
_LASHES = np.array([34.0, 24.0, 22.0])
_MOUTH_HOLE = np.array([62.0, 20.0, 24.0])
_TEETH = np.array([236.0, 230.0, 220.0])
_TONGUE = np.array([172.0, 82.0, 84.0])
_IRIS_RADIUS = 0.028
_EYE_PATCH = np.array([0.16, 0.1])  # width and height around an eye
_CORNER_LIFT = 0.04  # of the mouth corners, at a full smile
_BROW_LIFT = 0.036  # of the inner ends of the brows, fully raised
_POINTS_PER_LID, _POINTS_PER_LIP = 17, 25


class MouthCurves(NamedTuple):
    """Outlines of the mouth: x and heights y, each (25,), from one corner to the other."""

    x: np.ndarray
    outer_top: np.ndarray
    inner_top: np.ndarray
    line: np.ndarray  # where closed lips would meet
    inner_bottom: np.ndarray
    outer_bottom: np.ndarray


def mouth_curves(
    geometry: FaceGeometry, clip: ClipFactors, opening: float, spread: float, mouth_y: float
) -> MouthCurves:
    """Lips around `mouth_y`: an opening lowers the lower lip most, a smile lifts and parts the corners."""
    across = np.linspace(-1.0, 1.0, _POINTS_PER_LIP)
    bow = 1.0 - across**2
    smile, pout = max(0.0, clip.mouth_corner), 1.0 + 0.25 * max(0.0, -spread)
    half_width = geometry.mouth_half_width * (1.0 + 0.13 * spread + 0.14 * smile - 0.06 * opening)
    line = mouth_y - _CORNER_LIFT * clip.mouth_corner * (np.abs(across) ** 1.7 - 0.35)
    inner_top = line - 0.014 * opening * bow
    inner_bottom = line + 0.08 * opening * bow**0.8
    cupid = 1.0 - 0.3 * np.exp(-((across / 0.16) ** 2))
    return MouthCurves(
        x=CENTRE[0] + half_width * across,
        outer_top=inner_top - geometry.lip_height * pout * cupid * bow**0.6,
        inner_top=inner_top,
        line=line,
        inner_bottom=inner_bottom,
        outer_bottom=inner_bottom + 1.25 * geometry.lip_height * pout * bow**0.7,
    )


def draw_mouth(layer: np.ndarray, curves: MouthCurves, lips: np.ndarray) -> None:
    """Lips, and between them the dark of the mouth with tongue and upper teeth."""
    x, outer_top, inner_top, line, inner_bottom, outer_bottom = (len(layer) * curve for curve in curves)

    def between(upper: np.ndarray, lower: np.ndarray) -> np.ndarray:
        return np.concatenate([_points(x, upper), _points(x, lower)[::-1]])

    bow = np.linspace(-1.0, 1.0, len(x))
    bow = 1.0 - bow**2
    fill(layer, between(outer_top, line), 0.86 * lips)
    fill(layer, between(line, outer_bottom), lips)
    gloss = _points(x, 0.35 * inner_bottom + 0.65 * outer_bottom)
    stroke(layer, gloss[9:15], np.minimum(1.12 * lips + 8.0, 255.0), 2)
    gap = inner_bottom - inner_top
    if gap.max() > 1.0:
        fill(layer, between(inner_top, inner_bottom), _MOUTH_HOLE)
        fill(layer, between(inner_bottom - 0.25 * gap * bow, inner_bottom), _TONGUE)
        teeth = np.minimum(0.28 * gap, 0.017 * len(layer)) * bow**0.3
        fill(layer, between(inner_top, inner_top + teeth), _TEETH)
    stroke(layer, _points(x, inner_top), 0.45 * lips, 2)


def draw_eye(
    layer: np.ndarray,
    geometry: FaceGeometry,
    palette: Palette,
    clip: ClipFactors,
    *,
    mirror: int,
    opening: float,
    gaze: tuple[float, float],
) -> None:
    """One eye (`mirror` -1 on the left of the picture, 1 on the right), `opening` 0 closed to 1 as the expression has it."""
    side = len(layer)
    centre = np.array([CENTRE[0] + mirror * geometry.eye_x, geometry.eye_y])
    upper, lower = _lids(geometry, clip, mirror, opening)
    upper, lower = (upper + centre) * side, (lower + centre) * side
    corner = np.floor((centre - 0.5 * _EYE_PATCH) * side).astype(int)
    width, height = np.round(_EYE_PATCH * side).astype(int)
    patch = layer[corner[1] : corner[1] + height, corner[0] : corner[0] + width]
    pupil = (centre + np.array([0.016, 0.008]) * gaze + np.array([0.0, 0.004])) * side - corner
    mask = np.zeros((height, width), np.uint8)
    fill(mask, np.concatenate([upper, lower[::-1]]) - corner, 255)
    patch[...] = mix(_eyeball(palette, pupil, width, height, _IRIS_RADIUS * side), patch, mask)
    stroke(layer, lower, 0.5 * palette.skin, 1)
    stroke(layer, upper - np.array([0.0, 0.016 * side]), 0.55 * palette.skin, 1)
    stroke(layer, upper, np.minimum(_LASHES, 0.4 * palette.skin), max(2, round(0.012 * side)))


def draw_brow(
    layer: np.ndarray,
    geometry: FaceGeometry,
    palette: Palette,
    clip: ClipFactors,
    *,
    mirror: int,
    thickness: float,
) -> None:
    """One brow; raising its inner end lowers the outer one, knitting also draws it to the middle."""
    height = geometry.brow_y - 0.012 * max(0.0, clip.mouth_corner)
    knit = max(0.0, -clip.brow_inner)
    spine = _curve_through(
        (geometry.eye_x - 0.066 - 0.012 * knit, height - _BROW_LIFT * clip.brow_inner),
        (geometry.eye_x + 0.008, height - 0.026 - 0.004 * clip.brow_inner),
        (geometry.eye_x + 0.076, height + 0.006 + 0.016 * clip.brow_inner),
    )
    taper = np.interp(np.linspace(0.0, 1.0, len(spine)), [0.0, 0.15, 0.6, 1.0], [0.8, 1.0, 0.8, 0.15])
    half = _points(np.zeros_like(taper), 0.013 * thickness * taper)
    outline = np.concatenate([spine - half, (spine + half)[::-1]]) * np.array([mirror, 1.0]) + MIDLINE
    fill(layer, outline * len(layer), palette.brow)


def crease_skin(layer: np.ndarray, geometry: FaceGeometry, clip: ClipFactors) -> None:
    """The folds that go with the expression: knit or lifted brows, the cheeks of a smile or of drawn-down corners."""
    side = len(layer)
    folds = np.zeros((side, side), np.float32)

    def fold(points: np.ndarray, depth: float) -> None:
        line = np.zeros_like(folds)
        stroke(line, (points + MIDLINE) * side, depth, max(2, round(0.012 * side)))
        np.maximum(folds, line, out=folds)

    brow_y, nose_y, mouth_width = geometry.brow_y, geometry.nose_tip_y, geometry.mouth_half_width
    for mirror in (-1, 1):
        frown = np.array([(mirror * 0.018, brow_y - 0.05), (mirror * 0.014, brow_y + 0.015)])
        fold(frown, 0.5 * max(0.0, -clip.brow_inner))
        cheek = _curve_through(
            (mirror * 1.35 * geometry.nose_half_width, nose_y - 0.005),
            (mirror * 1.14 * mouth_width, nose_y + 0.04),
            (mirror * 1.3 * mouth_width, geometry.mouth_y - 0.015),
        )
        fold(cheek, 0.32 * abs(clip.mouth_corner))
    for rise in (0.065, 0.09):
        y = brow_y - rise
        forehead = _curve_through((-0.075, y + 0.012), (0.0, y - 0.012), (0.075, y + 0.012))
        fold(forehead, 0.35 * max(0.0, clip.brow_inner))
    shade = 1.0 - 0.5 * cv2.GaussianBlur(folds, (0, 0), 0.008 * side)
    layer[..., :3] = layer[..., :3] * shade[..., None]


def _lids(geometry: FaceGeometry, clip: ClipFactors, mirror: int, opening: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges of the upper and the lower lid, (17, 2) each, around the middle of the eye."""
    inward = np.linspace(1.0, -1.0, _POINTS_PER_LID)  # from the inner corner to the outer
    arch = geometry.eye_half_height * np.clip(1.0 - inward**2, 0.0, None) ** 0.75
    smile = max(0.0, clip.mouth_corner)
    lower = (0.62 - 0.22 * smile) * arch
    # Knit brows press on the inner half of the upper lid, lifted ones draw it up.
    slant = 1.0 + 0.3 * np.clip(clip.brow_inner, -1.0, 1.0) * inward
    upper = -clip.eye_aperture * (1.0 - 0.12 * smile) * slant * arch
    x = -mirror * inward * geometry.eye_half_width
    return _points(x, lower + (upper - lower) * opening), _points(x, lower)


def _eyeball(palette: Palette, pupil: np.ndarray, width: int, height: int, radius: float) -> np.ndarray:
    """(height, width, 4): white, iris with a dark rim, pupil, and the glint of the window."""
    eyeball = np.empty((height, width, 4), np.uint8)
    eyeball[:] = scalar(palette.sclera)
    rim = 0.45 * palette.iris
    for size, shift, color in ((1.0, 0.0, rim), (0.82, 0.0, palette.iris), (0.45, 0.0, _PUPIL), (0.22, -0.35, _GLINT)):
        centre = np.rint((pupil + shift * radius) * (1 << SUBPIXEL_BITS)).astype(int).tolist()
        fixed_radius = round(size * radius * (1 << SUBPIXEL_BITS))
        cv2.circle(eyeball, centre, fixed_radius, scalar(color), -1, cv2.LINE_AA, SUBPIXEL_BITS)
    return eyeball


def _curve_through(start: tuple[float, float], middle: tuple[float, float], end: tuple[float, float]) -> np.ndarray:
    """(13, 2) points of the quadratic Bezier curve that passes through `middle` half-way."""
    a, m, b = np.array(start), np.array(middle), np.array(end)
    control = 2.0 * m - 0.5 * (a + b)
    t = np.linspace(0.0, 1.0, 13)[:, None]
    return (1 - t) ** 2 * a + 2 * t * (1 - t) * control + t**2 * b


def _points(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) and (n,) -> (n, 2)."""
    return np.stack([x, y], axis=1)
