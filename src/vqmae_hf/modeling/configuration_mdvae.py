"""Configuration of MDVAE: the dynamical variational autoencoder of talking faces, and its unimodal kin."""

from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from .configuration_audio_vqvae import AudioVQVAEConfig, number_problems, raise_problems
from .configuration_base import CheckpointConfig
from .configuration_visual_vqvae import VisualVQVAEConfig

Sizes = tuple[int, ...] | list[int]

LATENTS = ("w", "z_av", "z_a", "z_v")

MDVAE_PRESETS: dict[str, dict[str, Any]] = {
    # The model of [MD]: 8.5 M parameters without tokenizers.
    "mdvae": {},
    # Fits the "tiny" tokenizers; for tests and the quickstart. Features of 256 numbers each.
    "tiny": {
        "audio_code_dim": 4,
        "visual_code_dim": 4,
        "w_size": 16,
        "z_av_size": 8,
        "z_a_size": 4,
        "z_v_size": 4,
        "visual_embedding_sizes": (128, 64),
        "static_history_size": 32,
        "w_posterior_sizes": (32,),
        "history_size": 32,
        "z_av_posterior_sizes": (64, 32),
        "z_a_posterior_sizes": (32, 16),
        "z_v_posterior_sizes": (64, 32),
        "z_av_prior_sizes": (16,),
        "z_a_prior_sizes": (16,),
        "z_v_prior_sizes": (16,),
        "audio_decoder_sizes": (64, 128),
        "visual_decoder_sizes": (64, 128),
    },
}


@strict
class MDVAEConfig(CheckpointConfig):
    r"""
    Sizes and choices of an [`MDVAEModel`] ([MD]). The defaults are the paper's.

    Args:
        modalities (`tuple[str, ...]`): `"audio"`, `"visual"` or both. A model of one modality has w and that modality's
            dynamic latent alone: the unimodal variational autoencoder that [MD] compares with.
        num_frames (`int`): frames of the training window; 30 are 1 s. The model itself takes any length.
        audio_codes_per_spectrum, audio_code_dim (`int`): their product is the length of the audio features.
        visual_codes_per_side, visual_code_dim (`int`): square of the first times the second is that of the visual ones.
        w_size (`int`): numbers of the static latent w.
        z_av_size, z_a_size, z_v_size (`int`): numbers per frame of the shared, the audio and the visual latent.
        visual_embedding_sizes (`tuple[int, ...]`): layers that reduce the visual features before inference.
        static_history_size (`int`): state of each direction of the recurrence behind w.
        w_sees_mean (`bool`): whether the inference of w is given, besides the last states of its recurrence, the mean of the
            features over the clip, which a small recurrence remembers badly; not so in [MD].
        history_size (`int`): state of the recurrence over the past of each dynamic latent.
        w_posterior_sizes, z_av_posterior_sizes, z_a_posterior_sizes, z_v_posterior_sizes (`tuple[int, ...]`): hidden layers
            of the inference networks.
        z_av_prior_sizes, z_a_prior_sizes, z_v_prior_sizes (`tuple[int, ...]`): hidden layers of the priors.
        audio_decoder_sizes, visual_decoder_sizes (`tuple[int, ...]`): hidden layers of the decoders.
        audio_reconstruction_loss, visual_reconstruction_loss (`"squared_error"` or `"itakura_saito"`): the second for
            features that are never negative, such as power spectra; its decoder ends in an exponential.
        audio_feature_scale, visual_feature_scale (`float`): what the features are divided by before inference, and their
            errors in the loss; 1 in [MD].
        audio_loss_weight, visual_loss_weight (`float`): factors on the reconstruction terms; 1 in [MD].
        audio_movement_weight, visual_movement_weight (`float`): how often squared errors of what changes within the window
            count, where errors that all its frames share count once; 1 in [MD]. Faces differ more from each other than a
            mouth that opens differs from one that is closed: above 1, mouths move. Nearly all that changes in sound is
            speech: below 1, w is paid for what a voice keeps.
        kl_weight (`float`): beta, weight of the Kullback-Leibler terms.
        w_kl_weight, z_av_kl_weight, z_a_kl_weight, z_v_kl_weight (`float`): further factors on the term of each latent, 1 in
            [MD]. The objective of [MD] takes w's divergence per clip and everything else per frame; 1 / `num_frames` for w
            makes it the evidence lower bound. Between 1 and 2 for z_av, what both modalities need is cheapest there and
            what one needs is cheaper in its own latent.
        free_bits (`float`): bits per number of a latent that cost nothing (mean over clips and frames); 0 in [MD].
        classifier_loss (`"asymmetric"` or `"cross_entropy"`): of the classification head.
        freeze_encoder (`bool`): whether the classification head alone is trained.
        audio_tokenizer_config, visual_tokenizer_config: sub-configurations; without them the model takes features only.
        freeze_tokenizers (`bool`): keep the tokenizers in evaluation mode and out of the gradient.
    """

    model_type = "mdvae"
    sub_configs = {  # noqa: RUF012 - a class attribute of every transformers configuration, never changed
        "audio_tokenizer_config": AudioVQVAEConfig,
        "visual_tokenizer_config": VisualVQVAEConfig,
    }

    modalities: tuple[str, ...] | list[str] = ("audio", "visual")
    num_frames: int = 30
    audio_codes_per_spectrum: int = 64
    audio_code_dim: int = 8
    visual_codes_per_side: int = 8
    visual_code_dim: int = 32
    w_size: int = 84
    z_av_size: int = 16
    z_a_size: int = 8
    z_v_size: int = 4
    visual_embedding_sizes: Sizes = (1024, 512)
    static_history_size: int = 256
    w_sees_mean: bool = False
    history_size: int = 128
    w_posterior_sizes: Sizes = (256,)
    z_av_posterior_sizes: Sizes = (256, 128)
    z_a_posterior_sizes: Sizes = (128, 32)
    z_v_posterior_sizes: Sizes = (256, 128)
    z_av_prior_sizes: Sizes = (64,)
    z_a_prior_sizes: Sizes = (32,)
    z_v_prior_sizes: Sizes = (64,)
    audio_decoder_sizes: Sizes = (128, 256)
    visual_decoder_sizes: Sizes = (512, 1024)
    audio_reconstruction_loss: Literal["squared_error", "itakura_saito"] = "squared_error"
    visual_reconstruction_loss: Literal["squared_error", "itakura_saito"] = "squared_error"
    audio_feature_scale: float | int = 1.0
    visual_feature_scale: float | int = 1.0
    audio_loss_weight: float | int = 1.0
    visual_loss_weight: float | int = 1.0
    audio_movement_weight: float | int = 1.0
    visual_movement_weight: float | int = 1.0
    kl_weight: float | int = 1.0
    w_kl_weight: float | int = 1.0
    z_av_kl_weight: float | int = 1.0
    z_a_kl_weight: float | int = 1.0
    z_v_kl_weight: float | int = 1.0
    free_bits: float | int = 0.0
    classifier_loss: Literal["asymmetric", "cross_entropy"] = "asymmetric"
    freeze_encoder: bool = False
    audio_tokenizer_config: dict[str, Any] | PreTrainedConfig | None = None
    visual_tokenizer_config: dict[str, Any] | PreTrainedConfig | None = None
    freeze_tokenizers: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        self.build_sub_configs()
        # Outputs which Trainer's evaluation would otherwise collect over the whole data set.
        self.keys_to_ignore_at_inference = kwargs.pop(
            "keys_to_ignore_at_inference", ["audio_features", "visual_features", "encoding"]
        )
        super().__post_init__(**kwargs)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "MDVAEConfig":
        """The configuration of the paper's model, `"mdvae"`, or of the small `"tiny"`; `overrides` win."""
        if name not in MDVAE_PRESETS:
            raise ValueError(f"preset {name!r} is unknown; MDVAEConfig has {sorted(MDVAE_PRESETS)}.")
        return cls(**{**MDVAE_PRESETS[name], **overrides})

    # ---- derived sizes ----

    @property
    def audio_num_spectra(self) -> int:
        """Spectra of the training window: one per frame."""
        return self.num_frames

    @property
    def visual_num_frames(self) -> int:
        """Frames of the training window."""
        return self.num_frames

    @property
    def audio_feature_size(self) -> int:
        """Numbers of the audio features of a frame: 64 codes of 8 are 512 in [MD]."""
        return self.audio_codes_per_spectrum * self.audio_code_dim

    @property
    def visual_feature_size(self) -> int:
        """Numbers of the visual features of a frame: 8 x 8 codes of 32 are 2048 in [MD]."""
        return self.visual_codes_per_side**2 * self.visual_code_dim

    @property
    def dynamic_latents(self) -> tuple[str, ...]:
        """Names of the latents of each frame, in the order of their inference."""
        if len(self.modalities) == 2:
            return ("z_av", "z_a", "z_v")
        return ("z_a",) if "audio" in self.modalities else ("z_v",)

    @property
    def hidden_size(self) -> int:
        """Width of what a clip is classified by: the size of w."""
        return self.w_size

    # ---- validation ----

    def validate_architecture(self) -> None:
        super().validate_architecture()
        problems = [*self._size_problems(), *self._tokenizer_problems()]
        if not self.modalities or not set(self.modalities) <= {"audio", "visual"}:
            problems.append(f"modalities={tuple(self.modalities)} must name 'audio', 'visual' or both")
        elif len(set(self.modalities)) != len(self.modalities):
            problems.append(f"modalities={tuple(self.modalities)} names one twice")
        problems += number_problems(self, ["kl_weight", *(f"{latent}_kl_weight" for latent in LATENTS), "free_bits"])
        problems += number_problems(self, ["audio_feature_scale", "visual_feature_scale"], positive=True)
        problems += self._movement_problems()
        raise_problems(self, problems)

    def _movement_problems(self) -> list[str]:
        names = [f"{modality}_movement_weight" for modality in ("audio", "visual")]
        problems = number_problems(self, names)
        return problems + [
            f"{name}={getattr(self, name)} is of squared errors only; leave it 1 where {modality}_reconstruction_loss is "
            "'itakura_saito'"
            for name, modality in zip(names, ("audio", "visual"), strict=True)
            if getattr(self, name) != 1 and getattr(self, f"{modality}_reconstruction_loss") != "squared_error"
        ]

    def _size_problems(self) -> list[str]:
        single = ["num_frames", "static_history_size", "history_size", "w_size", "z_av_size", "z_a_size", "z_v_size"]
        single += ["audio_codes_per_spectrum", "audio_code_dim", "visual_codes_per_side", "visual_code_dim"]
        problems = [f"{name}={getattr(self, name)} must be positive" for name in single if getattr(self, name) < 1]
        layers = ["visual_embedding_sizes", "w_posterior_sizes", "audio_decoder_sizes", "visual_decoder_sizes"]
        layers += [f"{latent}_{part}_sizes" for latent in ("z_av", "z_a", "z_v") for part in ("posterior", "prior")]
        problems += [
            f"{name}={getattr(self, name)} must be at least one positive number"
            for name in layers
            if not getattr(self, name) or min(getattr(self, name)) < 1
        ]
        if len(self.z_a_posterior_sizes) != len(self.z_v_posterior_sizes):
            problems.append(
                f"z_a_posterior_sizes={self.z_a_posterior_sizes} and z_v_posterior_sizes={self.z_v_posterior_sizes} must be "
                "equally many layers: both latents are inferred together"
            )
        return problems

    def _tokenizer_problems(self) -> list[str]:
        pairs = []
        if self.audio_tokenizer_config is not None:
            audio: Any = self.audio_tokenizer_config
            pairs += [("audio_codes_per_spectrum", audio.codes_per_spectrum), ("audio_code_dim", audio.codebook_dim)]
        if self.visual_tokenizer_config is not None:
            visual: Any = self.visual_tokenizer_config
            pairs += [("visual_codes_per_side", visual.codes_per_side), ("visual_code_dim", visual.codebook_dim)]
        return [
            f"{name}={getattr(self, name)}, but the tokenizer sub-configuration has {found} "
            f"({name.partition('_')[0]}_tokenizer_config); make them equal"
            for name, found in pairs
            if getattr(self, name) != found
        ]
