"""The models that the demo runs on."""

import os
from dataclasses import dataclass

from transformers import AutoConfig, pipeline

from vqmae_hf.inference.talking_faces import TalkingFaceModel, load_talking_face_model
from vqmae_hf.modeling.modeling_vqmae import (
    VQMAEForAudioVisualClassification,
    VQMAEForPreTraining,
    VQMAEPreTrainedModel,
)
from vqmae_hf.modeling.pipeline_audiovisual_classification import AudioVisualClassificationPipeline
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.training.assembly import inner_tokenizers

Folder = str | os.PathLike


@dataclass(frozen=True)
class MaskedModel:
    """A masked autoencoder with its tokenizers, in evaluation mode, and its processor."""

    model: VQMAEForPreTraining
    processor: VQMAEProcessor


@dataclass(frozen=True)
class DemoModels:
    """What is there to be shown; a tab whose model is None says what to start the demo with."""

    classify: AudioVisualClassificationPipeline | None = None
    masked: MaskedModel | None = None
    talker: TalkingFaceModel | None = None

    @property
    def tokenizing(self) -> tuple[VQMAEPreTrainedModel, VQMAEProcessor] | None:
        """A model with tokenizers inside, and its processor."""
        if self.masked is not None:
            return self.masked.model, self.masked.processor
        if self.classify is not None:
            return self.classify.model, self.classify.processor  # type: ignore[return-value]
        return None


def load_demo_models(
    checkpoint: Folder | None = None, pretraining: Folder | None = None, mdvae: Folder | None = None
) -> DemoModels:
    """
    Args:
        checkpoint: folder or Hub id of a `VQMAEForAudioVisualClassification` with its tokenizers.
        pretraining: of a `VQMAEForPreTraining` with its tokenizers.
        mdvae: of an `MDVAEModel` with its tokenizers.

    Raises:
        ValueError: none of them, or a checkpoint of another kind or without tokenizers.
    """
    if checkpoint is None and pretraining is None and mdvae is None:
        raise ValueError(
            "found no checkpoint; give the demo at least one of: checkpoint (emotion), pretraining (mask and reconstruct), "
            "mdvae (factors)."
        )
    return DemoModels(
        classify=None if checkpoint is None else _load_classifier(os.fspath(checkpoint)),
        masked=None if pretraining is None else _load_masked(os.fspath(pretraining)),
        talker=None if mdvae is None else load_talking_face_model(mdvae),
    )


def _load_classifier(name: str) -> AudioVisualClassificationPipeline:
    _check_kind(name, VQMAEForAudioVisualClassification, "checkpoint")
    # Only eager attention returns the weights that are shown.
    model = VQMAEForAudioVisualClassification.from_pretrained(name, attn_implementation="eager").eval()
    _check_tokenizers(name, model)
    processor = VQMAEProcessor.from_pretrained(name)
    return pipeline("audiovisual-classification", model=model, processor=processor)  # type: ignore[call-overload]


def _load_masked(name: str) -> MaskedModel:
    _check_kind(name, VQMAEForPreTraining, "pretraining")
    model = VQMAEForPreTraining.from_pretrained(name).eval()
    _check_tokenizers(name, model)
    return MaskedModel(model, VQMAEProcessor.from_pretrained(name))


def _check_kind(name: str, model_class: type[VQMAEPreTrainedModel], argument: str) -> None:
    """Refuse weights of another class, which transformers would fill up with random ones."""
    config = AutoConfig.from_pretrained(name)
    found = config.architectures or [config.model_type]
    if model_class.__name__ not in found:
        raise ValueError(
            f"{argument}: found {name}, a checkpoint of {', '.join(found)}; accepted is {model_class.__name__}. Folders of "
            "classifiers go to checkpoint, of pre-training to pretraining, of MDVAE to mdvae."
        )


def _check_tokenizers(name: str, model: VQMAEPreTrainedModel) -> None:
    lacking = sorted(set(model.config.modalities) - set(inner_tokenizers(model)))
    if lacking:
        raise ValueError(
            f"{name}: found no tokenizer for {' and '.join(lacking)}; accepted is a checkpoint with one for each of its "
            "modalities. Put trained ones in with `model.set_tokenizers(...)` and save it again."
        )
