"""Arguments of the programs around MDVAE: making its latent store, and training it."""
# ruff: noqa: RUF009 - `option` makes a dataclass field

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar, Literal

from vqmae_hf.modeling.configuration_mdvae import LATENTS
from vqmae_hf.training.arguments import EncodingArguments, StageArguments, option


@dataclass
class EncodeArguments(EncodingArguments):
    """Arguments of `python -m vqmae_hf.training.encode_corpus`, which makes the latent store that MDVAE is trained on."""

    stage: ClassVar[str] = "encode"
    store_argument: ClassVar[str] = "latent_store"

    latent_store: str | None = option(None, "Folder of the latent store to write.")
    precision: Literal["float16", "float32"] = option(
        "float16", "Of the numbers in the store: half the size, or the tokenizers' every bit."
    )
    frames_per_second: float = option(30, "Frame rate of the clips, in Hz, with one spectrum for each frame.")
    clips_per_shard: int = option(64, "Clips in a file of the store; what an interruption costs at most.")


@dataclass
class MDVAEArguments(StageArguments):
    """Arguments of `python -m vqmae_hf.training.train_mdvae`."""

    stage: ClassVar[str] = "mdvae"

    latent_store: str | None = option(None, "Folder (or fsspec address) of the latent store.")
    audio_tokenizer: str | None = option(None, "Checkpoint of the audio tokenizer that made the store's latents.")
    visual_tokenizer: str | None = option(None, "Checkpoint of the visual tokenizer that made the store's latents.")
    model_preset: str = option("mdvae", "Sizes of the MDVAE, see MDVAEConfig.from_preset.")
    model_overrides: dict | str | None = option(None, "Configuration fields that replace the preset's, as JSON.")
    modalities: list[str] = option(
        ["audio", "visual"], "What the model hears and sees; one of them alone gives the unimodal model of that kind."
    )
    num_frames: int | None = option(None, "Frames of a training window; None: what the preset says, 30 (one second).")
    scale_features: bool = option(
        True,
        "Take features in units of their spread, and weigh their errors by how much they move within a clip, both among the "
        "training speakers, so that weights mean the same for every tokenizer; off: the tokenizers' own units, as in [MD].",
    )
    kl_weight: float = option(1.0, "Weight of the divergences, beta, after its warm-up.")
    kl_warmup_steps: float = option(
        0.0, "Optimizer steps over which the weight of the divergences grows from 0; below 1, a share of all steps."
    )
    latent_starts: dict | str | None = option(
        None,
        'When latents of frames begin to be learned, as shares of all steps, in JSON, e.g. {"z_av": 0.2, "z_a": 0.35}. '
        "Until then their divergences weigh 1000 times as much, then less and less for a tenth of the steps. What comes "
        "first learns all it can: w what a clip keeps, then z_av what sound and face share, then z_a the rest of the sound.",
    )
    free_bits: float = option(0.0, "Bits per number of a latent that cost nothing.")
    label_names: list[str] | None = option([], "Nothing but the input is predicted.")
    learning_rate: float = option(3e-4, "Peak learning rate of Adam.")
    num_train_epochs: float = option(200, "Visits to each clip.")
    per_device_train_batch_size: int = option(32, "Windows in a batch, on each device.")
    per_device_eval_batch_size: int = option(32, "Windows in a validation batch, on each device.")

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.latent_store is None:
            problems.append("latent_store is needed; make one with python -m vqmae_hf.training.encode_corpus")
        if not self.modalities or set(self.modalities) - {"audio", "visual"}:
            problems.append(f"modalities={self.modalities} must be audio, visual or both")
        for name in self.modalities:
            if getattr(self, f"{name}_tokenizer", "") is None:
                problems.append(f"{name}_tokenizer is missing; the model keeps it inside")
        for name in ("kl_weight", "kl_warmup_steps", "free_bits"):
            if getattr(self, name) < 0:
                problems.append(f"{name}={getattr(self, name)} must not be negative")
        starts = self.latent_starts if isinstance(self.latent_starts, dict) else {}
        if set(starts) - set(LATENTS[1:]) or not all(isinstance(at, Real) and 0 <= at < 1 for at in starts.values()):
            problems.append(
                f"latent_starts={starts} must give some of {LATENTS[1:]} a share of the steps, 0 to below 1"
            )
        if self.num_frames is not None and self.num_frames < 1:
            problems.append(f"num_frames={self.num_frames} must be positive")
        return problems
