"""What `import vqmae_hf` tells transformers: which classes belong to which `model_type`, and the pipeline's task."""

from functools import wraps
from importlib import import_module
from typing import Any

from transformers import (
    AutoConfig,
    AutoFeatureExtractor,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForPreTraining,
    AutoModelForVideoClassification,
    AutoProcessor,
    PreTrainedConfig,
)

# The one exported by transformers is a dummy where torchvision is absent.
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from .modeling.aligned_loading import AlignedPreTrainedModel
from .modeling.configuration_audio_vqvae import AudioVQVAEConfig
from .modeling.configuration_mdvae import MDVAEConfig
from .modeling.configuration_visual_vqvae import VisualVQVAEConfig
from .modeling.configuration_vqmae import VQMAEConfig
from .modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from .modeling.modeling_audio_vqvae import AudioVQVAEModel
from .modeling.modeling_mdvae import MDVAEForAudioVisualClassification, MDVAEModel
from .modeling.modeling_visual_vqvae import VisualVQVAEModel
from .modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining, VQMAEModel
from .modeling.pipeline_audiovisual_classification import AudioVisualClassificationPipeline, register_pipeline
from .modeling.processing_mdvae import MDVAEProcessor
from .modeling.processing_vqmae import VQMAEProcessor
from .modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor

# Auto class, configuration, and the class that the Auto class makes of it; what is published says the same (`hub.kinds`).
# No Auto class is for sound and picture together; the two that fit a part both find the classifiers.
AUTO_CLASSES: tuple[tuple[Any, type[PreTrainedConfig], type], ...] = (
    (AutoModel, AudioVQVAEConfig, AudioVQVAEModel),
    (AutoModel, VisualVQVAEConfig, VisualVQVAEModel),
    (AutoModel, VQMAEConfig, VQMAEModel),
    (AutoModel, MDVAEConfig, MDVAEModel),
    (AutoModelForPreTraining, VQMAEConfig, VQMAEForPreTraining),
    (AutoModelForPreTraining, MDVAEConfig, MDVAEModel),
    (AutoModelForVideoClassification, VQMAEConfig, VQMAEForAudioVisualClassification),
    (AutoModelForAudioClassification, VQMAEConfig, VQMAEForAudioVisualClassification),
    (AutoModelForVideoClassification, MDVAEConfig, MDVAEForAudioVisualClassification),
    (AutoModelForAudioClassification, MDVAEConfig, MDVAEForAudioVisualClassification),
    (AutoFeatureExtractor, AudioVQVAEConfig, AudioVQVAEFeatureExtractor),
    (AutoFeatureExtractor, VQMAEConfig, AudioVQVAEFeatureExtractor),
    (AutoFeatureExtractor, MDVAEConfig, AudioVQVAEFeatureExtractor),
    (AutoVideoProcessor, VisualVQVAEConfig, VisualVQVAEVideoProcessor),
    (AutoVideoProcessor, VQMAEConfig, VisualVQVAEVideoProcessor),
    (AutoVideoProcessor, MDVAEConfig, VisualVQVAEVideoProcessor),
    (AutoProcessor, VQMAEConfig, VQMAEProcessor),
    (AutoProcessor, MDVAEConfig, MDVAEProcessor),
)


def register_auto_classes() -> None:
    """Register every model, processor and the pipeline; doing it twice changes nothing."""
    for config_class in (AudioVQVAEConfig, VisualVQVAEConfig, VQMAEConfig, MDVAEConfig):
        AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    for auto_class, config_class, registered_class in AUTO_CLASSES:
        auto_class.register(config_class, registered_class, exist_ok=True)
    register_pipeline()
    AudioVisualClassificationPipeline.set_default_clip_loader(_load_clip)
    _publish_with_code()


def _publish_with_code() -> None:
    """Give the installed classes a `push_to_hub` that brings their code along.

    `modeling/` cannot know of `hub/`; and the same classes, loaded from a repository, have transformers' own, which does it.
    """
    for class_, publisher in (
        (AlignedPreTrainedModel, "push_model"),
        (AudioVQVAEFeatureExtractor, "push_processor"),
        (VisualVQVAEVideoProcessor, "push_processor"),
        (VQMAEProcessor, "push_processor"),
        (AudioVisualClassificationPipeline, "push_pipeline"),
    ):
        if not hasattr(class_.push_to_hub, "brings_code"):
            class_.push_to_hub = _publisher(class_.push_to_hub, publisher)


def _publisher(original: Any, publisher: str) -> Any:
    """A method that calls a function of `hub/`, imported when it is called; subclasses of others keep `original`."""

    @wraps(original)
    def push_to_hub(self: Any, repo_id: str, **options: Any) -> str:
        if type(self).__module__.partition(".")[0] != __package__:
            return original(self, repo_id, **options)
        return getattr(import_module("vqmae_hf.hub.published_objects"), publisher)(self, repo_id, **options)

    push_to_hub.brings_code = True  # type: ignore[attr-defined]
    return push_to_hub


def _load_clip(source: Any, **options: Any) -> Any:
    """[`vqmae_hf.data.clips.load_clip`], imported when a file is first opened."""
    return import_module("vqmae_hf.data.clips").load_clip(source, **options)
