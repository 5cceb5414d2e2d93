"""
Audiovisual speech representation learning and emotion recognition, the Hugging Face way.

`import vqmae_hf` registers the models with transformers' Auto classes and the pipeline `"audiovisual-classification"`.
Everything that touches files (PyAV, OpenCV, datasets, ...) is imported when it is first used.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .version import __version__

# Public name -> the module that defines it.
_PUBLIC = {
    "AudioVQVAEConfig": "modeling.configuration_audio_vqvae",
    "AudioVQVAEFeatureExtractor": "modeling.feature_extraction_audio_vqvae",
    "AudioVQVAEModel": "modeling.modeling_audio_vqvae",
    "AudioVisualClassificationPipeline": "modeling.pipeline_audiovisual_classification",
    "MDVAEConfig": "modeling.configuration_mdvae",
    "MDVAEForAudioVisualClassification": "modeling.modeling_mdvae",
    "MDVAEModel": "modeling.modeling_mdvae",
    "MDVAEProcessor": "modeling.processing_mdvae",
    "VQMAEConfig": "modeling.configuration_vqmae",
    "VQMAEForAudioVisualClassification": "modeling.modeling_vqmae",
    "VQMAEForPreTraining": "modeling.modeling_vqmae",
    "VQMAEModel": "modeling.modeling_vqmae",
    "VQMAEProcessor": "modeling.processing_vqmae",
    "VisualVQVAEConfig": "modeling.configuration_visual_vqvae",
    "VisualVQVAEModel": "modeling.modeling_visual_vqvae",
    "VisualVQVAEVideoProcessor": "modeling.video_processing_visual_vqvae",
    "continue_clip": "inference",
    "denoise_clip": "inference",
    "interpolate_clips": "inference",
    "load_clip": "data.clips",
    "load_corpus": "data.corpora",
    "load_synthetic_corpus": "data.synthetic",
    "reconstruct_clip": "inference",
    "resynthesize_clip": "inference",
    "stream_clip": "data.clip_streaming",
    "swap_clips": "inference",
    "write_clip": "data.media",
    "write_synthetic_corpus": "data.synthetic",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from .data.clip_streaming import stream_clip as stream_clip
    from .data.clips import load_clip as load_clip
    from .data.corpora import load_corpus as load_corpus
    from .data.media import write_clip as write_clip
    from .data.synthetic import load_synthetic_corpus as load_synthetic_corpus
    from .data.synthetic import write_synthetic_corpus as write_synthetic_corpus
    from .inference import continue_clip as continue_clip
    from .inference import denoise_clip as denoise_clip
    from .inference import interpolate_clips as interpolate_clips
    from .inference import reconstruct_clip as reconstruct_clip
    from .inference import resynthesize_clip as resynthesize_clip
    from .inference import swap_clips as swap_clips
    from .modeling.configuration_audio_vqvae import AudioVQVAEConfig as AudioVQVAEConfig
    from .modeling.configuration_mdvae import MDVAEConfig as MDVAEConfig
    from .modeling.configuration_visual_vqvae import VisualVQVAEConfig as VisualVQVAEConfig
    from .modeling.configuration_vqmae import VQMAEConfig as VQMAEConfig
    from .modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor as AudioVQVAEFeatureExtractor
    from .modeling.modeling_audio_vqvae import AudioVQVAEModel as AudioVQVAEModel
    from .modeling.modeling_mdvae import MDVAEForAudioVisualClassification as MDVAEForAudioVisualClassification
    from .modeling.modeling_mdvae import MDVAEModel as MDVAEModel
    from .modeling.modeling_visual_vqvae import VisualVQVAEModel as VisualVQVAEModel
    from .modeling.modeling_vqmae import VQMAEForAudioVisualClassification as VQMAEForAudioVisualClassification
    from .modeling.modeling_vqmae import VQMAEForPreTraining as VQMAEForPreTraining
    from .modeling.modeling_vqmae import VQMAEModel as VQMAEModel
    from .modeling.pipeline_audiovisual_classification import (
        AudioVisualClassificationPipeline as AudioVisualClassificationPipeline,
    )
    from .modeling.processing_mdvae import MDVAEProcessor as MDVAEProcessor
    from .modeling.processing_vqmae import VQMAEProcessor as VQMAEProcessor
    from .modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor as VisualVQVAEVideoProcessor


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


# The command line shows its help without torch, and registers when a verb runs (see `vqmae_hf_command`).
if os.environ.get("VQMAE_HF_REGISTER_ON_IMPORT", "1") != "0":
    from .registration import register_auto_classes

    register_auto_classes()
