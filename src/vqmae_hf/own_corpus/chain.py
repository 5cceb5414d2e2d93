"""The steps from a folder of clips to a classifier; each calls a public function, and goes on where it stopped."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PreTrainedModel

from vqmae_hf.data.clip_shards import ClipFailure, load_failures
from vqmae_hf.data.prepared_clips import prepare_clips
from vqmae_hf.data.shards import write_json
from vqmae_hf.data.tokenization import write_token_store
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor
from vqmae_hf.own_corpus.clips import OwnClips
from vqmae_hf.own_corpus.results import summarise
from vqmae_hf.training import finetune, train_audio_tokenizer, train_visual_tokenizer
from vqmae_hf.training.arguments import AudioTokenizerArguments, FinetuneArguments, VisualTokenizerArguments
from vqmae_hf.training.assembly import load_inner_tokenizers, processor_for_tokenizers
from vqmae_hf.training.finetune import FinetuneResult
from vqmae_hf.training.recipes import build_arguments
from vqmae_hf.training.stages import StageResult

logger = logging.getLogger(__name__)

RECIPE = "laptop"
FACE_SIZE = 64  # of the tokenizers of that recipe
DEFAULT_FOLDS = 5
HELD_OUT_SHARE = 0.2  # of the speakers, to choose the epoch by, and again to report on
# Visits to clips that fine-tuning from scratch takes, whatever their number, within these numbers of epochs.
CLIP_VISITS, FEWEST_EPOCHS, MOST_EPOCHS = 8000, 8, 40
# What tokenizers and clips need in common is decided before a clip is decoded.
CLIP_POLICIES = {"on_silence": "visual_only"}


@dataclass
class OwnCorpusResult:
    """What came out.

    Args:
        output_dir: folder of the model, `results.json`, `report.html`, and `work/`, which may be deleted.
        results: content of `results.json`, see `summarise`.
        failures: clips that could not be used, with reasons.
    """

    output_dir: Path
    results: dict[str, Any]
    failures: list[ClipFailure]


@dataclass
class OwnCorpusRun:
    """
    How to get from clips to a classifier.

    Args:
        own: the clips.
        output_dir: where everything goes.
        pretrained: a VQ-MAE checkpoint with tokenizers to start from; None: all is trained on the clips.
        num_folds: above 0, that many runs which together test every speaker once; 0: one run.
        seed: of the split and of the training.
        num_processes: that decode clips.
        clip_options: of `load_clip`.
        overrides: arguments of fine-tuning that replace what the recipe says.
        announce: told of every step.
    """

    own: OwnClips
    output_dir: Path
    pretrained: str | None = None
    num_folds: int = 0
    seed: int = 0
    num_processes: int = 1
    clip_options: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    announce: Callable[[str], None] = logger.info

    def __post_init__(self) -> None:
        self.given = load_inner_tokenizers(self.pretrained) if self.pretrained is not None else {}
        missing = set(self.own.modalities) - set(self.given)
        if self.pretrained is not None and missing:
            raise ValueError(
                f"{self.pretrained} has the tokenizers {sorted(self.given)} and none for {sorted(missing)}; choose another "
                f"checkpoint, or modalities among {sorted(self.given)}."
            )

    @property
    def work(self) -> Path:
        return self.output_dir / "work"

    @property
    def use_cpu(self) -> bool:
        """Small models are not worth a device that torch only half supports."""
        return not torch.cuda.is_available()

    def split_arguments(self, fold: int) -> dict[str, Any]:
        """The arguments of a stage that say who is tested in a run, seeds included."""
        shared = {"split_seed": self.seed, "seed": self.seed, "use_cpu": self.use_cpu}
        if self.num_folds:
            return {**shared, "num_folds": self.num_folds, "fold": fold}
        return {**shared, "validation_share": HELD_OUT_SHARE, "test_share": HELD_OUT_SHARE}

    def prepare(self) -> Dataset:
        """Faces found, followed and cut out; sound resampled."""
        self.announce("decoding clips and following faces")
        options: dict[str, Any] = {"modalities": self.own.modalities, "face_size": FACE_SIZE}
        if "visual" in self.given:
            options["face_size"] = self.given["visual"].config.image_size
        if "visual" in self.own.modalities:
            options.update(CLIP_POLICIES)
        options.update(self.clip_options)
        folder = self.work / "clips"
        return prepare_clips(self.own.clips, folder, num_processes=self.num_processes, **options)

    def tokenizers(self, fold: int) -> dict[str, PreTrainedModel]:
        """Those of the checkpoint, or ones trained on the training speakers of a run."""
        if self.given:
            return self.given
        programs: dict[str, tuple[Callable[..., StageResult], type]] = {
            "audio": (train_audio_tokenizer.run, AudioTokenizerArguments),
            "visual": (train_visual_tokenizer.run, VisualTokenizerArguments),
        }
        trained = {}
        for name in self.own.modalities:
            self.announce(f"learning codes of {'voices' if name == 'audio' else 'faces'}")
            run, argument_class = programs[name]
            arguments: Any = build_arguments(
                argument_class,
                recipe=RECIPE,
                output_dir=str(self.folder(fold) / f"{name}_tokenizer"),
                clips_dir=str(self.work / "clips"),
                **self.split_arguments(fold),
            )
            trained[name] = run(arguments).model
        return trained

    def tokenize(self, clips: Dataset, tokenizers: dict[str, PreTrainedModel], fold: int) -> Path:
        """Every clip as codes; once for all runs where the tokenizers are the same."""
        self.announce("turning clips into codes")
        store = (self.work if self.given else self.folder(fold)) / "tokens"
        used = {name: tokenizers[name].cpu() for name in self.own.modalities}
        write_token_store(
            clips,
            used.get("audio"),
            used.get("visual"),
            store,
            processor=processor_for_tokenizers(used),
        )
        return store

    def finetune(self, store: Path, fold: int) -> FinetuneResult:
        """The classifier of a run, reported on its test speakers."""
        self.announce("learning emotions")
        start: dict[str, Any] = {"pretrained": self.pretrained}
        if self.pretrained is None:
            start = {f"{name}_tokenizer": str(self.folder(fold) / f"{name}_tokenizer") for name in self.own.modalities}
            if len(self.own.modalities) == 1:
                overrides = {"modalities": list(self.own.modalities), "contrastive": False}
                start["model_overrides"] = {**overrides, "visual_codes_per_side": 16}
        arguments = {
            "recipe": RECIPE,
            "num_train_epochs": epochs_for(len(self.own.clips)),
            "modalities": list(self.own.modalities),
            **start,
            **self.split_arguments(fold),
            **self.overrides,
        }
        return finetune.run(
            build_arguments(
                FinetuneArguments,
                output_dir=str(self.folder(fold) / "emotion"),
                token_store=str(store),
                **arguments,
            )
        )

    def folder(self, fold: int) -> Path:
        return self.work / (f"fold-{fold}" if self.num_folds else "split")


def train_on_own_clips(
    own: OwnClips,
    output_dir: str | Path,
    *,
    pretrained: str | None = None,
    num_folds: int | None = None,
    seed: int = 0,
    num_processes: int = 1,
    clip_options: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    announce: Callable[[str], None] = logger.info,
) -> OwnCorpusResult:
    """Train a classifier on one's own clips, and find out how well it does on speakers that it has not met.

    Interrupted, the same call goes on where it stopped.

    Args:
        own: as of `open_own_clips`.
        output_dir: folder of the model (a checkpoint for the pipeline), `results.json`, `report.html` and `work/`.
        pretrained: folder or Hub id of a VQ-MAE with its tokenizers; its encoder is fine-tuned. None: tokenizers and encoder
            are trained on the clips, on the training speakers of each run alone.
        num_folds: runs which together test every speaker once; 0: one run that tests a fifth of them. None: up to five
            folds with `pretrained`, one run without, where every run has tokenizers of its own to train.
        seed: of the split and the training.
        num_processes: processes that decode clips.
        clip_options: of `load_clip`.
        overrides: of `FinetuneArguments`, such as `num_train_epochs`.
        announce: told of every step.

    Returns:
        Results on the test speakers of all runs. The model that is kept is that of the run which did best on its
        validation speakers; test speakers have no say.

    Raises:
        ValueError: fewer speakers than folds, arguments that do not fit, or what the steps refuse.
    """
    if num_folds is None:
        num_folds = min(DEFAULT_FOLDS, own.num_groups) if pretrained is not None else 0
    if num_folds and own.num_groups < max(num_folds, 3):
        raise ValueError(
            f"num_folds={num_folds}: there are {own.num_groups} {own.split_by} to deal; choose 3 to {own.num_groups}, or 0."
        )
    run = OwnCorpusRun(
        own,
        Path(output_dir),
        pretrained,
        num_folds,
        seed,
        num_processes,
        dict(clip_options or {}),
        dict(overrides or {}),
        announce,
    )
    run.output_dir.mkdir(parents=True, exist_ok=True)
    clips = run.prepare()
    failures = load_failures(run.work / "clips")
    outcomes = []
    for fold in range(max(num_folds, 1)):
        if num_folds:
            announce(f"fold {fold + 1} of {num_folds}")
        store = run.tokenize(clips, run.tokenizers(fold), fold)
        outcomes.append(run.finetune(store, fold))
    results = summarise(own, outcomes, clips, num_failures=len(failures), pretrained=pretrained)
    _publish(outcomes, run.output_dir)
    write_json(run.output_dir / "results.json", results)
    return OwnCorpusResult(run.output_dir, results, failures)


def epochs_for(num_clips: int) -> int:
    """Epochs of fine-tuning: few clips are visited more often."""
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, math.ceil(CLIP_VISITS / num_clips)))


def best_run(outcomes: Sequence[FinetuneResult]) -> int:
    """The run whose model is kept: the one that did best on its validation speakers."""
    return max(range(len(outcomes)), key=lambda i: outcomes[i].results["best_validation"])


def _publish(outcomes: Sequence[FinetuneResult], folder: Path) -> None:
    chosen = outcomes[best_run(outcomes)]
    chosen.model.save_pretrained(folder)
    VQMAEProcessor.from_pretrained(chosen.output_dir).save_pretrained(folder)
