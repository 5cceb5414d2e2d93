"""Configurations: presets, derived sizes, complete refusals, json."""

import json

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from small_models import audio_tokenizer_config, build, speech_config, visual_tokenizer_config, vqmae_config
from transformers import AutoConfig

from vqmae_hf.modeling.configuration_audio_vqvae import AUDIO_VQVAE_PRESETS, AudioVQVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VISUAL_VQVAE_PRESETS, VisualVQVAEConfig
from vqmae_hf.modeling.configuration_vqmae import VQMAE_PRESETS, VQMAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.modeling.modeling_visual_vqvae import VisualVQVAEModel
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining

TOKENIZER_PRESETS = [
    *[(AudioVQVAEConfig, AudioVQVAEModel, name) for name in AUDIO_VQVAE_PRESETS],
    *[(VisualVQVAEConfig, VisualVQVAEModel, name) for name in VISUAL_VQVAE_PRESETS],
]
EXAMPLES = {
    "audio tokenizer": AudioVQVAEConfig.from_preset("mdvae", ema_decay=0, dead_code_threshold=0.1),
    "visual tokenizer": VisualVQVAEConfig.from_preset("tiny", codebook_size=7),
    "audiovisual": vqmae_config(with_tokenizers=True, mask_ratio=(0.25, 0.75), dirichlet_alpha=(2, 1)),
    "codes only": VQMAEConfig.from_preset("cross-12", id2label={0: "neutral", 1: "happy", 2: "sad"}),
    "speech": VQMAEConfig.from_preset("speech-6", global_representation=None, classifier_pooling="mean"),
}


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# ---- presets ----


@pytest.mark.parametrize(("config_class", "model_class", "preset"), TOKENIZER_PRESETS)
def test_every_tokenizer_preset_builds(config_class, model_class, preset):
    with torch.device("meta"):
        model = model_class(config_class.from_preset(preset))
    assert parameters(model) > 1000


@pytest.mark.parametrize("preset", list(VQMAE_PRESETS))
def test_every_preset_builds_its_models(preset):
    config = VQMAEConfig.from_preset(preset, num_labels=8)
    with torch.device("meta"):
        pretraining = VQMAEForPreTraining(config)
        classifier = VQMAEForAudioVisualClassification(config)
    layers, fusion = len(pretraining.model.encoder.layers), config.encoder_fusion
    if preset != "tiny":
        assert preset == f"{'speech' if config.modalities == ('audio',) else fusion}-{layers}"
    assert classifier.classifier.out_features == 8


def test_the_papers_model_has_29_93_million_parameters():
    config = VQMAEConfig.from_preset("cross-12")
    with torch.device("meta"):
        model = VQMAEForPreTraining(config)
    assert parameters(model) == pytest.approx(29.93e6, abs=0.005e6)
    assert (config.encoder_fusion, config.decoder_fusion) == ("cross", "cross")
    assert (config.num_hidden_layers, config.decoder_num_hidden_layers, config.mlp_ratio) == (12, 3, 2)
    assert config.global_representation == "attention_pooling"


def test_sizes_of_the_papers():
    config = VQMAEConfig()
    assert (config.audio_grid, config.visual_grid) == ((10, 16), (10, 6, 6))
    assert (config.num_audio_tubes, config.num_visual_tubes) == (160, 360)
    assert (config.codes_per_audio_tube, config.codes_per_visual_tube) == (40, 80)
    assert (config.hidden_size, config.intermediate_size) == (320, 640)
    speech = VQMAEConfig.from_preset("speech-12")
    assert (speech.num_audio_tubes, speech.hidden_size, speech.intermediate_size) == (320, 320, 1280)
    assert speech.global_representation == "cls_token"
    audio, visual = AudioVQVAEConfig(), VisualVQVAEConfig()
    assert (audio.codes_per_spectrum, audio.codebook_size, audio.codebook_dim) == (64, 256, 8)
    assert (visual.codes_per_side, visual.codebook_size, visual.codebook_dim) == (24, 512, 4)
    assert AudioVQVAEConfig.from_preset("mdvae").codebook_size == 64
    assert VisualVQVAEConfig.from_preset("mdvae").codes_per_side == 8


def test_tiny_presets_fit_each_other():
    audio, visual = AudioVQVAEConfig.from_preset("tiny"), VisualVQVAEConfig.from_preset("tiny")
    config = VQMAEConfig.from_preset("tiny", audio_tokenizer_config=audio, visual_tokenizer_config=visual)
    assert config.audio_tokenizer_config is audio
    VQMAEConfig.from_preset(
        "tiny", audio_tokenizer_config=audio, visual_tokenizer_config=visual, code_embedding="tokenizer"
    )


def test_defaults_of_the_papers_fit_each_other():
    VQMAEConfig(audio_tokenizer_config=AudioVQVAEConfig(), visual_tokenizer_config=VisualVQVAEConfig())


@pytest.mark.parametrize("config_class", [AudioVQVAEConfig, VisualVQVAEConfig, VQMAEConfig])
def test_overrides_win_and_unknown_presets_are_refused_with_the_known_ones(config_class):
    first = "self-6" if config_class is VQMAEConfig else "vqmae"
    size = "visual_codebook_size" if config_class is VQMAEConfig else "codebook_size"
    assert getattr(config_class.from_preset(first, **{size: 99}), size) == 99
    with pytest.raises(ValueError, match=rf"'huge' is unknown; {config_class.__name__} has \[.*'tiny'"):
        config_class.from_preset("huge")


def test_presets_are_not_changed_by_the_configurations_made_of_them():
    before = json.dumps(VQMAE_PRESETS)
    VQMAEConfig.from_preset("tiny", num_hidden_layers=1, modalities=("audio",), encoder_fusion="self")
    assert json.dumps(VQMAE_PRESETS) == before
    assert VQMAEConfig.from_preset("tiny").num_hidden_layers == VQMAE_PRESETS["tiny"]["num_hidden_layers"]


# ---- derived ----


def test_dictionaries_become_sub_configurations():
    config = vqmae_config(
        audio_tokenizer_config=audio_tokenizer_config().to_dict(),
        visual_tokenizer_config=visual_tokenizer_config().to_dict(),
    )
    assert isinstance(config.audio_tokenizer_config, AudioVQVAEConfig)
    assert isinstance(config.visual_tokenizer_config, VisualVQVAEConfig)
    assert config.audio_tokenizer_config.codebook_size == 16


def test_one_modality_has_nothing_to_couple_or_contrast():
    config = speech_config()
    assert config.contrastive is False
    assert config.mask_ratio == 0.5
    assert speech_config(mask_ratio=0.8).mask_ratio == 0.8
    visual = vqmae_config(modalities=("visual",))
    assert (visual.hidden_size, visual.mask_ratio) == (32, 0.5)


def test_large_outputs_are_kept_out_of_trainers_evaluation():
    ignored = set(vqmae_config().keys_to_ignore_at_inference)
    assert {"visual_logits", "audio_logits", "visual_mask", "audio_mask", "hidden_states", "attentions"} <= ignored
    assert not {"loss", "logits", "visual_loss", "audio_loss", "contrastive_loss"} & ignored


# ---- refusals ----

REFUSALS = [
    (AudioVQVAEConfig, {"num_frequency_bins": 512}, r"num_frequency_bins=512 is not 8 n \+ 1; use 513"),
    (AudioVQVAEConfig, {"hidden_size": 7}, "hidden_size=7 must be even"),
    (AudioVQVAEConfig, {"codebook_size": 1}, "codebook_size=1 must be at least 2"),
    (AudioVQVAEConfig, {"codebook_dim": 0}, "codebook_dim=0 must be positive"),
    (AudioVQVAEConfig, {"ema_decay": 1.0}, r"ema_decay=1.0 must lie in \[0, 1\)"),
    (AudioVQVAEConfig, {"dead_code_threshold": 2}, "dead_code_threshold=2 is a fraction of uniform usage"),
    (AudioVQVAEConfig, {"num_residual_layers": -1}, "num_residual_layers=-1 cannot be negative"),
    (VisualVQVAEConfig, {"image_size": 90, "num_downsampling_layers": 2}, "image_size=90 is not a multiple of .* = 4"),
    (VisualVQVAEConfig, {"num_downsampling_layers": 0}, "num_downsampling_layers=0 must be at least 1"),
    (VisualVQVAEConfig, {"num_channels": 0}, "num_channels=0 must be positive"),
    (VQMAEConfig, {"modalities": ("audio", "text")}, r"modalities=\('audio', 'text'\) must name 'audio', 'visual'"),
    (VQMAEConfig, {"modalities": ()}, "must name 'audio', 'visual' or both"),
    (VQMAEConfig, {"modalities": ("audio", "audio")}, "names one twice"),
    (VQMAEConfig, {"audio_tube_size": (10, 4, 1)}, r"must be \(spectra, codes\)"),
    (VQMAEConfig, {"visual_tube_size": (5, 4)}, r"must be \(frames, rows, columns\)"),
    (VQMAEConfig, {"audio_num_spectra": 105}, "audio_num_spectra=105 is not a positive multiple of the 10 spectra"),
    (VQMAEConfig, {"visual_codes_per_side": 26}, "visual_codes_per_side=26 is not a positive multiple of the 4 rows"),
    (VQMAEConfig, {"num_hidden_layers": -1}, "num_hidden_layers=-1 must be positive"),
    (VQMAEConfig, {"visual_codebook_size": 0}, "visual_codebook_size=0 must be positive"),
    (VQMAEConfig, {"modalities": ("audio",), "audio_code_dim": 0}, "audio_code_dim=0 must be positive"),
    (VQMAEConfig, {"mlp_ratio": 0}, "mlp_ratio=0 must be positive"),
    (VQMAEConfig, {"audio_code_dim": 4}, "audio 40 x 4 = 160, visual 80 x 4 = 320; change a tube size"),
    (VQMAEConfig, {"num_attention_heads": 7}, "num_attention_heads=7 must divide the width 320"),
    (VQMAEConfig, {"decoder_num_attention_heads": 0}, "decoder_num_attention_heads=0 must divide"),
    (
        VQMAEConfig,
        {"classifier_pooling": "query2emo", "query2emo_num_attention_heads": 9},
        "query2emo_num_attention_heads=9 must divide",
    ),
    (VQMAEConfig, {"code_embedding": "tokenizer"}, "needs audio_tokenizer_config; use 'learned'"),
    (
        VQMAEConfig,
        {"audio_tokenizer_config": {"codebook_size": 64}},
        "audio_codebook_size=256, but the tokenizer sub-configuration has 64",
    ),
    (
        VQMAEConfig,
        {"visual_tokenizer_config": {"image_size": 64}},
        "visual_codes_per_side=24, but the tokenizer sub-configuration has 16",
    ),
    (VQMAEConfig, {"modalities": ("audio",), "encoder_fusion": "cross"}, "'cross' fusion needs two modalities"),
    (VQMAEConfig, {"global_representation": None}, "contrastive=True compares global representations"),
    (
        VQMAEConfig,
        {"global_representation": None, "contrastive": False, "classifier_pooling": "attention"},
        "'attention' pools the global representations",
    ),
    (VQMAEConfig, {"dirichlet_alpha": (1.0,)}, "must be two positive numbers"),
    (VQMAEConfig, {"dirichlet_alpha": (1.0, 0.0)}, "must be two positive numbers"),
    (VQMAEConfig, {"contrastive_temperature": 0}, "contrastive_temperature=0 must be positive"),
    (VQMAEConfig, {"mask_ratio": 1.5}, r"mask_ratio=1.5 must be one number or \(visual, audio\)"),
    (VQMAEConfig, {"mask_ratio": (0.1, 0.2, 0.3)}, "must be one number or"),
]


@pytest.mark.parametrize(("config_class", "fields", "message"), REFUSALS)
def test_nonsense_is_refused_with_the_field_the_value_and_the_remedy(config_class, fields, message):
    with pytest.raises(
        StrictDataclassClassValidationError, match=rf"{config_class.__name__} cannot be built: .*{message}"
    ):
        config_class(**fields)


@pytest.mark.parametrize(
    ("config_class", "fields"),
    [
        (AudioVQVAEConfig, {"codebook_size": "256"}),
        (AudioVQVAEConfig, {"batch_norm_statistics": "batch"}),
        (VisualVQVAEConfig, {"image_size": 96.0}),
        (VQMAEConfig, {"encoder_fusion": "late"}),
        (VQMAEConfig, {"num_hidden_layers": True}),
        (VQMAEConfig, {"modalities": "audio"}),
    ],
)
def test_values_of_another_type_are_refused(config_class, fields):
    with pytest.raises(StrictDataclassFieldValidationError, match=next(iter(fields))):
        config_class(**fields)


def test_all_problems_are_named_at_once():
    with pytest.raises(StrictDataclassClassValidationError) as refusal:
        VQMAEConfig(
            audio_num_spectra=105,
            visual_num_frames=51,
            num_hidden_layers=0,
            num_attention_heads=7,
            contrastive_temperature=-1.0,
            mask_ratio=2.0,
            audio_tokenizer_config={"codebook_size": 64},
        )
    for field in ("audio_num_spectra=105", "visual_num_frames=51", "num_attention_heads=7", "temperature=-1.0"):
        assert field in str(refusal.value)
    for field in ("num_hidden_layers=0", "mask_ratio=2.0", "audio_codebook_size=256"):
        assert field in str(refusal.value)
    with pytest.raises(StrictDataclassClassValidationError, match=r"codebook_size=0.*image_size=90.*hidden_size=3"):
        VisualVQVAEConfig(codebook_size=0, image_size=90, hidden_size=3)


# ---- json ----


def content(config) -> dict:
    """Everything that json holds, but for the folder it was read from."""
    fields = json.loads(config.to_json_string(use_diff=False))
    del fields["_name_or_path"]
    return fields


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_saved_and_loaded_is_the_same(name, tmp_path):
    config = EXAMPLES[name]
    config.save_pretrained(tmp_path)
    from_json = (AutoConfig.from_pretrained(tmp_path), type(config).from_pretrained(tmp_path))
    for loaded in (*from_json, type(config).from_dict(config.to_dict())):
        assert type(loaded) is type(config)
        assert content(loaded) == content(config)


def test_overrides_of_a_loaded_configuration_are_refused_where_a_model_is_built_of_them(tmp_path):
    """transformers sets them on the finished configuration, past its validation."""
    build(VQMAEForPreTraining, vqmae_config()).save_pretrained(tmp_path)
    assert VQMAEConfig.from_pretrained(tmp_path, classifier_pooling="mean").classifier_pooling == "mean"
    for field, value in (("audio_num_spectra", 9), ("num_attention_heads", 5), ("global_representation", None)):
        with pytest.raises(ValueError, match=f"VQMAEConfig cannot be built: .*{field}"):
            VQMAEForPreTraining.from_pretrained(tmp_path, **{field: value})


def test_tokenizers_are_found_in_the_checkpoint_that_contains_them(tmp_path):
    vqmae_config(with_tokenizers=True).save_pretrained(tmp_path)
    assert AudioVQVAEConfig.from_pretrained(tmp_path).num_frequency_bins == 65
    assert VisualVQVAEConfig.from_pretrained(tmp_path).image_size == 16


def test_lists_from_json_are_as_good_as_tuples():
    config = vqmae_config(audio_tube_size=[2, 2], visual_tube_size=[2, 2, 2], modalities=["visual", "audio"])
    assert config.hidden_size == 32
    with torch.device("meta"):
        VQMAEForPreTraining(config)
