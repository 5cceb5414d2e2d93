"""
A clip's waveform and frames to what a VQ-MAE takes: spectra and pixel values which keep step with each other.

Letters: B clips, W windows, T frames, S spectra.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from transformers import BatchFeature, PreTrainedConfig, ProcessorMixin
from transformers.processing_utils import AudioKwargs, ProcessingKwargs, Unpack

# From its own module: the top-level name is a placeholder which raises where torchvision is missing.
from transformers.video_processing_utils import BaseVideoProcessor

from .argument_checks import check_positive, check_whole
from .clip_windows import CLIP_LOADER, batch_feature, fit_length, gather_windows, plan_windows, pool_windows
from .feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from .video_processing_visual_vqvae import VisualVQVAEVideoProcessor, VisualVQVAEVideoProcessorKwargs


class VQMAEProcessorKwargs(ProcessingKwargs, total=False):
    """Keyword arguments of [`VQMAEProcessor`]: those of its two parts."""

    _defaults = {}  # type: ignore[misc]  # noqa: RUF012 - transformers before 5.23 looks for it
    audio_kwargs: AudioKwargs
    videos_kwargs: VisualVQVAEVideoProcessorKwargs  # type: ignore[misc]


class VQMAEProcessor(ProcessorMixin):
    r"""
    Prepares clips for a [`VQMAEModel`] and its heads: an [`AudioVQVAEFeatureExtractor`] for the sound and a
    [`VisualVQVAEVideoProcessor`] for the face crops, with a whole number of spectra for each frame (two, in VQ-MAE).

    ```python
    inputs = processor(audio=clip.waveform, videos=clip.frames, sampling_rate=16000, frames_per_second=25)
    windows = processor.cut_windows(inputs)                  # (W, 100, 513) and (W, 50, 3, 96, 96)
    index = windows.pop("window_clip_index")
    scores = processor.pool_windows(model(**windows).logits.softmax(-1), index)
    ```

    Args:
        feature_extractor: [`AudioVQVAEFeatureExtractor`].
        video_processor: [`VisualVQVAEVideoProcessor`].

    Raises:
        ValueError: hop length, sampling rate and frame rate do not give a whole number of spectra for each frame, or the
            windows of the two parts differ in length.
    """

    valid_processor_kwargs = VQMAEProcessorKwargs  # type: ignore[assignment]
    # What no configuration states.
    default_frames_per_second: ClassVar[int] = 25
    default_image_size: ClassVar[int] = 96  # pixels a side, where a model has no visual tokenizer
    default_spectra_per_frame: ClassVar[int] = 2  # where a model has one modality

    def __init__(
        self,
        feature_extractor: AudioVQVAEFeatureExtractor | None = None,
        video_processor: VisualVQVAEVideoProcessor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(feature_extractor, video_processor, **kwargs)
        spectra_per_frame = self.spectra_per_frame
        num_spectra, num_frames = self.feature_extractor.num_spectra, self.video_processor.num_frames
        if num_spectra != spectra_per_frame * num_frames:
            raise ValueError(
                f"num_spectra={num_spectra} and num_frames={num_frames} are windows of different length at "
                f"{spectra_per_frame} spectra per frame; set num_spectra={spectra_per_frame * num_frames}."
            )

    def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
        """As in the base class, whose check of a video processor only works where torchvision is installed."""
        if argument_name != "video_processor":
            return super().check_argument_for_proper_class(argument_name, argument)
        if not isinstance(argument, BaseVideoProcessor):
            raise TypeError(
                f"Received a {type(argument).__name__} for argument video_processor, but a VisualVQVAEVideoProcessor "
                "was expected."
            )
        return BaseVideoProcessor

    @property
    def spectra_per_frame(self) -> int:
        """Spectra which belong to one frame: 2 at 16000 Hz, 25 frames per second and a hop of 320 samples."""
        extractor, rate = self.feature_extractor, self.video_processor.frames_per_second
        spectra = max(1, round(extractor.sampling_rate / (rate * extractor.hop_length)))
        hop_length = round(extractor.sampling_rate / (rate * spectra))
        if extractor.hop_length != hop_length:
            raise ValueError(
                f"hop_length={extractor.hop_length} gives no whole number of spectra per frame at "
                f"{extractor.sampling_rate} Hz and {rate} frames per second; set hop_length={hop_length} for {spectra}."
            )
        return spectra

    def clip_options(self, modalities: Sequence[str] = ("audio", "visual")) -> dict[str, Any]:
        """
        Arguments of the clip loader that give what this processor takes, and open clips as those of training were.

        Silence at the ends is only cut off where sound is alone: pictures would no longer be in step with it.

        Args:
            modalities: of the clip that the model is given, "audio", "visual" or both.

        Returns:
            `frames_per_second` and `sampling_rate` in Hz, `face_size` in pixels, `modalities`, and `trim_silence_db` where
            the clips of training were trimmed.
        """
        options: dict[str, Any] = {
            "frames_per_second": self.video_processor.frames_per_second,
            "sampling_rate": self.feature_extractor.sampling_rate,
            "face_size": self.video_processor.size["height"],
            "modalities": tuple(modalities),
        }
        trim_silence_db = self.feature_extractor.trim_silence_db
        if trim_silence_db is not None and "visual" not in options["modalities"]:
            options["trim_silence_db"] = trim_silence_db
        return options

    @classmethod
    def from_model_config(
        cls,
        config: PreTrainedConfig,
        *,
        frames_per_second: int | float | None = None,
        sampling_rate: int = 16000,
    ) -> "VQMAEProcessor":
        """
        The processor that fits a model: its window, its resolution, its spectra per frame.

        Args:
            config: a [`VQMAEConfig`], new or of a checkpoint. Sizes which it does not state, those of a modality or of a
                tokenizer it does not have, are the ones of VQ-MAE.
            frames_per_second, sampling_rate: of the clips which the model is for; no configuration states them. The frame
                rate is that of the paper's model if None: 25.
        """
        frames_per_second = cls.default_frames_per_second if frames_per_second is None else frames_per_second
        check_positive("frames_per_second", frames_per_second)
        check_whole("sampling_rate", sampling_rate)
        both = {"audio", "visual"} <= set(config.modalities)
        spectra_per_frame = cls.default_spectra_per_frame
        if both and config.audio_num_spectra % config.visual_num_frames == 0:
            spectra_per_frame = config.audio_num_spectra // config.visual_num_frames
        num_frames = config.visual_num_frames
        if "visual" not in config.modalities:
            num_frames = config.audio_num_spectra // spectra_per_frame
        audio, visual = config.audio_tokenizer_config, config.visual_tokenizer_config
        extractor = AudioVQVAEFeatureExtractor(
            sampling_rate=sampling_rate,
            n_fft=1024 if audio is None else 2 * (audio.num_frequency_bins - 1),
            hop_length=round(sampling_rate / (frames_per_second * spectra_per_frame)),
            num_spectra=config.audio_num_spectra if "audio" in config.modalities else spectra_per_frame * num_frames,
        )
        side = cls.default_image_size if visual is None else visual.image_size
        video_processor = VisualVQVAEVideoProcessor(
            size={"height": side, "width": side}, frames_per_second=frames_per_second, num_frames=num_frames
        )
        return cls(extractor, video_processor)

    def __call__(self, videos: Any = None, audio: Any = None, **kwargs: Unpack[VQMAEProcessorKwargs]) -> BatchFeature:
        """
        Model inputs of one clip or of a list of clips, with sound, frames, or both.

        With both, frames lead: each clip has exactly `spectra_per_frame` spectra for each of its frames. Spectra beyond
        the last frame are left out; missing ones are zero, and 0 in the mask. The waveform is divided by the peak of
        the whole clip, before anything is cut.

        Args:
            videos: frames (T, H, W, 3) or (T, 3, H, W), uint8 or in [0, 1]; or a list of such clips.
            audio: waveform (N,) of floating-point samples; or a list of such clips.
            sampling_rate, frames_per_second: of these clips; checked if given, otherwise taken to be the model's. Also as
                `audio_kwargs={"sampling_rate": ...}`, `videos_kwargs={"frames_per_second": ...}`, or as `fps` in
                `video_metadata`.
            padding: `"max_length"` (default) pads to the model's window, or to the longest clip where that is longer;
                `"longest"` to the longest clip; `False` returns lists.
            return_tensors: `"pt"` (default) or `"np"`.

        Returns:
            `audio_values` (B, S, 513), `audio_attention_mask` (B, S), `pixel_values_videos` (B, T, 3, 96, 96),
            `visual_attention_mask` (B, T): those of the modalities that were given.

        Raises:
            ValueError: what either part refuses, neither modality, or different numbers of clips.
        """
        others = sorted({"images", "text", "audios", "video"} & set(kwargs))
        if others or (videos is None and audio is None):
            raise ValueError(
                f"found {', '.join(others) or 'neither `videos` nor `audio`'}, accepted by {type(self).__name__} are "
                f"`videos` (frames) and `audio` (waveforms), one of them or both. {CLIP_LOADER} makes both from a file."
            )
        valid: Any = self.valid_processor_kwargs
        merged = self._merge_kwargs(valid, tokenizer_init_kwargs={}, **kwargs)
        return_tensors = merged["videos_kwargs"].pop("return_tensors", "pt")
        return_tensors = merged["audio_kwargs"].pop("return_tensors", return_tensors)
        features: dict[str, Any] = {}
        if videos is not None:
            features.update(self.video_processor(videos, **merged["videos_kwargs"]))
        if audio is not None:
            features.update(self.feature_extractor(audio, **merged["audio_kwargs"]))
        if videos is not None and audio is not None:
            self._fit_spectra_to_frames(features)
        return batch_feature(features, return_tensors)

    def _fit_spectra_to_frames(self, features: dict[str, Any]) -> None:
        """Trim or continue the spectra of each clip to `spectra_per_frame` times its frames, in place."""
        frame_mask = features["visual_attention_mask"]
        names = [name for name in ("audio_values", "audio_attention_mask") if name in features]
        if len(frame_mask) != len(features["audio_values"]):
            raise ValueError(
                f"found {len(frame_mask)} clips in `videos` and {len(features['audio_values'])} in `audio`, accepted is "
                "the same number; process clips that lack a modality on their own."
            )
        for name in names:
            values = features[name]
            if isinstance(values, Tensor):
                features[name] = self._fit(values, frame_mask)
            else:
                features[name] = [self._fit(v[None], m[None])[0] for v, m in zip(values, frame_mask, strict=True)]

    def _fit(self, values: Tensor, frame_mask: Tensor) -> Tensor:
        """Values (B, S, ...) of spectra -> (B, spectra_per_frame * T, ...), zero where `frame_mask` (B, T) is."""
        keep = frame_mask.repeat_interleave(self.spectra_per_frame, dim=1).to(values.device, torch.bool)
        values = fit_length(values, keep.shape[1])
        return values.masked_fill(~keep.view(*keep.shape, *[1] * (values.ndim - 2)), 0)

    def cut_windows(self, inputs: Mapping[str, Any], stride: int | None = None) -> BatchFeature:
        """
        Cut clips into windows of the model's length, which together cover every frame.

        Windows lie side by side; the last one is moved back to end with its clip, so that no window is mostly padding. A
        clip shorter than a window gives one, padded.

        Args:
            inputs: what a call returned, padded, as tensors or arrays; masks may be missing.
            stride: frames (also where there is only sound) from one window to the next; the window's length if None.

        Returns:
            The same entries with W windows in place of B clips, `audio_values` (W, 100, 513), `pixel_values_videos`
            (W, 50, 3, 96, 96), masks, as tensors; and `window_clip_index` (W,) int64, the clip each window is from.

        Raises:
            ValueError: something else than a call returns, masks or numbers of clips that do not fit, a stride that leaves
                frames out.
        """
        tensors = self._padded_inputs(inputs)
        window = self.video_processor.num_frames
        plan = plan_windows(self._clip_frames(tensors), window, window if stride is None else stride)
        windows = {
            name: gather_windows(values, plan, window, self.spectra_per_frame if name.startswith("audio") else 1)
            for name, values in tensors.items()
        }
        return BatchFeature({**windows, "window_clip_index": plan.clip_index})

    def _padded_inputs(self, inputs: Any) -> dict[str, Tensor]:
        """What a call returned, as tensors, with masks for all, checked."""
        found = sorted(map(str, inputs)) if isinstance(inputs, Mapping) else type(inputs).__name__
        refused = f"inputs: found {found}, accepted is what {type(self).__name__} returns, padded: "
        tensors: dict[str, Tensor] = {}
        for values, mask, axes in (
            ("audio_values", "audio_attention_mask", 3),
            ("pixel_values_videos", "visual_attention_mask", 5),
        ):
            if not isinstance(inputs, Mapping) or values not in inputs:
                continue
            try:
                tensors[values] = torch.as_tensor(inputs[values])
                shape = tensors[values].shape
                tensors[mask] = torch.as_tensor(inputs.get(mask, torch.ones(shape[:2], dtype=torch.long)))
            except (TypeError, ValueError) as error:
                raise ValueError(f"{refused}{values} and {mask} as tensors or arrays ({error}).") from error
            if len(shape) != axes or 0 in shape:
                raise ValueError(f"{refused}{values} of {axes} axes, none of them empty, found {tuple(shape)}.")
            if tensors[mask].shape != shape[:2] or not ((tensors[mask] == 0) | (tensors[mask] == 1)).all():
                raise ValueError(
                    f"{refused}{mask} of shape {tuple(shape[:2])} with 1 for real steps and 0 for padding, found "
                    f"{tuple(tensors[mask].shape)} with other numbers or of another shape."
                )
        if not tensors:
            raise ValueError(f"{refused}'audio_values', 'pixel_values_videos' or both, with their masks.")
        clips = {len(values) for values in tensors.values()}
        if len(clips) > 1:
            raise ValueError(f"{refused}as many clips in each entry, found {sorted(clips)}.")
        return tensors

    def _clip_frames(self, tensors: dict[str, Tensor]) -> list[int]:
        """Frames in each clip; begun ones, where there is only sound."""
        if "visual_attention_mask" in tensors:
            return tensors["visual_attention_mask"].sum(1).tolist()
        spectra = np.asarray(tensors["audio_attention_mask"].sum(1).cpu())
        return (-(-spectra // self.spectra_per_frame)).tolist()

    def pool_windows(self, outputs: Tensor, window_clip_index: Tensor) -> Tensor:
        """Mean of `outputs` (W, ...) over the windows of each clip: (B, ...)."""
        return pool_windows(outputs, window_clip_index)
