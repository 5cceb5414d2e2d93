"""Configuration of the VQ-MAE family: audiovisual, speech-only and visual-only masked autoencoders over codes."""

from math import isfinite, prod
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.activations import ACT2FN

from .configuration_audio_vqvae import AudioVQVAEConfig, number_problems, raise_problems
from .configuration_base import CheckpointConfig
from .configuration_visual_vqvae import VisualVQVAEConfig

SELF_FUSION: dict[str, Any] = {"encoder_fusion": "self", "decoder_fusion": "self", "decoder_num_hidden_layers": 4}
CROSS_FUSION: dict[str, Any] = {"encoder_fusion": "cross", "decoder_fusion": "cross", "decoder_num_hidden_layers": 3}
# [S]: 200 spectra = 4 s = 320 tubes, a class token, MLP ratio 4.
SPEECH: dict[str, Any] = {
    "modalities": ("audio",),
    "audio_num_spectra": 200,
    "global_representation": "cls_token",
    "contrastive": False,
    "mlp_ratio": 4,
    "decoder_num_hidden_layers": 4,
}

VQMAE_PRESETS: dict[str, dict[str, Any]] = {
    "self-6": {**SELF_FUSION, "num_hidden_layers": 6},
    "self-12": {**SELF_FUSION, "num_hidden_layers": 12},
    "cross-6": {**CROSS_FUSION, "num_hidden_layers": 6},
    # The model of [AV]: 29.93 M parameters without tokenizers.
    "cross-12": {**CROSS_FUSION, "num_hidden_layers": 12},
    "speech-6": {**SPEECH, "num_hidden_layers": 6},
    "speech-12": {**SPEECH, "num_hidden_layers": 12},
    # Fits the "tiny" tokenizers; for tests and the quickstart. 80 visual and 160 audio tubes, width 160.
    "tiny": {
        **SELF_FUSION,
        "num_hidden_layers": 3,
        "decoder_num_hidden_layers": 2,
        "audio_codebook_size": 64,
        "audio_code_dim": 4,
        "visual_codes_per_side": 8,
        "visual_tube_size": (5, 2, 4),
        "visual_codebook_size": 128,
        "visual_code_dim": 4,
        "position_embedding": "sinusoidal",
    },
}


@strict
class VQMAEConfig(CheckpointConfig):
    r"""
    Sizes and choices of a VQ-MAE ([AV]; [S] with `modalities=("audio",)`). The defaults are those of VQ-MAE-AV with a
    self-attention encoder of 6 layers; [`VQMAEConfig.from_preset`] names the paper's variants.

    Args:
        modalities (`tuple[str, ...]`): any of `"audio"`, `"visual"`.
        audio_num_spectra, visual_num_frames (`int`): length of the training window in spectra and in frames; 100 and 50
            are 2 s.
        audio_codes_per_spectrum, visual_codes_per_side (`int`): codes per spectrum; rows, and columns, of codes per frame.
        audio_tube_size (`(spectra, codes)`), visual_tube_size (`(frames, rows, columns)`): extent of a tube in codes.
        audio_codebook_size, visual_codebook_size (`int`): K of each tokenizer.
        audio_code_dim, visual_code_dim (`int`): d, numbers per embedded code. `codes per tube * d` is the width of the
            transformer and must be the same for both modalities.
        num_hidden_layers, num_attention_heads, mlp_ratio, hidden_act, layer_norm_eps: the encoder's blocks.
        decoder_num_hidden_layers, decoder_num_attention_heads: the decoder's blocks.
        encoder_fusion, decoder_fusion (`"self"` or `"cross"`): one stack over [visual; audio], or one stack per modality
            after a cross-attention to both.
        position_embedding (`"learned"`, `"sinusoidal"` or `"space_time"`): one vector per tube. Sinusoids are of the number
            of a tube in its modality, or of its time and its place. With the latter, what is heard and seen at the same time
            has half of its position in common; the others have to learn that.
        matched_attention_init (`bool`): start with equal queries and keys in every self-attention, so that tubes first look
            at tubes like themselves, in content, time and place, and not anywhere: with little to learn from, it may decide
            whether anything is learned (in the spirit of Trockman & Kolter 2023, mimetic initialization).
        code_embedding (`"learned"` or `"tokenizer"`): a table of its own, or the frozen codebooks of the tokenizers.
        global_representation (`"attention_pooling"`, `"cls_token"` or `None`): how one vector per modality is made.
        dirichlet_alpha (`(visual, audio)`): the masking ratios are drawn from Dirichlet(alpha) and sum to 1.
        coupled_masking (`bool`): `False` draws each of the two ratios on its own, from the distribution that it has there,
            so that both modalities may be hidden at once: a model that is to be asked about one with and without the
            other must have known both.
        mask_ratio (`float`, `(visual, audio)` or `None`): fixed ratios of hidden tubes instead of drawn ones. A model of
            one modality has nothing to couple and defaults to 0.5.
        mask_strategy (`"random"`, `"frame"` or `"frequency"`): hide single tubes, whole time steps, or one frequency band
            (audio) or image position (visual) at all times.
        contrastive (`bool`), contrastive_temperature (`float`): the InfoNCE term between the two global vectors.
        visual_loss_weight, audio_loss_weight, contrastive_loss_weight (`float`): weights of the three terms.
        classifier_pooling (`"mean"`, `"temporal_mean"`, `"attention"` or `"query2emo"`): the head; see
            [`VQMAEForAudioVisualClassification`].
        classifier_loss (`"asymmetric"` or `"cross_entropy"`): what it is trained by.
        query2emo_num_attention_heads, query2emo_intermediate_size, query2emo_dropout: the transformer of that head.
        audio_tokenizer_config, visual_tokenizer_config: sub-configurations; without them the model takes codes only.
        freeze_tokenizers (`bool`): keep the tokenizers in evaluation mode and out of the gradient.
    """

    model_type = "vqmae"
    sub_configs = {  # noqa: RUF012 - a class attribute of every transformers configuration, never changed
        "audio_tokenizer_config": AudioVQVAEConfig,
        "visual_tokenizer_config": VisualVQVAEConfig,
    }

    modalities: tuple[str, ...] | list[str] = ("audio", "visual")
    audio_num_spectra: int = 100
    audio_codes_per_spectrum: int = 64
    audio_tube_size: tuple[int, ...] | list[int] = (10, 4)
    audio_codebook_size: int = 256
    audio_code_dim: int = 8
    visual_num_frames: int = 50
    visual_codes_per_side: int = 24
    visual_tube_size: tuple[int, ...] | list[int] = (5, 4, 4)
    visual_codebook_size: int = 512
    visual_code_dim: int = 4
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    mlp_ratio: float | int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float | int = 1e-5
    initializer_range: float | int = 0.02
    decoder_num_hidden_layers: int = 4
    decoder_num_attention_heads: int = 4
    encoder_fusion: Literal["self", "cross"] = "self"
    decoder_fusion: Literal["self", "cross"] = "self"
    position_embedding: Literal["learned", "sinusoidal", "space_time"] = "learned"
    matched_attention_init: bool = False
    code_embedding: Literal["learned", "tokenizer"] = "learned"
    global_representation: Literal["attention_pooling", "cls_token"] | None = "attention_pooling"
    dirichlet_alpha: tuple[float | int, ...] | list[float | int] = (1.0, 1.0)
    coupled_masking: bool = True
    mask_ratio: float | int | tuple[float | int, ...] | list[float | int] | None = None
    mask_strategy: Literal["random", "frame", "frequency"] = "random"
    contrastive: bool = True
    contrastive_temperature: float | int = 0.5
    visual_loss_weight: float | int = 1.0
    audio_loss_weight: float | int = 1.0
    contrastive_loss_weight: float | int = 1.0
    classifier_pooling: Literal["mean", "temporal_mean", "attention", "query2emo"] = "attention"
    classifier_loss: Literal["asymmetric", "cross_entropy"] = "asymmetric"
    query2emo_num_attention_heads: int = 8
    query2emo_intermediate_size: int = 2048
    query2emo_dropout: float | int = 0.1
    audio_tokenizer_config: dict[str, Any] | PreTrainedConfig | None = None
    visual_tokenizer_config: dict[str, Any] | PreTrainedConfig | None = None
    freeze_tokenizers: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        self.build_sub_configs()
        if len(self.modalities) == 1:
            self.contrastive = False
            self.mask_ratio = 0.5 if self.mask_ratio is None else self.mask_ratio
        # Outputs which Trainer's evaluation would otherwise collect over the whole data set.
        self.keys_to_ignore_at_inference = kwargs.pop(
            "keys_to_ignore_at_inference",
            ["hidden_states", "attentions", "visual_mask", "audio_mask", "visual_logits", "audio_logits"],
        )
        super().__post_init__(**kwargs)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "VQMAEConfig":
        """
        The configuration called `"self-6"`, `"self-12"`, `"cross-6"`, `"cross-12"` (the paper's), `"speech-6"`,
        `"speech-12"` ([S]) or `"tiny"` (tests, quickstart); `overrides` win.
        """
        if name not in VQMAE_PRESETS:
            raise ValueError(f"preset {name!r} is unknown; VQMAEConfig has {sorted(VQMAE_PRESETS)}.")
        return cls(**{**VQMAE_PRESETS[name], **overrides})

    # ---- derived sizes: an inconsistent set cannot be written down ----

    @property
    def audio_grid(self) -> tuple[int, int]:
        """Tubes of a window along time and along frequency: (10, 16) in [AV]."""
        return (
            self.audio_num_spectra // self.audio_tube_size[0],
            self.audio_codes_per_spectrum // self.audio_tube_size[1],
        )

    @property
    def visual_grid(self) -> tuple[int, int, int]:
        """Tubes of a window along time, rows and columns: (10, 6, 6) in [AV]."""
        frames, rows, columns = self.visual_tube_size
        side = self.visual_codes_per_side
        return (self.visual_num_frames // frames, side // rows, side // columns)

    def tube_duration(self, modality: str) -> float:
        """How long a tube lasts, in frames of the picture; in spectra, for a model that sees none."""
        if modality == "visual":
            return self.visual_tube_size[0]
        both = len(self.modalities) == 2
        return self.audio_tube_size[0] * (self.visual_num_frames / self.audio_num_spectra if both else 1)

    @property
    def num_audio_places(self) -> int:
        """Tubes of one moment of the voice, bands of frequencies: 16 in [AV]."""
        return prod(self.audio_grid[1:])

    @property
    def num_visual_places(self) -> int:
        """Tubes of one moment of the face, parts of the picture: 36 in [AV]."""
        return prod(self.visual_grid[1:])

    @property
    def num_audio_tubes(self) -> int:
        """L of the audio modality: 160 in [AV]."""
        return prod(self.audio_grid)

    @property
    def num_visual_tubes(self) -> int:
        """L of the visual modality: 360 in [AV]."""
        return prod(self.visual_grid)

    @property
    def codes_per_audio_tube(self) -> int:
        """P of the audio modality: 40 in [AV]."""
        return prod(self.audio_tube_size)

    @property
    def codes_per_visual_tube(self) -> int:
        """P of the visual modality: 80 in [AV]."""
        return prod(self.visual_tube_size)

    @property
    def hidden_size(self) -> int:
        """D, the width: codes per tube times numbers per code; 320 in [AV]."""
        if "visual" in self.modalities:
            return self.codes_per_visual_tube * self.visual_code_dim
        return self.codes_per_audio_tube * self.audio_code_dim

    @property
    def intermediate_size(self) -> int:
        """Inner width of the blocks' MLP."""
        return int(self.hidden_size * self.mlp_ratio)

    # ---- validation ----

    def validate_architecture(self) -> None:
        super().validate_architecture()
        problems = self._modality_problems()
        if not problems:
            problems = [*self._size_problems(), *self._tube_problems(), *self._width_problems()]
        problems += [*self._tokenizer_problems(), *self._training_problems()]
        raise_problems(self, problems)

    def _modality_problems(self) -> list[str]:
        problems = []
        if not self.modalities or set(self.modalities) - {"audio", "visual"}:
            problems.append(f"modalities={tuple(self.modalities)} must name 'audio', 'visual' or both")
        elif len(set(self.modalities)) != len(self.modalities):
            problems.append(f"modalities={tuple(self.modalities)} names one twice")
        if len(self.audio_tube_size) != 2 or min(self.audio_tube_size, default=0) < 1:
            problems.append(f"audio_tube_size={self.audio_tube_size} must be (spectra, codes), both positive")
        if len(self.visual_tube_size) != 3 or min(self.visual_tube_size, default=0) < 1:
            problems.append(f"visual_tube_size={self.visual_tube_size} must be (frames, rows, columns), all positive")
        return problems

    def _size_problems(self) -> list[str]:
        positive = ["num_hidden_layers", "decoder_num_hidden_layers", "mlp_ratio", "query2emo_intermediate_size"]
        positive += [f"{modality}_{size}" for modality in self.modalities for size in ("codebook_size", "code_dim")]
        problems = number_problems(self, positive, positive=True)
        if not problems and self.intermediate_size < 1:
            problems.append(
                f"mlp_ratio={self.mlp_ratio} of a width of {self.hidden_size} leaves the MLP without units"
            )
        return problems

    def _tube_problems(self) -> list[str]:
        extents: list[tuple[str, int, str]] = []
        if "audio" in self.modalities:
            extents += zip(
                ("audio_num_spectra", "audio_codes_per_spectrum"),
                self.audio_tube_size,
                ("spectra", "codes"),
                strict=True,
            )
        if "visual" in self.modalities:
            extents += zip(
                ("visual_num_frames", "visual_codes_per_side", "visual_codes_per_side"),
                self.visual_tube_size,
                ("frames", "rows", "columns"),
                strict=True,
            )
        return [
            f"{name}={getattr(self, name)} is not a positive multiple of the {tube} {unit} of a tube"
            for name, tube, unit in extents
            if getattr(self, name) < 1 or getattr(self, name) % tube
        ]

    def _width_problems(self) -> list[str]:
        problems = []
        audio_width = self.codes_per_audio_tube * self.audio_code_dim
        visual_width = self.codes_per_visual_tube * self.visual_code_dim
        if len(self.modalities) == 2 and audio_width != visual_width:
            problems.append(
                f"codes per tube times code dimension differ: audio {self.codes_per_audio_tube} x {self.audio_code_dim} "
                f"= {audio_width}, visual {self.codes_per_visual_tube} x {self.visual_code_dim} = {visual_width}; change "
                "a tube size (audio_tube_size, visual_tube_size) or a code dimension (audio_code_dim, visual_code_dim)"
            )
        heads = {"num_attention_heads", "decoder_num_attention_heads"}
        if self.classifier_pooling == "query2emo":
            heads.add("query2emo_num_attention_heads")
        problems += [
            f"{name}={getattr(self, name)} must divide the width {self.hidden_size}"
            for name in sorted(heads)
            if getattr(self, name) < 1 or self.hidden_size % getattr(self, name)
        ]
        if self.position_embedding == "sinusoidal" and self.hidden_size % 2:
            problems.append(f"position_embedding='sinusoidal' needs an even width, found {self.hidden_size}")
        if self.position_embedding == "space_time" and self.hidden_size % 8:
            # Half of it is for the time, a quarter for the row, of which half are sines.
            problems.append(
                f"position_embedding='space_time' needs a width that is a multiple of 8, found {self.hidden_size}"
            )
        return problems

    def _tokenizer_problems(self) -> list[str]:
        shared = {
            "audio": ("codebook_size", "codes_per_spectrum"),
            "visual": ("codebook_size", "codes_per_side"),
        }
        pairs = []
        for modality, fields in shared.items():
            tokenizer = getattr(self, f"{modality}_tokenizer_config")
            if tokenizer is not None:
                pairs += [(f"{modality}_{field}", getattr(tokenizer, field)) for field in fields]
        if self.code_embedding == "tokenizer":
            for modality in self.modalities:
                tokenizer = getattr(self, f"{modality}_tokenizer_config", None)
                if tokenizer is None:
                    return [f"code_embedding='tokenizer' needs {modality}_tokenizer_config; use 'learned' without one"]
                pairs.append((f"{modality}_code_dim", tokenizer.codebook_dim))
        return [
            f"{name}={getattr(self, name)}, but the tokenizer sub-configuration has {found} "
            f"({name.partition('_')[0]}_tokenizer_config); make them equal"
            for name, found in pairs
            if getattr(self, name) != found
        ]

    def _training_problems(self) -> list[str]:
        problems = []
        if "cross" in (self.encoder_fusion, self.decoder_fusion) and len(self.modalities) < 2:
            problems.append(
                f"'cross' fusion needs two modalities, found modalities={tuple(self.modalities)}; use 'self'"
            )
        if self.contrastive and self.global_representation is None:
            problems.append(
                "contrastive=True compares global representations; set global_representation or switch it off"
            )
        if self.classifier_pooling == "attention" and self.global_representation is None:
            problems.append(
                "classifier_pooling='attention' pools the global representations; set global_representation"
            )
        if len(self.dirichlet_alpha) != 2 or not all(alpha > 0 and isfinite(alpha) for alpha in self.dirichlet_alpha):
            problems.append(f"dirichlet_alpha={self.dirichlet_alpha} must be two positive numbers (visual, audio)")
        problems += number_problems(self, ["contrastive_temperature", "layer_norm_eps"], positive=True)
        weights = ("visual_loss_weight", "audio_loss_weight", "contrastive_loss_weight")
        problems += number_problems(self, ["initializer_range", *weights])
        if not 0 <= self.query2emo_dropout < 1:
            problems.append(f"query2emo_dropout={self.query2emo_dropout} must lie in [0, 1)")
        if self.hidden_act not in ACT2FN:
            problems.append(f"hidden_act={self.hidden_act!r} is unknown to transformers; 'gelu' is the papers'")
        if self.mask_ratio is not None:
            ratios = self.mask_ratio if isinstance(self.mask_ratio, (tuple, list)) else [self.mask_ratio]
            if len(ratios) not in (1, 2) or not all(0 <= ratio <= 1 for ratio in ratios):
                problems.append(f"mask_ratio={self.mask_ratio} must be one number or (visual, audio), within [0, 1]")
        return problems
