"""A real face to paste into pictures: Grace Hopper's portrait, public domain, which comes with matplotlib."""

from functools import cache

import cv2
import numpy as np
from matplotlib import cbook

# Where the portrait's face is, x, y, side, as a share of the pasted square.
FACE_IN_PORTRAIT = (0.26, 0.22, 0.53)


@cache
def portrait(side: int) -> np.ndarray:
    """(side, side, 3) uint8 head and shoulders."""
    image = cv2.imread(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    square = np.ascontiguousarray(image[20:460, 30:470, ::-1])
    return cv2.resize(square, (side, side), interpolation=cv2.INTER_AREA)


def picture_with_faces(places: list[tuple[int, int, int]], height: int = 240, width: int = 320) -> np.ndarray:
    """(height, width, 3) uint8 with a portrait at each (x, y, side), on a smooth background."""
    ramp = np.linspace(90, 140, width)
    picture = np.broadcast_to(ramp[None, :, None], (height, width, 3)).astype(np.uint8)
    for x, y, side in places:
        picture[y : y + side, x : x + side] = portrait(side)
    return picture


def face_box(x: int, y: int, side: int) -> np.ndarray:
    """(4,) where the face of a portrait pasted at (x, y, side) is: x, y, side, side."""
    dx, dy, share = FACE_IN_PORTRAIT
    return np.array([x + dx * side, y + dy * side, share * side, share * side])


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of (..., 4) boxes x, y, width, height."""
    low = np.maximum(first[..., :2], second[..., :2])
    high = np.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    shared = np.clip(high - low, 0, None).prod(-1)
    return shared / (first[..., 2:].prod(-1) + second[..., 2:].prod(-1) - shared)
