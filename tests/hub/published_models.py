"""Small checkpoints of every kind, inputs for them, and what they answer, with the package or without it."""

from typing import Any

import torch

AUTO_CLASSES = {
    "audio_tokenizer": "AutoModel",
    "visual_tokenizer": "AutoModel",
    "vqmae_pretrained": "AutoModelForPreTraining",
    "vqmae_classifier": "AutoModelForVideoClassification",
    "mdvae": "AutoModel",
    "mdvae_classifier": "AutoModelForAudioClassification",
}
CLASSIFIERS = ("vqmae_classifier", "mdvae_classifier")


def make_models() -> dict[str, Any]:
    """Models with random weights; their modules are the package's, so this runs where it is installed."""
    import small_mdvae
    import small_models

    from vqmae_hf.modeling.modeling_mdvae import MDVAEForAudioVisualClassification
    from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining

    labels = {"id2label": {0: "calm", 1: "happy", 2: "sad"}, "label2id": {"calm": 0, "happy": 1, "sad": 2}}
    config = small_models.vqmae_config(with_tokenizers=True)
    named = small_models.vqmae_config(with_tokenizers=True, **labels)
    return {
        "audio_tokenizer": small_models.audio_tokenizer(),
        "visual_tokenizer": small_models.visual_tokenizer(),
        "vqmae_pretrained": small_models.build(VQMAEForPreTraining, config),
        "vqmae_classifier": small_models.build(VQMAEForAudioVisualClassification, named),
        "mdvae": small_mdvae.with_tokenizers(),
        "mdvae_classifier": small_mdvae.with_tokenizers(MDVAEForAudioVisualClassification, **labels),
    }


def make_inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {
        "audio_values": torch.rand(2, 8, 65, generator=generator).square(),
        "pixel_values_videos": torch.rand(2, 4, 3, 16, 16, generator=generator) - 0.5,
    }


@torch.no_grad()
def answer(name: str, model: Any) -> dict[str, torch.Tensor]:
    """Every tensor that a model answers to the same inputs, with the same seed where it draws."""
    inputs = make_inputs()
    if name.startswith("mdvae"):  # one spectrum per frame
        inputs["audio_values"] = inputs["audio_values"][:, :4]
    if name.endswith("tokenizer"):
        inputs = {model.main_input_name: inputs[model.main_input_name]}
    if name == "vqmae_pretrained":
        inputs["generator"] = torch.Generator().manual_seed(1)
    torch.manual_seed(2)
    return {key: value for key, value in model(**inputs).items() if isinstance(value, torch.Tensor)}
