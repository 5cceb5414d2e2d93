"""Faces damaged on purpose, where it is known what was there: noise or an occlusion on the mouth or the eyes ([MD]).

Letters: T frames, H x W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

# Top, bottom, left and right of a face crop of `load_clip`, as shares of its height and width.
FACE_REGIONS = {"mouth": (0.62, 0.94, 0.22, 0.78), "eyes": (0.2, 0.5, 0.1, 0.9)}
CORRUPTIONS = ("noise", "occlusion")
OCCLUSION_GREY = 128

Box = tuple[float, float, float, float]


class DamagedFace(NamedTuple):
    """`frames` (T, H, W, 3) uint8 as damaged, and `damage` (T, H, W) bool, True where they are."""

    frames: np.ndarray
    damage: np.ndarray


@dataclass(frozen=True)
class FaceCorruption:
    """
    What is done to a face sequence.

    Args:
        kind: "noise" adds Gaussian noise to every pixel of the region; "occlusion" makes it grey.
        region: "mouth" or "eyes", or a box (top, bottom, left, right) in shares of the picture.
        noise_level: standard deviation of the noise, of a pixel range of 1.
        span: the part of the clip that is damaged, begin and end as shares of its frames.

    Raises:
        ValueError: anything out of its range.
    """

    kind: Literal["noise", "occlusion"] = "occlusion"
    region: str | Sequence[float] = "mouth"
    noise_level: float = 0.4
    span: tuple[float, float] = (0.2, 0.8)

    def __post_init__(self) -> None:
        if self.kind not in CORRUPTIONS:
            raise ValueError(f"kind={self.kind!r} is unknown; {list(CORRUPTIONS)} are accepted.")
        region_box(self.region)
        if not self.noise_level > 0:
            raise ValueError(f"noise_level={self.noise_level} must be above 0; 0.4 hides a mouth.")
        if len(self.span) != 2 or not 0 <= self.span[0] < self.span[1] <= 1:
            raise ValueError(f"span={self.span} must be two shares of the clip, such as (0.2, 0.8), in this order.")

    def apply(self, frames: np.ndarray, seed: int = 0) -> DamagedFace:
        """Damage the frames (T, H, W, 3) uint8 of one clip; `seed` is that of the noise."""
        T, H, W, _ = frames.shape
        damage = np.zeros((T, H, W), dtype=bool)
        first, last = (round(share * T) for share in self.span)
        damage[first : max(last, first + 1)] = region_pixels(self.region, H, W)
        damaged = frames.copy()
        if self.kind == "occlusion":
            damaged[damage] = OCCLUSION_GREY
        else:
            noise = np.random.default_rng(seed).normal(0, 255 * self.noise_level, (int(damage.sum()), 3))
            damaged[damage] = (frames[damage] + noise).round().clip(0, 255).astype(np.uint8)
        return DamagedFace(damaged, damage)


def region_box(region: str | Sequence[float]) -> Box:
    """
    Top, bottom, left and right of a region, as shares of the picture.

    Raises:
        ValueError: an unknown name, or numbers that are no box.
    """
    if isinstance(region, str):
        if region not in FACE_REGIONS:
            raise ValueError(
                f"region={region!r} is unknown; {list(FACE_REGIONS)} are accepted, or a box (top, bottom, left, right) in "
                "shares of the picture."
            )
        return FACE_REGIONS[region]
    box = tuple(float(share) for share in region)
    if len(box) != 4 or not (0 <= box[0] < box[1] <= 1 and 0 <= box[2] < box[3] <= 1):
        raise ValueError(f"region={tuple(region)} must be a box (top, bottom, left, right), in shares of the picture.")
    return box  # type: ignore[return-value]


def region_pixels(region: str | Sequence[float], height: int, width: int) -> np.ndarray:
    """(height, width) bool, True inside the region; at least one pixel."""
    top, bottom, left, right = region_box(region)
    pixels = np.zeros((height, width), dtype=bool)
    rows = slice(int(top * height), max(round(bottom * height), int(top * height) + 1))
    columns = slice(int(left * width), max(round(right * width), int(left * width) + 1))
    pixels[rows, columns] = True
    return pixels
