"""
Face crops to pixel values: the input of the visual tokenizer and of everything that stands on it.

Letters: B clips, T frames, H rows, W columns. torchvision is not used, and need not be installed.
"""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.image_utils import PILImageResampling, SizeDict, is_pil_image
from transformers.processing_utils import Unpack, VideosKwargs
from transformers.utils import PaddingStrategy

# From its own module: the top-level name is a placeholder which raises where torchvision is missing. The class itself
# only needs torchvision in the methods that are overridden here.
from transformers.video_processing_utils import BaseVideoProcessor

from .argument_checks import check_positive, check_whole
from .clip_windows import CLIP_LOADER, batch_feature, pad_clips, padding_strategy, tensor_type

INTERPOLATION_MODES = {
    PILImageResampling.NEAREST: "nearest-exact",
    PILImageResampling.BILINEAR: "bilinear",
    PILImageResampling.BICUBIC: "bicubic",
}
DTYPE_REFUSED = (
    "{name}: found dtype {dtype}, accepted are uint8 (0 to 255) and floating-point (0 to 1). Convert 8-bit pixels by "
    "`frames.astype('uint8')`."
)
# Frames are resized in pieces of about this many input values, since a long clip in high resolution does not fit twice.
RESIZE_CHUNK_VALUES = 2**25


class VisualVQVAEVideoProcessorKwargs(VideosKwargs, total=False):
    """
    Keyword arguments of [`VisualVQVAEVideoProcessor`], besides those of every video processor.

    frames_per_second (`int` or `float`): of the frames passed in; must be the processor's.
    padding (`bool` or `str`): `"max_length"`, `"longest"` or `False`, as in [`VisualVQVAEVideoProcessor`].
    """

    frames_per_second: Any  # a number of any kind; the processor's own check has the better message
    padding: bool | str | PaddingStrategy | None


class VisualVQVAEVideoProcessor(BaseVideoProcessor):
    r"""
    Turns frames of face crops into the pixel values that [`VisualVQVAEModel`] encodes: `pixel / 255 - 0.5` at the
    model's resolution. Frames that have this resolution already are not resampled.

    Called with `videos`, one clip or a list of clips of any lengths. A clip is an array or tensor (T, H, W, 3) or
    (T, 3, H, W), uint8 or floating-point in [0, 1], or a list of T frames (arrays or PIL images). Returns
    `pixel_values_videos`, float32 (B, T, 3, H, W), and `visual_attention_mask`, int64 (B, T), 1 real and 0 padding.

    Args:
        size (`{"height": int, "width": int}`): resolution of the model; frames of another aspect ratio are squeezed.
        frames_per_second (`int` or `float`): of the frames; a call that states another rate (here, as `fps`, or in
            `video_metadata`) is refused. No frame is ever dropped or repeated.
        num_frames (`int`): the model's window; shorter clips are padded to it.
        padding: `"max_length"` pads to `num_frames`, or to the longest clip where that is longer; `"longest"` to the
            longest clip; `False` returns lists. Nothing is cut off. Padded pixels are 0, a medium grey.
        resample: nearest, bilinear or bicubic, with antialiasing.
        do_resize, do_rescale, rescale_factor, do_normalize, image_mean, image_std: as in every video processor.
            `rescale_factor` is for 8-bit pixels; frames in [0, 1] are rescaled as what they would be in 8 bits.

    Raises:
        ValueError: another frame rate, other shapes or dtypes, values out of range, NaN, nothing at all, a file name.
    """

    resample = PILImageResampling.BILINEAR
    size = {"height": 96, "width": 96}  # noqa: RUF012 - transformers' convention
    do_resize = True
    do_convert_rgb = True
    do_rescale = True
    do_normalize = True
    image_mean = [0.5, 0.5, 0.5]  # noqa: RUF012
    image_std = [1.0, 1.0, 1.0]  # noqa: RUF012
    do_sample_frames = False
    num_frames = 50
    frames_per_second = 25
    padding = "max_length"
    valid_kwargs = VisualVQVAEVideoProcessorKwargs  # type: ignore[assignment]
    model_input_names = ["pixel_values_videos", "visual_attention_mask"]  # noqa: RUF012

    def __init__(self, **kwargs: Unpack[VisualVQVAEVideoProcessorKwargs]) -> None:
        super().__init__(**kwargs)  # type: ignore[misc]
        check_whole("num_frames", self.num_frames)
        for name in ("frames_per_second", "rescale_factor"):
            check_positive(name, getattr(self, name))
        for side in ("height", "width"):
            check_whole(f"size[{side!r}]", getattr(self.size, side, None))
        check_resample(self.resample)

    def preprocess(self, videos: Any, **kwargs: Any) -> BatchFeature:
        """Pixel values of one clip or of a list of clips; see the class."""
        self._check_rates(kwargs)
        kwargs.setdefault("return_tensors", "pt")
        # Before transformers, which has an error of its own for other types.
        padding_strategy(kwargs.get("padding"))
        tensor_type(kwargs["return_tensors"])
        return super().preprocess(videos, **kwargs)

    def _check_rates(self, kwargs: dict[str, Any]) -> None:
        metadata = kwargs.get("video_metadata")
        rates = [kwargs.get("frames_per_second"), kwargs.get("fps"), *metadata_rates(metadata)]
        for rate in rates:
            # Containers round rates such as 30000/1001; a thousandth shifts a window of 2 s by a twentieth of a frame.
            if rate is None:
                continue
            number = isinstance(rate, Real)
            if not number or not math.isclose(rate, self.frames_per_second, rel_tol=1e-4):
                raise ValueError(
                    f"frames_per_second: found {rate!r}, but this processor accepts {self.frames_per_second} only. "
                    f"{CLIP_LOADER} resamples a file by its time stamps."
                )
        for name in ("do_sample_frames", "do_center_crop", "do_pad"):
            if kwargs.get(name, getattr(self, name, None)):
                raise ValueError(
                    f"{name}: this processor keeps every frame as it is but for its size; {CLIP_LOADER} resamples "
                    "in time and crops the face, and `padding` pads in time."
                )

    def _decode_and_sample_videos(  # type: ignore[override]
        self, videos: Any, video_metadata: Any = None, **kwargs: Any
    ) -> tuple[list[Any], Any]:
        return split_videos(videos), video_metadata

    def _prepare_input_videos(
        self,
        videos: Any,
        do_convert_rgb: bool | None = True,
        input_data_format: Any = None,
        device: Any = None,
    ) -> list[Tensor]:
        frames = [
            check_frames(clip, f"videos[{i}]", bool(do_convert_rgb), input_data_format)
            for i, clip in enumerate(videos)
        ]
        return [clip.to(device) for clip in frames] if device is not None else frames

    def _preprocess(  # type: ignore[override]
        self,
        videos: list[Tensor],
        do_resize: bool,
        size: SizeDict,
        resample: Any,
        do_rescale: bool,
        rescale_factor: float,
        do_normalize: bool,
        image_mean: Sequence[float] | float,
        image_std: Sequence[float] | float,
        num_frames: int,
        padding: bool | str | PaddingStrategy,
        return_tensors: Any = None,
        **kwargs: Any,
    ) -> BatchFeature:
        clips = [resize_frames(clip, size, resample) for clip in videos] if do_resize else videos
        clips = [self._pixel_values(clip, do_rescale, rescale_factor) for clip in clips]
        if do_normalize:
            mean, std = (torch.tensor(v, device=clips[0].device).view(-1, 1, 1) for v in (image_mean, image_std))
            clips = [(clip - mean) / std for clip in clips]
        sizes = sorted({tuple(clip.shape[2:]) for clip in clips})
        if len(sizes) > 1 and padding_strategy(padding) is not PaddingStrategy.DO_NOT_PAD:
            raise ValueError(
                f"videos: found frames of sizes {sizes}, which do not make one "
                "batch. Leave `do_resize` on, or pass `padding=False`."
            )
        values, mask = pad_clips(clips, window=num_frames, padding=padding)
        return batch_feature({"pixel_values_videos": values, "visual_attention_mask": mask}, return_tensors)

    @staticmethod
    def _pixel_values(clip: Tensor, do_rescale: bool, rescale_factor: float) -> Tensor:
        """Frames as float32, in units of `1 / rescale_factor` 8-bit steps."""
        scale = rescale_factor if do_rescale else 1.0
        if do_rescale and clip.is_floating_point():
            scale = 255 * rescale_factor
        return clip.float() * scale if scale != 1 else clip.float()


def metadata_rates(metadata: Any) -> list[float]:
    """The frame rates that `video_metadata`, an entry or (nested) list of entries, states."""
    if metadata is None:
        return []
    if isinstance(metadata, (list, tuple)):
        return [rate for entry in metadata for rate in metadata_rates(entry)]
    rate = metadata.get("fps") if isinstance(metadata, dict) else getattr(metadata, "fps", None)
    return [] if rate is None else [rate]


def split_videos(videos: Any) -> list[Any]:
    """One clip, or several, as a list of clips: an array of 5 axes, or a list whose entries are no single frames."""
    if isinstance(videos, (np.ndarray, Tensor)):
        if videos.ndim != 5:
            return [videos]
        videos = list(videos)
    if not isinstance(videos, (list, tuple)):
        raise ValueError(
            f"videos: found {type(videos).__name__}, accepted are frames (T, H, W, 3) or (T, 3, H, W), or a list of such "
            f"clips. {CLIP_LOADER} opens a file; its result has `frames`."
        )
    if not videos:
        raise ValueError("videos: found an empty list, accepted is at least one clip of at least one frame.")
    return [videos] if is_frame(videos[0]) else list(videos)


def is_frame(entry: Any) -> bool:
    """Whether a list entry is a single image rather than a clip."""
    return is_pil_image(entry) or (isinstance(entry, (np.ndarray, Tensor)) and entry.ndim == 3)


def check_frames(clip: Any, name: str, convert_rgb: bool = True, input_data_format: Any = None) -> Tensor:
    """One clip as uint8 or float32 (T, 3, H, W), or a ValueError that says what is wrong with it."""
    frames = stack_frames(clip, name, convert_rgb)
    shape = tuple(frames.shape)
    if frames.ndim != 4 or 0 in shape:
        raise ValueError(
            f"{name}: found shape {shape}, accepted is a clip of at least one frame, (T, H, W, 3) or (T, 3, H, W)."
        )
    axis = channel_axis(shape, input_data_format)
    if axis is None:
        raise ValueError(
            f"{name}: found shape {shape}, accepted are three colour channels, (T, H, W, 3) or (T, 3, H, W). Repeat a "
            "grey channel three times, and leave a transparency channel out: `frames[..., :3]`."
        )
    if frames.dtype != torch.uint8:
        frames = check_float_frames(frames, name)
    return frames if axis == 1 else frames.permute(0, 3, 1, 2)


def stack_frames(clip: Any, name: str, convert_rgb: bool) -> Tensor:
    """A clip of any accepted kind as one tensor, on the CPU or wherever it was; shape and dtype are not checked yet."""
    if isinstance(clip, Tensor):
        return clip.detach()
    if isinstance(clip, (list, tuple)) and clip and all(is_frame(frame) for frame in clip):
        images = [
            np.asarray(f.convert("RGB") if convert_rgb else f) if is_pil_image(f) else np.asarray(f) for f in clip
        ]
        shapes = sorted({image.shape for image in images})
        if len(shapes) > 1:
            raise ValueError(f"{name}: found frames of different shapes {shapes}, accepted is one shape for a clip.")
        clip = np.stack(images)
    if isinstance(clip, (list, tuple)) and not clip:
        raise ValueError(f"{name}: found an empty list, accepted is a clip of at least one frame.")
    if not isinstance(clip, np.ndarray):
        raise ValueError(
            f"{name}: found {type(clip).__name__}, accepted are frames (T, H, W, 3) or (T, 3, H, W) as array, tensor or "
            f"list of images. {CLIP_LOADER} opens a file; its result has `frames`."
        )
    if clip.dtype != np.uint8 and clip.dtype.kind != "f":
        raise ValueError(DTYPE_REFUSED.format(name=name, dtype=clip.dtype))
    return torch.from_numpy(np.require(clip, dtype=clip.dtype.newbyteorder("="), requirements=["C", "W"]))


def channel_axis(shape: tuple[int, ...], input_data_format: Any = None) -> int | None:
    """The axis, 1 or 3, on which the three colours of (T, ?, ?, ?) lie; the last where both could be meant."""
    formats = {"channels_last": (3,), "channels_first": (1,), None: (3, 1)}
    stated = getattr(input_data_format, "value", input_data_format)
    return next((axis for axis in formats.get(stated, ()) if shape[axis] == 3), None)


def check_float_frames(frames: Tensor, name: str) -> Tensor:
    """Frames which are not uint8, as float32 in [0, 1]."""
    if not frames.is_floating_point():
        raise ValueError(DTYPE_REFUSED.format(name=name, dtype=str(frames.dtype).removeprefix("torch.")))
    frames = frames.float()
    low, high = frames.aminmax()
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError(
            f"{name}: found NaN or infinite pixels, accepted are finite ones; check how they were decoded."
        )
    # A resampled image may leave the interval by a rounding error.
    if low < -1e-4 or high > 1 + 1e-4:
        raise ValueError(
            f"{name}: found floating-point pixels from {float(low):.4g} to {float(high):.4g}, accepted are 0 to 1. Divide "
            "8-bit pixels by 255 or pass them as uint8; do not normalise before the processor."
        )
    return frames


def resize_frames(frames: Tensor, size: SizeDict, resample: Any) -> Tensor:
    """Frames (T, 3, H, W) -> (T, 3, size.height, size.width) of the same dtype; the same object where the size fits."""
    if size is None or not size.height or not size.width:
        raise ValueError(f"size={size}: accepted is {{'height': pixels, 'width': pixels}}, the model's resolution.")
    target = (size.height, size.width)
    if tuple(frames.shape[2:]) == target:
        return frames
    mode = check_resample(resample)
    antialias = mode != "nearest-exact"
    chunk = max(1, RESIZE_CHUNK_VALUES // frames[0].numel())
    pieces = [
        torch.nn.functional.interpolate(piece, target, mode=mode, antialias=antialias) for piece in frames.split(chunk)
    ]
    resized = torch.cat(pieces)
    return resized.clamp(0, 1) if resized.is_floating_point() else resized  # bicubic overshoots


def check_resample(resample: Any) -> str:
    """The interpolation of torch that stands for a filter of PIL."""
    mode = INTERPOLATION_MODES.get(resample)
    if mode is None:
        raise ValueError(f"resample={resample!r}: accepted are {', '.join(m.name for m in INTERPOLATION_MODES)}.")
    return mode
