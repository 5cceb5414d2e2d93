"""What fine-tuning may change of a pre-trained encoder: the depth of parameters, frozen layers, LoRA.

Depth of a parameter: 0 embeddings, 1 fusion of the modalities, 2 + i layer i of the encoder, and on top whatever follows
(norms, global representations, classifier).
"""

from collections.abc import Callable
from typing import Any

from torch import nn

from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification


def parameter_depth(name: str, num_layers: int) -> int:
    """Depth of a parameter of a classifier, see the head of this module: `name` as of `named_parameters`."""
    if name.startswith("model.embeddings."):
        return 0
    if name.startswith("model.encoder.modality_fusion."):
        return 1
    if name.startswith("model.encoder.layers."):
        return 2 + int(name.split(".")[3])
    return 2 + num_layers


def freeze_layers(model: VQMAEForAudioVisualClassification, frozen_layers: int) -> None:
    """Freeze the embeddings, the fusion and the first layers of an encoder; with all of them, a probe is left to train.

    Raises:
        ValueError: more layers than the encoder has.
    """
    num_layers = model.config.num_hidden_layers
    if frozen_layers > num_layers:
        raise ValueError(f"frozen_layers={frozen_layers}, but the encoder has {num_layers} layers.")
    for name, parameter in model.named_parameters():
        if frozen_layers and parameter_depth(name, num_layers) < 2 + frozen_layers:
            parameter.requires_grad_(False)


def add_lora(model: VQMAEForAudioVisualClassification, rank: int) -> Callable[[], Any]:
    """Let only low-rank updates of the encoder's linear maps be trained, and what stands on top (PEFT's LoRA).

    Args:
        model: changed in place.
        rank: of the updates; they are scaled by alpha / rank = 2.

    Returns:
        What to call after training: it adds the updates to the weights, and leaves a model as if nothing had been there.

    Raises:
        ImportError: PEFT is not installed.
    """
    try:
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel
    except ImportError as error:
        raise ImportError("lora_rank needs PEFT: pip install 'vqmae-hf[lora]', or set lora_rank to 0.") from error
    num_layers = model.config.num_hidden_layers
    top = [name for name, _ in model.named_parameters() if parameter_depth(name, num_layers) == 2 + num_layers]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    targets = [
        f"model.encoder.{name}"
        for name, module in model.model.encoder.named_modules()
        if isinstance(module, nn.Linear)
    ]
    tuner = LoraModel(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets), "default")
    for name, parameter in model.named_parameters():
        if name in top:
            parameter.requires_grad_(name in trained)
    return tuner.merge_and_unload
