"""Configurations of the authors' models, read off the names and sizes of their parameters (under our names)."""

from collections.abc import Callable
from functools import wraps
from math import prod
from typing import Any

from vqmae_hf.conversion.mdvae_names import LATENTS
from vqmae_hf.conversion.renaming import ConversionError, StateDict, count_layers

Sizes = dict[str, Any]
LOCAL = ("joint", "visual", "audio")
# Geometry of the papers' models, which no tensor shows: extents of tubes, and codes of one spectrum or frame.
AUDIO_TUBE, CODES_PER_SPECTRUM = (10, 4), 64
VISUAL_TUBE, CODES_PER_SIDE = (5, 4, 4), 24


def naming_what_is_missing(read_sizes: Callable[..., Sizes]) -> Callable[..., Sizes]:
    """A parameter that a size would be read off, and that is not there or has too few axes, as a `ConversionError`."""

    @wraps(read_sizes)
    def read(mapped: StateDict, *args: Any) -> Sizes:
        try:
            return read_sizes(mapped, *args)
        except KeyError as error:
            raise ConversionError(f"the checkpoint is incomplete: it has no {error}.") from error
        except (IndexError, ZeroDivisionError) as error:
            raise ConversionError("parameters that sizes are read off have too few axes, or no numbers.") from error

    return read


@naming_what_is_missing
def audio_vqvae_sizes(mapped: StateDict) -> Sizes:
    """Fields of an `AudioVQVAEConfig`."""
    return {
        **_quantizer_sizes(mapped),
        "hidden_size": mapped["encoder.convs.1.weight"].shape[0],
        "batch_norm": "encoder.norms.0.weight" in mapped,
    }


@naming_what_is_missing
def visual_vqvae_sizes(mapped: StateDict) -> Sizes:
    """Fields of a `VisualVQVAEConfig`; the size of the images follows from the number of layers ([AV]: 96, [MD]: 64)."""
    first = mapped["encoder.downsampling.0.weight"]
    layers = count_layers(mapped, r"encoder\.downsampling\.(\d+)\.weight")
    return {
        **_quantizer_sizes(mapped),
        "hidden_size": 2 * first.shape[0],
        "num_channels": first.shape[1],
        "num_downsampling_layers": layers,
        "image_size": 64 if layers == 3 else 96,
    }


def _quantizer_sizes(mapped: StateDict) -> Sizes:
    codebook = mapped["quantizer.codebook"]
    layers = count_layers(mapped, r"encoder\.residual_layers\.(\d+)\.")
    return {
        "codebook_size": codebook.shape[0],
        "codebook_dim": codebook.shape[1],
        "num_residual_layers": layers,
        "residual_hidden_size": mapped["encoder.residual_layers.0.conv.weight"].shape[0] if layers else 1,
    }


@naming_what_is_missing
def vqmae_sizes(mapped: StateDict, overrides: Sizes) -> Sizes:
    """
    Fields of a `VQMAEConfig`. Extents of tubes, and codes per spectrum or frame, cannot be read off tensors: they are the
    papers' where these fit the tubes that are there, and have to be in `overrides` where not.
    """
    modalities = tuple(m for m in ("audio", "visual") if f"model.embeddings.codes.{m}.weight" in mapped)
    if not modalities:
        raise ConversionError("the checkpoint embeds no codes, neither of sound nor of pictures.")
    stream = next((s for s in LOCAL if f"model.encoder.norms.{s}.weight" in mapped), "joint")
    width = mapped[f"model.encoder.norms.{stream}.weight"].shape[0]
    inner = mapped[f"model.encoder.layers.0.blocks.{stream}.mlp.fc1.weight"].shape[0]
    sizes: Sizes = {
        "modalities": modalities,
        "num_hidden_layers": count_layers(mapped, r"model\.encoder\.layers\.(\d+)\."),
        "mlp_ratio": inner / width if inner % width else inner // width,
        "encoder_fusion": "self" if stream == "joint" else "cross",
        "position_embedding": "sinusoidal",
        "global_representation": _global_representation(mapped),
    }
    if any(name.startswith("model.embeddings.positions.learned.") for name in mapped):
        sizes["position_embedding"] = "learned"
    for modality in modalities:
        codes = mapped[f"model.embeddings.codes.{modality}.weight"].shape
        sizes |= {f"{modality}_codebook_size": codes[0], f"{modality}_code_dim": codes[1]}
        positions = mapped.get(f"model.embeddings.positions.learned.{modality}")
        sizes |= _geometry(modality, width, codes[1], positions.shape[0] if positions is not None else None, overrides)
    if "audio_num_spectra" not in sizes and modalities == ("audio",):
        sizes["audio_num_spectra"] = 200
    return sizes


def _global_representation(mapped: StateDict) -> str | None:
    if "model.embeddings.class_tokens.audio" in mapped:
        return "cls_token"
    return "attention_pooling" if any(name.startswith("model.global_pooling.") for name in mapped) else None


def _geometry(modality: str, width: int, code_dim: int, num_tubes: int | None, overrides: Sizes) -> Sizes:
    """Extents of tubes and length of the window, of one modality with `num_tubes` (None: not in the tensors)."""
    tube, codes = (AUDIO_TUBE, CODES_PER_SPECTRUM) if modality == "audio" else (VISUAL_TUBE, CODES_PER_SIDE)
    fields = (f"{modality}_tube_size", "audio_codes_per_spectrum" if modality == "audio" else "visual_codes_per_side")
    length = "audio_num_spectra" if modality == "audio" else "visual_num_frames"
    if all(name in overrides for name in (*fields, length)):
        return {}
    tubes_per_step = prod(codes // extent for extent in tube[1:])
    fits = width == prod(tube) * code_dim and (num_tubes is None or num_tubes % tubes_per_step == 0)
    if not fits:
        count = "an unknown number of" if num_tubes is None else num_tubes
        raise ConversionError(
            f"the checkpoint has {count} {modality} tubes of {width / code_dim:g} codes, not the papers' of {tube}. Their "
            f"extents cannot be read off tensors: say them with config_overrides, e.g. {{'{fields[0]}': {tube}, "
            f"'{fields[1]}': {codes}, '{length}': {100 if modality == 'audio' else 50}}}."
        )
    geometry: Sizes = {fields[0]: tube, fields[1]: codes}
    if num_tubes is not None:
        geometry[length] = num_tubes // tubes_per_step * tube[0]
    return geometry


@naming_what_is_missing
def autoencoder_sizes(mapped: StateDict, overrides: Sizes) -> Sizes:
    """Fields of the configuration of a `VQMAEForPreTraining`."""
    sizes = vqmae_sizes(mapped, overrides)
    both = len(sizes["modalities"]) == 2
    joint = any(".blocks.joint." in name for name in mapped if name.startswith("decoder."))
    return {
        **sizes,
        "decoder_num_hidden_layers": count_layers(mapped, r"decoder\.transformer\.layers\.(\d+)\."),
        "decoder_fusion": "self" if joint else "cross",
        "contrastive": both and sizes["global_representation"] is not None,
        "classifier_pooling": "mean" if sizes["global_representation"] is None else "attention",
    }


@naming_what_is_missing
def classifier_sizes(mapped: StateDict, overrides: Sizes) -> Sizes:
    """Fields of the configuration of a `VQMAEForAudioVisualClassification`."""
    sizes = {**vqmae_sizes(mapped, overrides), "contrastive": False}
    if len(sizes["modalities"]) == 1:
        raise ConversionError(
            f"it is a classifier of {sizes['modalities'][0]} alone. How the authors' classifiers of one modality pool their "
            "tubes was never recorded, so they are not converted; convert the pre-trained model and fine-tune it."
        )
    if "classifier.class_queries" in mapped:
        return {
            **sizes,
            "classifier_pooling": "query2emo",
            "query2emo_intermediate_size": mapped["classifier.encoder_layer.feed_forward.fc1.weight"].shape[0],
            "num_labels": mapped["classifier.output.weight"].shape[0],
        }
    return {
        **sizes,
        "classifier_pooling": "mean" if sizes["global_representation"] is None else "attention",
        "num_labels": mapped["classifier.weight"].shape[0],
    }


@naming_what_is_missing
def mdvae_sizes(mapped: StateDict) -> Sizes:
    """Fields of an `MDVAEConfig` whose features are as the paper's: codes of 8 numbers (audio), 8 x 8 codes (visual)."""

    def rows(name: str) -> int:
        return mapped[f"{name}.weight"].shape[0]

    def layers(name: str, count: int) -> tuple[int, ...]:
        return tuple(rows(f"{name}.{index}") for index in range(count))

    sizes: Sizes = {
        "audio_codes_per_spectrum": rows("decoders.audio.output") // 8,
        "visual_code_dim": rows("decoders.visual.output") // 64,
        "w_size": rows("static_latent.posterior.mean"),
        "visual_embedding_sizes": layers("visual_embedding.layers", 2),
        "static_history_size": mapped["static_latent.forward_history.weight_hh"].shape[1],
        "history_size": mapped["dynamic_latents.z_av.history.weight_hh"].shape[1],
        "w_posterior_sizes": layers("static_latent.posterior.hidden.layers", 1),
        "audio_decoder_sizes": layers("decoders.audio.hidden.layers", 2),
        "visual_decoder_sizes": layers("decoders.visual.hidden.layers", 2),
    }
    for latent, *_ in LATENTS:
        prefix = f"dynamic_latents.{latent}"
        sizes[f"{latent}_size"] = rows(f"{prefix}.posterior.mean")
        sizes[f"{latent}_posterior_sizes"] = layers(f"{prefix}.posterior.hidden.layers", 2)
        sizes[f"{latent}_prior_sizes"] = layers(f"{prefix}.prior.hidden.layers", 1)
    return sizes
