"""The kinds of checkpoints that are published: what each is called, and which classes load it."""

from dataclasses import dataclass

from transformers import PreTrainedModel

from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_mdvae import MDVAEForAudioVisualClassification, MDVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining, VQMAEModel


@dataclass(frozen=True)
class CheckpointKind:
    """
    Args:
        name: of its card's text, `cards/<name>.md.jinja`.
        model_class: what the checkpoint is saved as.
        auto_class: name of the Auto class that loads all of its weights.
        is_classifier: whether the pipeline takes it.
    """

    name: str
    model_class: type[PreTrainedModel]
    auto_class: str
    is_classifier: bool = False


KINDS = (
    CheckpointKind("audio_tokenizer", AudioVQVAEModel, "AutoModel"),
    CheckpointKind("visual_tokenizer", VisualVQVAEModel, "AutoModel"),
    CheckpointKind("vqmae_pretrained", VQMAEForPreTraining, "AutoModelForPreTraining"),
    CheckpointKind("vqmae_pretrained", VQMAEModel, "AutoModel"),
    CheckpointKind("vqmae_classifier", VQMAEForAudioVisualClassification, "AutoModelForVideoClassification", True),
    CheckpointKind("mdvae", MDVAEModel, "AutoModel"),
    CheckpointKind("mdvae_classifier", MDVAEForAudioVisualClassification, "AutoModelForVideoClassification", True),
)
KIND_OF_CLASS = {kind.model_class.__name__: kind for kind in KINDS}


def kind_of_class(name: str, where: str) -> CheckpointKind:
    """The kind of a model class.

    Raises:
        ValueError: a class that is not one of this package.
    """
    if name not in KIND_OF_CLASS:
        raise ValueError(
            f"{where}: found a {name}, accepted are checkpoints of {', '.join(KIND_OF_CLASS)}. Others have a "
            "`push_to_hub` of their own."
        )
    return KIND_OF_CLASS[name]
