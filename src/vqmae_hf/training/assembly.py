"""Models put together from checkpoints: a VQ-MAE or an MDVAE with its tokenizers inside, and the processor that fits it."""

from collections.abc import Sequence
from typing import Any, TypeVar

from transformers import PreTrainedModel

from vqmae_hf.data.clip_encoding import code_shape
from vqmae_hf.data.latent_store import LatentStoreInfo
from vqmae_hf.data.token_store import TokenStoreInfo
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel, MDVAEPreTrainedModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEModel, VQMAEPreTrainedModel
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.modeling.video_processing_visual_vqvae import VisualVQVAEVideoProcessor

SAMPLING_RATE = 16000  # Hz, of the sound that the audio tokenizers hear

Model = TypeVar("Model", bound=VQMAEPreTrainedModel)
MDVAE = TypeVar("MDVAE", bound=MDVAEPreTrainedModel)
Processor = TypeVar("Processor", bound=VQMAEProcessor)


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
    used = used_tokenizers(VQMAEConfig.from_preset(preset, **choices).modalities, tokenizers, preset)
    for name, tokenizer in used.items():
        fields.setdefault(f"{name}_codebook_size", tokenizer.config.codebook_size)
        fields[f"{name}_tokenizer_config"] = tokenizer.config.to_dict()
    model = model_class(VQMAEConfig.from_preset(preset, **fields))
    put_weights(model.model, used)
    model.model.start_from_codebooks()
    return model


def build_mdvae(
    preset: str,
    tokenizers: dict[str, PreTrainedModel],
    model_class: type[MDVAE] = MDVAEModel,
    **fields: Any,
) -> MDVAE:
    """An untrained MDVAE of a preset around trained tokenizers, at whatever sizes these have.

    Args:
        preset: sizes, see `MDVAEConfig.from_preset`.
        tokenizers: by modality; those of modalities that the model does not have are left out.
        model_class: `MDVAEModel` or `MDVAEForAudioVisualClassification`.
        **fields: configuration fields that replace the preset's. The sizes of the features are the tokenizers'.

    Raises:
        ValueError: the model has a modality without tokenizer, or sizes that do not fit.
    """
    used = used_tokenizers(MDVAEConfig.from_preset(preset, **fields).modalities, tokenizers, preset)
    for name, tokenizer in used.items():
        codes = "audio_codes_per_spectrum" if name == "audio" else "visual_codes_per_side"
        fields[codes] = code_shape(name, tokenizer)[0]
        fields[f"{name}_code_dim"] = tokenizer.config.codebook_dim
        fields[f"{name}_tokenizer_config"] = tokenizer.config.to_dict()
    model = model_class(MDVAEConfig.from_preset(preset, **fields))
    put_weights(model.base_model, used)
    return model


def used_tokenizers(
    modalities: Sequence[str], tokenizers: dict[str, PreTrainedModel], preset: str
) -> dict[str, PreTrainedModel]:
    """The tokenizers of these modalities.

    Raises:
        ValueError: there is none for one of them.
    """
    missing = [name for name in modalities if name not in tokenizers]
    if missing:
        raise ValueError(
            f"preset {preset!r} has the modalities {list(modalities)}, but there is no {' or '.join(missing)} tokenizer; "
            'name its checkpoint, or choose another preset or model_overrides={"modalities": [...]}.'
        )
    return {name: tokenizers[name] for name in modalities}


def put_weights(model: PreTrainedModel, tokenizers: dict[str, PreTrainedModel]) -> None:
    """Give the tokenizers inside a base model the weights of these."""
    for name, tokenizer in tokenizers.items():
        getattr(model, f"{name}_tokenizer").load_state_dict(tokenizer.state_dict())


def inner_tokenizers(model: VQMAEPreTrainedModel | MDVAEPreTrainedModel) -> dict[str, PreTrainedModel]:
    """The tokenizers inside a VQ-MAE or an MDVAE, with a head or without, by modality."""
    return _tokenizers_of(model.base_model)


def processor_for_tokenizers(
    tokenizers: dict[str, PreTrainedModel],
    processor_class: type[Processor] = VQMAEProcessor,
    frames_per_second: float | None = None,
) -> Processor:
    """The processor of VQ-MAE, or of MDVAE, at the sizes of these tokenizers and the frame rate of the clips."""
    rate = frames_per_second or processor_class.default_frames_per_second
    sizes: dict[str, Any] = {"frames_per_second": rate}
    if "visual" in tokenizers:
        side = tokenizers["visual"].config.image_size
        sizes["size"] = {"height": side, "width": side}
    video_processor = VisualVQVAEVideoProcessor(**sizes)
    bins = tokenizers["audio"].config.num_frequency_bins if "audio" in tokenizers else 513
    spectra_per_frame = processor_class.default_spectra_per_frame
    extractor = AudioVQVAEFeatureExtractor(
        n_fft=2 * (bins - 1),
        hop_length=round(SAMPLING_RATE / (rate * spectra_per_frame)),
        num_spectra=spectra_per_frame * video_processor.num_frames,
    )
    return processor_class(extractor, video_processor)


def processor_for_store(
    config: VQMAEConfig | MDVAEConfig,
    info: TokenStoreInfo | LatentStoreInfo,
    processor_class: type[VQMAEProcessor] = VQMAEProcessor,
) -> VQMAEProcessor:
    """The processor of a model, for clips at the rates, and trimmed, like those that it was trained on."""
    processor = processor_class.from_model_config(
        config, frames_per_second=info.frames_per_second, sampling_rate=info.sampling_rate
    )
    processor.feature_extractor.trim_silence_db = info.trim_silence_db
    return processor


def load_inner_tokenizers(model: str) -> dict[str, PreTrainedModel]:
    """The tokenizers of a VQ-MAE checkpoint (folder or Hub name) by modality, in evaluation mode.

    Raises:
        ValueError: the checkpoint has no tokenizers.
    """
    tokenizers = _tokenizers_of(VQMAEModel.from_pretrained(model))
    if not tokenizers:
        raise ValueError(f"{model} is a VQ-MAE without tokenizers; name those it was trained on instead.")
    return tokenizers


def _tokenizers_of(model: Any) -> dict[str, PreTrainedModel]:
    found = {name: getattr(model, f"{name}_tokenizer") for name in model.config.modalities}
    return {name: tokenizer for name, tokenizer in found.items() if tokenizer is not None}
