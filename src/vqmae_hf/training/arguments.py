"""Arguments of the training programs: `transformers.TrainingArguments` with this project's defaults, plus each stage's own.

Every argument states its unit. Values come, in this order, from the defaults, a recipe (`--recipe`, see `recipes.py`)
and the command line or keyword arguments. What is wrong with them is reported all at once.
"""
# ruff: noqa: RUF009 - `option` makes a dataclass field

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from transformers import IntervalStrategy, TrainingArguments

from vqmae_hf.data.corpora import corpus_names
from vqmae_hf.data.fixed_folds import FIXED_FOLDS
from vqmae_hf.data.speed_copies import speed_factor_problems

JSON_FIELDS = ("corpus_options", "clip_options", "model_overrides", "latent_starts")


def option(default: Any, help: str) -> Any:
    """A dataclass field with the text that `--help` shows."""
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"help": help})
    return field(default=default, metadata={"help": help})


def check_arguments(arguments: Any, problems: Sequence[str] = ()) -> None:
    """Read the fields that hold JSON, then report every problem, and those found before, at once.

    Raises:
        ValueError: a field that is no JSON object, or any of `arguments.problems()`.
    """
    problems = list(problems)
    for name in JSON_FIELDS:
        value = getattr(arguments, name, None)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except json.JSONDecodeError as error:
                problems.append(f"{name}={value!r} is not JSON: {error}")
            setattr(arguments, name, value)
        if value is not None and not isinstance(value, (dict, str)):
            problems.append(f"{name}={value!r} must be a JSON object")
    problems += arguments.problems()
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ValueError(f"{type(arguments).__name__}, {len(problems)} problem(s):\n{listed}")


@dataclass
class CorpusArguments:
    """Where the clips come from, and how they are cropped."""

    clips_dir: str | None = option(
        None, "Folder of prepared clips (decoded, faces cropped); made from the corpus if it is not there yet."
    )
    corpus: str | None = option(
        None, "Name of the corpus to prepare clips from ('videofolder' for any folder); None: clips_dir is there."
    )
    corpus_root: str | None = option(None, "Folder of the corpus.")
    corpus_options: dict | str | None = option(None, "Further options of the corpus loader, as JSON.")
    clip_options: dict | str | None = option(
        None, 'Further options of load_clip, as JSON, e.g. \'{"on_missing_face": "center"}\'.'
    )
    face_size: int = option(96, "Side of the square face crops, in pixels.")
    frames_per_second: float = option(25, "Frame rate of the clips, in Hz; 30 for MDVAE and its tokenizers.")
    preparation_processes: int = option(1, "Processes that decode clips.")

    def corpus_problems(self, needs_clips_dir: bool = True) -> list[str]:
        """What is wrong with these arguments, one sentence each."""
        problems = []
        if self.clips_dir is None and needs_clips_dir:
            problems.append("clips_dir is needed: the folder of prepared clips, or where they shall be put")
        if self.corpus is not None and self.corpus not in corpus_names():
            problems.append(f"corpus={self.corpus!r} is unknown; known: {corpus_names()}")
        if self.corpus is not None and self.corpus_root is None:
            problems.append(f"corpus_root is needed: the folder of the {self.corpus} corpus")
        if self.corpus is None and self.clips_dir is not None and not Path(self.clips_dir).is_dir():
            problems.append(f"clips_dir={self.clips_dir!r} is no folder; name corpus and corpus_root to make it")
        problems += [
            f"{name}={getattr(self, name)} must be positive"
            for name in ("face_size", "frames_per_second", "preparation_processes")
            if getattr(self, name) <= 0
        ]
        return problems


@dataclass
class SplitArguments:
    """Which speakers train, validate and test; the same in all programs, or test speakers leak."""

    validation_share: float = option(
        0.15, "Share of the speakers to validate on. With test_share 0 as well, no speaker is held out."
    )
    test_share: float = option(0.15, "Share of the speakers that no stage ever trains or validates on.")
    split_seed: int = option(0, "Seed of the deal of the speakers; the same in all stages, or test speakers leak.")
    num_folds: int = option(0, "Folds of a cross-validation in place of the shares; 0: use the shares.")
    folds: str | None = option(
        None, "Corpus whose fixed folds to run in place of these, 'ravdess' or 'crema_d'; the same in all stages."
    )
    fold: int = option(0, "The fold to run, counted from 0.")

    @property
    def trains_on_everyone(self) -> bool:
        """Whether no speaker is held out, for corpora whose speakers are not known or that are only pre-trained on."""
        return self.validation_share == 0 and self.test_share == 0 and not self.num_folds and self.folds is None

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of the speakers to train on, to validate on and to test on."""
        return 1 - self.validation_share - self.test_share, self.validation_share, self.test_share

    def split_problems(self) -> list[str]:
        """What is wrong with these arguments, one sentence each, with the remedy."""
        problems = self.fold_problems()
        if min(self.validation_share, self.test_share) < 0 or self.validation_share + self.test_share >= 1:
            problems.append(
                f"validation_share={self.validation_share} and test_share={self.test_share} must leave speakers to train on"
            )
        return problems

    def fold_problems(self) -> list[str]:
        """What is wrong with `folds`, `num_folds` and `fold`, one sentence each."""
        if self.folds is not None and self.folds not in FIXED_FOLDS:
            return [f"folds={self.folds!r} has no fixed folds, {sorted(FIXED_FOLDS)} have; others take num_folds"]
        if self.folds is not None and self.num_folds:
            return [f"folds={self.folds!r} and num_folds={self.num_folds} exclude each other; set one of them"]
        if self.folds is not None and not 0 <= self.fold < len(FIXED_FOLDS[self.folds]):
            return [f"fold={self.fold} of the {len(FIXED_FOLDS[self.folds])} folds of {self.folds}, counted from 0"]
        if self.num_folds and (self.num_folds < 3 or not 0 <= self.fold < self.num_folds):
            return [f"fold={self.fold} of num_folds={self.num_folds}: at least 3 folds, counted from 0"]
        return []


@dataclass
class StageArguments(SplitArguments, TrainingArguments):
    """What every stage takes.

    `transformers.TrainingArguments` plus the speaker split, resuming and pictures. Defaults differ where this project's
    habits do: evaluation and checkpoint every epoch, cosine decay after a warm-up, progress as text, JSON lines and
    TensorBoard (in `output_dir/tensorboard`, always; `report_to` adds others). `full_determinism` (of transformers) makes
    torch refuse operations without a deterministic form, so that two runs on one device agree to the bit, more slowly.
    """

    stage: ClassVar[str] = ""

    output_dir: str | None = option(None, "Folder of the checkpoints, the model, the metrics and the pictures.")
    recipe: str | None = option(
        None, "Packaged recipe (its name) or path of a YAML file whose values become defaults."
    )
    resume: bool = option(
        True, "Continue from the last checkpoint in output_dir; with --no_resume, checkpoints there are an error."
    )
    picture_clips: int = option(2, "Validation clips drawn at each evaluation; 0: no pictures.")

    eval_strategy: str = option("epoch", "When to validate: 'no', 'steps' or 'epoch'.")
    save_strategy: str = option("epoch", "When to save a checkpoint: 'no', 'steps', 'epoch' or 'best'.")
    save_total_limit: int | None = option(2, "Checkpoints kept, the newest (and the best); None: all.")
    logging_steps: float = option(10, "Optimizer steps between two logged averages.")
    lr_scheduler_type: str = option("cosine", "Learning rate after the warm-up.")
    warmup_steps: float = option(0.05, "Optimizer steps of linear warm-up; below 1, a share of all steps.")
    remove_unused_columns: bool = option(False, "Collators choose what the model gets; nothing is to be removed.")
    logging_nan_inf_filter: bool = option(False, "Hides divergence and waits for the device at every step; left off.")
    dataloader_pin_memory: bool = option(False, "Batches of codes are small.")

    def __post_init__(self) -> None:
        needed = "output_dir is needed: the folder of checkpoints, model, metrics and pictures"
        missing = [needed] if self.output_dir is None else []  # transformers would fill it
        # Or transformers refuses the bf16 of a recipe on a machine that has a CPU alone.
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()
        super().__post_init__()
        if self.trains_on_everyone:
            self.eval_strategy = IntervalStrategy.NO
        check_arguments(self, missing)

    def problems(self) -> list[str]:
        """What is wrong with the arguments, one sentence each, with the remedy."""
        problems = []
        if self.dataloader_persistent_workers:
            problems.append(
                "dataloader_persistent_workers repeats the same random windows in every epoch; leave it off"
            )
        if self.label_smoothing_factor:
            problems.append("label_smoothing_factor must be 0; smoothing is part of the classifier's own loss")
        problems += self.split_problems()
        if self.picture_clips < 0:
            problems.append(f"picture_clips={self.picture_clips} cannot be negative")
        return problems


@dataclass
class TokenizerArguments(CorpusArguments, StageArguments):
    """What both tokenizer stages take."""

    model_preset: str = option("vqmae", "Sizes of the tokenizer: 'vqmae', 'mdvae' or 'tiny'.")
    model_overrides: dict | str | None = option(None, "Configuration fields that replace the preset's, as JSON.")
    learning_rate: float = option(1e-3, "Peak learning rate of Adam.")
    num_train_epochs: float = option(100, "Visits to each clip.")
    codebook_start: Literal["sample", "kmeans"] = option(
        "sample", "First code vectors: latents drawn from a batch of the untrained encoder, or their k-means centres."
    )

    def problems(self) -> list[str]:
        return [*super().problems(), *self.corpus_problems()]


@dataclass
class AudioTokenizerArguments(TokenizerArguments):
    """Arguments of `python -m vqmae_hf.training.train_audio_tokenizer`."""

    stage: ClassVar[str] = "audio_tokenizer"

    label_names: list[str] | None = option(["audio_values"], "The input that is its own target.")
    hop_length: int = option(320, "Samples from one spectrum to the next; 533 for the audio tokenizer of MDVAE.")
    spectra_per_clip: int = option(100, "Spectra drawn from a clip at each visit; the batch is this times the clips.")
    per_device_train_batch_size: int = option(16, "Clips in a batch, on each device.")
    per_device_eval_batch_size: int = option(16, "Clips in a validation batch, on each device.")

    def problems(self) -> list[str]:
        few = [
            f"{name}={getattr(self, name)} must be positive"
            for name in ("spectra_per_clip", "hop_length")
            if getattr(self, name) < 1
        ]
        return [*super().problems(), *few]


@dataclass
class VisualTokenizerArguments(TokenizerArguments):
    """Arguments of `python -m vqmae_hf.training.train_visual_tokenizer`."""

    stage: ClassVar[str] = "visual_tokenizer"

    label_names: list[str] | None = option(["pixel_values_videos"], "The input that is its own target.")
    frames_per_clip: int = option(8, "Frames drawn from a clip at each visit; the batch is this times the clips.")
    per_device_train_batch_size: int = option(16, "Clips in a batch, on each device.")
    per_device_eval_batch_size: int = option(16, "Clips in a validation batch, on each device.")

    def problems(self) -> list[str]:
        few = [] if self.frames_per_clip > 0 else [f"frames_per_clip={self.frames_per_clip} must be positive"]
        return [*super().problems(), *few]


@dataclass
class TokenStageArguments(StageArguments):
    """What the two stages that train on codes take."""

    token_store: str | None = option(None, "Folder (or fsspec address) of the token store.")
    audio_tokenizer: str | None = option(None, "Checkpoint of the audio tokenizer that made the store's codes.")
    visual_tokenizer: str | None = option(None, "Checkpoint of the visual tokenizer that made the store's codes.")
    model_preset: str = option("cross-12", "Sizes of the VQ-MAE, see VQMAEConfig.from_preset.")
    model_overrides: dict | str | None = option(None, "Configuration fields that replace the preset's, as JSON.")
    adam_beta2: float = option(0.95, "AdamW's decay of squared gradients.")
    weight_decay: float = option(0.05, "AdamW's decay of weights.")
    muon: bool = option(
        False, "Muon in place of AdamW for the weight matrices of transformer blocks, at the same learning rate."
    )

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.token_store is None:
            problems.append("token_store is needed; make one with python -m vqmae_hf.training.tokenize_corpus")
        if self.muon and not hasattr(torch.optim, "Muon"):
            problems.append(
                f"muon needs torch 2.9 or newer, this is {torch.__version__}; install it, or leave muon out"
            )
        return problems


@dataclass
class PretrainArguments(TokenStageArguments):
    """Arguments of `python -m vqmae_hf.training.pretrain`."""

    stage: ClassVar[str] = "pretrain"

    learning_rate: float | None = option(  # type: ignore[assignment]
        None, "Peak learning rate of AdamW, for any batch; None: base_learning_rate says it."
    )
    base_learning_rate: float = option(
        1e-3, "Peak learning rate for 256 clips: without a learning_rate, this times the total batch / 256 is taken."
    )
    num_train_epochs: float = option(200, "Visits to each clip.")
    code_head_start: Literal["random", "codebook"] = option(
        "random", "First weights of the heads that name codes: small random ones, or the vectors that embed the codes."
    )
    per_device_train_batch_size: int = option(64, "Windows in a batch, on each device.")
    per_device_eval_batch_size: int = option(64, "Windows in a validation batch, on each device.")
    stream: bool = option(
        False, "Read the store shard by shard while training, without a copy on this machine; needs max_steps."
    )
    streamed_validation_clips: int = option(2048, "Validation clips that a streaming run keeps in memory, at most.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.learning_rate is None:
            clips = self.train_batch_size * self.gradient_accumulation_steps * self.world_size
            self.learning_rate = self.base_learning_rate * clips / 256

    def problems(self) -> list[str]:
        problems = super().problems()
        if self.audio_tokenizer is None and self.visual_tokenizer is None:
            problems.append("audio_tokenizer and visual_tokenizer are both missing; the model keeps them inside")
        if self.stream and self.max_steps <= 0:
            problems.append("max_steps is needed with stream: the stream has no end")
        if self.stream and self.num_folds:
            problems.append(
                "num_folds and stream exclude each other; hold speakers out by validation_share, test_share"
            )
        return problems


@dataclass
class FinetuneArguments(TokenStageArguments):
    """Arguments of `python -m vqmae_hf.training.finetune`."""

    stage: ClassVar[str] = "finetune"

    pretrained: str | None = option(
        None, "Checkpoint of pre-training to start from; None: from scratch, with model_preset and the tokenizers."
    )
    modalities: list[str] = option(["audio", "visual"], "What the classifier is trained on: audio, visual or both.")
    classifier_pooling: str | None = option(
        None, "'mean', 'temporal_mean', 'attention' or 'query2emo'; None: what the checkpoint or the preset says."
    )
    classifier_loss: str | None = option(
        None, "'asymmetric' or 'cross_entropy'; None: what the checkpoint or the preset says."
    )
    class_weights: Literal["none", "balanced"] = option(
        "none", "'balanced' weights each clip by the inverse frequency of its class in the training set."
    )
    modality_dropout: float = option(
        0.0,
        "Share of the training batches from which one of two modalities is left out, so that either will do alone.",
    )
    time_masking: float = option(
        0.0, "Share of the time steps of tubes hidden from each training clip, in each modality on its own."
    )
    tube_masking: float = option(
        0.0, "Share of the tubes hidden from the encoder in each training clip, in each modality; 0.5 halves its cost."
    )
    mixup_alpha: float = option(
        0.0, "Above 0: random tubes come from another clip of the batch, as many as a draw of Beta(alpha, alpha) says."
    )
    labelled_speakers: int = option(
        0, "Above 0: train on the labels of so many of the training speakers, drawn by split_seed; 0: of all."
    )
    label_share: float = option(1.0, "Share of the labelled training clips of each class to train on.")
    frozen_layers: int = option(0, "Layers of the encoder, from the input on, that stay as pre-training left them.")
    layer_decay: float = option(1.0, "Factor on the learning rate from each layer of the encoder to the one below it.")
    lora_rank: int = option(0, "Above 0: train low-rank updates of the encoder (LoRA, needs PEFT) and what is on top.")
    early_stopping_patience: int = option(
        0, "Stop after this many evaluations without a better one; 0: train to the end."
    )
    train_on_validation: bool = option(
        False,
        "Once all is chosen, train on the validation speakers too: nothing is validated, the last epoch is reported.",
    )
    learning_rate: float = option(1e-4, "Peak learning rate of AdamW.")
    num_train_epochs: float = option(50, "Visits to each clip.")
    per_device_train_batch_size: int = option(32, "Clips in a batch, on each device.")
    per_device_eval_batch_size: int = option(32, "Windows in a validation batch, on each device.")
    load_best_model_at_end: bool = option(True, "Report and save the epoch that was best on the validation speakers.")
    metric_for_best_model: str | None = option("eval_macro_f1", "What 'best' means.")
    greater_is_better: bool | None = option(True, "Whether the best is the greatest.")

    def __post_init__(self) -> None:
        if self.train_on_validation:
            # Nobody is left to choose an epoch by.
            self.eval_strategy, self.load_best_model_at_end = "no", False
            self.save_strategy = "epoch" if self.save_strategy == "best" else self.save_strategy
        super().__post_init__()

    def problems(self) -> list[str]:
        problems = super().problems()
        if (
            not self.modalities
            or set(self.modalities) - {"audio", "visual"}
            or len(set(self.modalities)) < len(self.modalities)
        ):
            problems.append(f"modalities={self.modalities} must be audio, visual or both")
        if self.trains_on_everyone or 0 in (self.validation_share, self.test_share):
            problems.append(
                "validation_share and test_share must be above 0: one selects the epoch, the other reports"
            )
        if self.pretrained is None and self.audio_tokenizer is None and self.visual_tokenizer is None:
            problems.append("pretrained is needed, or, to start from scratch, the tokenizers of the store")
        for name in ("modality_dropout", "time_masking", "tube_masking"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"{name}={getattr(self, name)} is a share, at least 0 and below 1")
        if self.modality_dropout and len(self.modalities) < 2:
            problems.append("modality_dropout needs two modalities; set it to 0")
        for name in ("label_share", "layer_decay"):
            if not 0 < getattr(self, name) <= 1:
                problems.append(f"{name}={getattr(self, name)} must be above 0 and at most 1")
        for name in ("labelled_speakers", "mixup_alpha", "frozen_layers", "lora_rank", "early_stopping_patience"):
            if getattr(self, name) < 0:
                problems.append(f"{name}={getattr(self, name)} must not be negative")
        if self.train_on_validation and self.early_stopping_patience:
            problems.append(
                "train_on_validation and early_stopping_patience exclude each other: nothing is validated any more"
            )
        if self.train_on_validation and (self.labelled_speakers or self.label_share < 1):
            problems.append(
                "train_on_validation gives all labels there are: leave out labelled_speakers and label_share, or it"
            )
        if self.lora_rank and self.layer_decay < 1:
            problems.append("lora_rank and layer_decay exclude each other: LoRA leaves the layers themselves alone")
        if self.lora_rank and self.muon:
            problems.append(
                "lora_rank and muon exclude each other: the updates of LoRA have two matrices, AdamW takes them"
            )
        return problems


@dataclass
class EncodingArguments(CorpusArguments):
    """What the two programs take that encode a corpus once. Without `clips_dir`, media go straight to the store."""

    recipe: str | None = option(
        None, "Packaged recipe (its name) or path of a YAML file whose values become defaults."
    )
    audio_tokenizer: str | None = option(None, "Checkpoint of the audio tokenizer; None: nothing of the sound.")
    visual_tokenizer: str | None = option(None, "Checkpoint of the visual tokenizer; None: nothing of the pictures.")
    clips_per_shard: int = option(256, "Clips in a file of the store; what an interruption costs at most.")
    num_processes: int = option(1, "Processes of each rank that decode and encode clips.")
    seconds_per_clip: float | None = option(
        None, "With more processes than one: a clip that takes longer is left out; None: wait for ever."
    )
    use_cpu: bool = option(False, "Encode on the CPU even where there is an accelerator.")

    store_argument: ClassVar[str] = ""

    def __post_init__(self) -> None:
        check_arguments(self)

    def problems(self) -> list[str]:
        """What is wrong with the arguments, one sentence each, with the remedy."""
        problems = self.corpus_problems(needs_clips_dir=self.corpus is None)
        if getattr(self, self.store_argument) is None:
            problems.append(f"{self.store_argument} is needed: the folder to write")
        if self.audio_tokenizer is None and self.visual_tokenizer is None:
            problems.append("audio_tokenizer and visual_tokenizer are both missing; name one or both checkpoints")
        for name in ("clips_per_shard", "num_processes"):
            if getattr(self, name) < 1:
                problems.append(f"{name}={getattr(self, name)} must be positive")
        if self.seconds_per_clip is not None and self.seconds_per_clip <= 0:
            problems.append(f"seconds_per_clip={self.seconds_per_clip} must be positive")
        return problems


@dataclass
class TokenizeArguments(EncodingArguments):
    """Arguments of `python -m vqmae_hf.training.tokenize_corpus`. Without `clips_dir`, a corpus goes straight to codes."""

    stage: ClassVar[str] = "tokenize"
    store_argument: ClassVar[str] = "token_store"

    token_store: str | None = option(None, "Folder of the token store to write.")
    speed_factors: list[float] | None = option(
        None,
        "Speeds at which to keep each clip, of sound alone, e.g. 0.9 1 1.1: training draws one of the copies in each epoch.",
    )

    def problems(self) -> list[str]:
        return [*super().problems(), *speed_factor_problems(self.speed_factors)]
