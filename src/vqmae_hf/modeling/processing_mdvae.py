"""A clip's waveform and frames to what an MDVAE takes: one spectrum for each of 30 frames per second."""

from typing import ClassVar

from .processing_vqmae import VQMAEProcessor


class MDVAEProcessor(VQMAEProcessor):
    r"""
    Prepares clips for an [`MDVAEModel`] and its head ([MD], signals): 30 frames of 64 x 64 pixels per second, and one
    spectrum per frame, every 533 samples at 16 kHz. Everything else is as in [`VQMAEProcessor`].

    533 samples are 33.31 ms and a frame lasts 33.33 ms: after a minute a spectrum lies 37 ms before its frame.

    ```python
    processor = MDVAEProcessor.from_model_config(model.config)
    inputs = processor(audio=clip.waveform, videos=clip.frames, sampling_rate=16000, frames_per_second=30, padding="longest")
    latents = model.encode(**inputs)
    ```

    Args:
        feature_extractor: [`AudioVQVAEFeatureExtractor`] with `hop_length=533`.
        video_processor: [`VisualVQVAEVideoProcessor`] of 30 frames per second.

    Raises:
        ValueError: the hop length does not give one spectrum for each frame, or the windows of the two parts differ.
    """

    default_frames_per_second: ClassVar[int] = 30
    default_image_size: ClassVar[int] = 64
    default_spectra_per_frame: ClassVar[int] = 1

    @property
    def spectra_per_frame(self) -> int:
        """One, at a hop of 533 samples."""
        extractor, rate = self.feature_extractor, self.video_processor.frames_per_second
        hop_length = round(extractor.sampling_rate / rate)
        if extractor.hop_length != hop_length:
            raise ValueError(
                f"hop_length={extractor.hop_length} does not give one spectrum per frame at {extractor.sampling_rate} Hz "
                f"and {rate} frames per second; set hop_length={hop_length}."
            )
        return 1
