"""Models put together from checkpoints: a VQ-MAE with its tokenizers inside, and the processor that fits it."""

from typing import Any, TypeVar

from transformers import PreTrainedModel

from vqmae_hf.data.token_store import TokenStoreInfo
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEModel, VQMAEPreTrainedModel
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor

Model = TypeVar("Model", bound=VQMAEPreTrainedModel)


def load_tokenizers(audio_tokenizer: str | None, visual_tokenizer: str | None) -> dict[str, PreTrainedModel]:
    """The tokenizers of two checkpoints (folders or Hub names) by modality, in evaluation mode."""
    tokenizers: dict[str, PreTrainedModel] = {}
    if audio_tokenizer is not None:
        tokenizers["audio"] = AudioVQVAEModel.from_pretrained(audio_tokenizer)
    if visual_tokenizer is not None:
        tokenizers["visual"] = VisualVQVAEModel.from_pretrained(visual_tokenizer)
    return tokenizers


def build_vqmae(model_class: type[Model], preset: str, tokenizers: dict[str, PreTrainedModel], **fields: Any) -> Model:
    """An untrained VQ-MAE of a preset around trained tokenizers.

    Args:
        model_class: `VQMAEForPreTraining` or `VQMAEForAudioVisualClassification`.
        preset: sizes, see `VQMAEConfig.from_preset`.
        tokenizers: by modality; those of modalities that the model does not have are left out.
        **fields: configuration fields that replace the preset's. Codebook sizes are the tokenizers'.

    Raises:
        ValueError: the model has a modality without tokenizer, or sizes that do not fit.
    """
    # Embedding tubes by the tokenizers' codebooks is a choice that can only be checked once they are in the configuration.
    choices = {name: value for name, value in fields.items() if name != "code_embedding"}
    modalities = VQMAEConfig.from_preset(preset, **choices).modalities
    missing = [name for name in modalities if name not in tokenizers]
    if missing:
        raise ValueError(
            f"preset {preset!r} has the modalities {list(modalities)}, but there is no {' or '.join(missing)} tokenizer; "
            'name its checkpoint, or choose another preset or model_overrides={"modalities": [...]}.'
        )
    used = {name: tokenizers[name] for name in modalities}
    for name, tokenizer in used.items():
        fields.setdefault(f"{name}_codebook_size", tokenizer.config.codebook_size)
        fields[f"{name}_tokenizer_config"] = tokenizer.config.to_dict()
    model = model_class(VQMAEConfig.from_preset(preset, **fields))
    for name, tokenizer in used.items():
        getattr(model.model, f"{name}_tokenizer").load_state_dict(tokenizer.state_dict())
    model.model.start_from_codebooks()
    return model


def inner_tokenizers(model: VQMAEPreTrainedModel) -> dict[str, PreTrainedModel]:
    """The tokenizers inside a VQ-MAE with a head, by modality."""
    return _tokenizers_of(model.model)


def processor_for_tokenizers(tokenizers: dict[str, PreTrainedModel]) -> VQMAEProcessor:
    """The processor of VQ-MAE at the sizes of these tokenizers."""
    sizes: dict[str, Any] = {}
    if "visual" in tokenizers:
        side = tokenizers["visual"].config.image_size
        sizes["size"] = {"height": side, "width": side}
    bins = tokenizers["audio"].config.num_frequency_bins if "audio" in tokenizers else 513
    return VQMAEProcessor(AudioVQVAEFeatureExtractor(n_fft=2 * (bins - 1)), VisualVQVAEVideoProcessor(**sizes))


def processor_for_store(config: VQMAEConfig, info: TokenStoreInfo) -> VQMAEProcessor:
    """The processor of a model, at the rates of the clips that it was trained on."""
    return VQMAEProcessor.from_model_config(
        config, frames_per_second=info.frames_per_second, sampling_rate=info.sampling_rate
    )


def load_inner_tokenizers(model: str) -> dict[str, PreTrainedModel]:
    """The tokenizers of a VQ-MAE checkpoint (folder or Hub name) by modality, in evaluation mode.

    Raises:
        ValueError: the checkpoint has no tokenizers.
    """
    tokenizers = _tokenizers_of(VQMAEModel.from_pretrained(model))
    if not tokenizers:
        raise ValueError(f"{model} is a VQ-MAE without tokenizers; name those it was trained on instead.")
    return tokenizers


def _tokenizers_of(model: VQMAEModel) -> dict[str, PreTrainedModel]:
    found = {name: getattr(model, f"{name}_tokenizer") for name in model.config.modalities}
    return {name: tokenizer for name, tokenizer in found.items() if tokenizer is not None}
