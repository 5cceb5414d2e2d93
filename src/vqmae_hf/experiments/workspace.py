"""What the cells of an experiment share, made once: clips, tokenizers, codes, masked autoencoders.

Every step has a folder named by what it does and by a digest of what it is made from (its arguments and the folders of the
steps before it). So a run that is repeated goes on where it stopped, experiments share what they have in common, and a step
whose arguments have changed is another step. Processes may share a folder: what one of them is making, others wait for.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from filelock import FileLock
from pyarrow import parquet

from vqmae_hf.data.prepared_clips import load_prepared_clips
from vqmae_hf.data.shards import write_json
from vqmae_hf.data.speaker_deals import labelled_speakers
from vqmae_hf.data.splits import SPLIT_NAMES, check_split, corpus_folds, speaker_folds
from vqmae_hf.data.synthetic import write_synthetic_corpus
from vqmae_hf.data.token_store import shard_addresses
from vqmae_hf.data.token_subsets import write_token_subset
from vqmae_hf.experiments.experiment_file import STAGES, Experiment, System
from vqmae_hf.experiments.features import sound_features
from vqmae_hf.experiments.spectrogram_network import (
    SPEEDS,
    Spectrogram,
    log_mel_spectrograms,
    read_spectrograms,
    save_spectrograms,
)
from vqmae_hf.training import pretrain, tokenize_corpus, train_audio_tokenizer, train_visual_tokenizer
from vqmae_hf.training.arguments import CorpusArguments, PretrainArguments, TokenizeArguments
from vqmae_hf.training.recipes import build_arguments
from vqmae_hf.training.stages import open_clips

STEP_NAME = "step.json"
LOCKS_NAME = ".locks"
SPLIT_SEED = 0
# Pre-training does not vary with the seed of a cell: cells of all seeds start from one.
PRETRAINING_SEED = 0
TOKENIZER_PROGRAMS = {"audio": train_audio_tokenizer, "visual": train_visual_tokenizer}

Fold = dict[str, list[str]]


class Tokens(NamedTuple):
    """A token store and the tokenizers that made it, as arguments of the stages that train on codes."""

    token_store: str
    audio_tokenizer: str | None
    visual_tokenizer: str | None


class StepFolders:
    """A folder of steps, each of which is done once."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def once(self, kind: str, spec: Mapping[str, Any], make: Callable[[Path], Any]) -> Path:
        """The folder of what `make(folder)` leaves there, made unless it has been.

        Args:
            kind: what the step does; begins the folder's name.
            spec: JSON-like; everything that its outcome depends on.
            make: a function that goes on where an interrupted call stopped. No two processes are in it at the same time.
        """
        folder = self.folder / f"{kind}-{digest(spec)}"
        if (folder / STEP_NAME).exists():
            return folder / "made"
        with held_by_one(folder):
            if not (folder / STEP_NAME).exists():  # nor has it been made while this process waited
                start = time.perf_counter()
                make(folder / "made")
                seconds = round(time.perf_counter() - start, 1)
                write_json(folder / STEP_NAME, {"kind": kind, "spec": spec, "seconds": seconds})
        return folder / "made"

    def name_of(self, made: str | Path) -> str:
        """The name of a step's folder, or, of what no step has made, its path."""
        path = Path(made)
        return path.parent.name if path.name == "made" and path.parent.parent == self.folder else str(made)


class Workspace(StepFolders):
    """The shared steps of an experiment in a folder; several experiments may have the same one."""

    def __init__(self, experiment: Experiment, folder: str | Path):
        super().__init__(folder)
        self.experiment = experiment

    # ---- data ----

    @cached_property
    def clips_folder(self) -> Path:
        """Prepared clips: those that the file names, or made from its corpus."""
        data = self.experiment.data
        if data.get("clips_dir") is not None:
            return Path(data["clips_dir"])
        # Not the root: a corpus is the same wherever it lies.
        spec = {name: data.get(name) for name in ("corpus", "corpus_options", "clip_options", "face_size")}
        root = data.get("corpus_root")
        if root is None:
            parameters = data.get("synthetic") or {}
            root = self.once("corpus", parameters, lambda folder: write_synthetic_corpus(folder, **parameters))
            spec["made"] = root.parent.name
        return self.once("clips", spec, lambda folder: open_clips(self._corpus_arguments(folder, root)))

    def _corpus_arguments(self, folder: Path, root: str | Path) -> CorpusArguments:
        data = self.experiment.data
        given = {
            name: data[name] for name in ("corpus", "corpus_options", "clip_options", "face_size") if name in data
        }
        return CorpusArguments(clips_dir=str(folder), corpus_root=str(root), **given)

    @cached_property
    def clips(self) -> Dataset:
        """The prepared clips, which say who speaks and how."""
        return load_prepared_clips(self.clips_folder)

    @cached_property
    def folds(self) -> list[Fold]:
        """Speakers by part of each fold; the same deal as in the training programs.

        Raises:
            SplitLeakError: parts of a fold share a speaker or a recording.
            ValueError: a speaker that is tested in no fold or in several.
        """
        named = self.experiment.folds
        if isinstance(named, str):
            splits = corpus_folds(named, self.clips, num_folds=self.experiment.num_folds, seed=SPLIT_SEED)
        else:
            splits = speaker_folds(self.clips, num_folds=named, seed=SPLIT_SEED)
        for split in splits:
            check_split(split)
        folds = [{part: sorted(set(split[part]["speaker"])) for part in SPLIT_NAMES} for split in splits]
        tested = sorted(speaker for fold in folds for speaker in fold["test"])
        if tested != sorted(set(self.clips["speaker"])):
            raise ValueError(f"the folds test {tested}, which is not every speaker once; choose other folds.")
        return folds

    def classifier_fold(self, fold: int) -> Fold:
        """The speakers of a fold as classifiers have them: with `train_on_validation`, nobody is left to validate on.

        Tokenizers and masked autoencoders, whose recipes do not vary with the systems, have them as `folds` says.
        """
        speakers = self.folds[fold]
        if not self.experiment.train_on_validation:
            return speakers
        return {**speakers, "train": sorted([*speakers["train"], *speakers["validation"]]), "validation": []}

    def labelled_speakers(self, fold: int) -> list[str]:
        """The training speakers of a fold whose labels classifiers are given; the same as in `finetune`."""
        speakers, number = self.folds[fold]["train"], self.experiment.labelled_speakers
        return labelled_speakers(speakers, number, SPLIT_SEED) if number else speakers

    def split_arguments(self, fold: int) -> dict[str, Any]:
        """Arguments that make a training program deal the speakers as `folds` does."""
        named = self.experiment.folds
        kind = {"folds": named} if isinstance(named, str) else {"num_folds": named}
        return {**kind, "fold": fold, "split_seed": SPLIT_SEED}

    def sound_features(self, name: str) -> np.ndarray:
        """(N, F) features of all clips, in their order, kept on disk."""

        def make(folder: Path) -> None:
            folder.mkdir(exist_ok=True)
            np.save(folder / "features.npy", sound_features(name, self.clips))

        return np.load(self.once("features", {"features": name, "clips": self._clips_id}, make) / "features.npy")

    def spectrograms(self) -> list[list[Spectrogram]]:
        """`log_mel_spectrograms` of all clips, in their order, kept on disk."""

        def make(folder: Path) -> None:
            save_spectrograms(log_mel_spectrograms(self.clips), folder)

        spec = {"clips": self._clips_id, "speeds": SPEEDS}
        return read_spectrograms(self.once("spectrograms", spec, make))

    @property
    def _clips_id(self) -> str:
        """What tells these clips from others: the name of their step, or the path that the file gives."""
        return str(self.clips_folder) if self.experiment.data.get("clips_dir") else self.clips_folder.parent.name

    # ---- codes ----

    def tokens(self, fold: int) -> Tokens:
        """The codes of all clips, by tokenizers that were trained without the validation and test speakers of the fold, or
        by those that the file names."""
        tokenizers = {modality: self._tokenizer(modality, fold) for modality in self.experiment.modalities}
        named = {f"{modality}_tokenizer": folder for modality, folder in tokenizers.items()}
        speeds = self.experiment.data.get("speed_factors")
        options = {} if speeds is None else {"speed_factors": speeds}
        spec = {**{name: self.name_of(folder) for name, folder in named.items()}, "clips": self._clips_id, **options}

        def make(folder: Path) -> None:
            arguments = {"clips_dir": str(self.clips_folder), "token_store": str(folder), **named, **options}
            tokenize_corpus.run(build_arguments(TokenizeArguments, **arguments))

        store = str(self.once("tokens", spec, make))
        return Tokens(store, named.get("audio_tokenizer"), named.get("visual_tokenizer"))

    def _tokenizer(self, modality: str, fold: int) -> str:
        """A checkpoint that the file names, or one trained on the training speakers of the fold."""
        values = self.experiment.tokenizers[modality]
        if isinstance(values, str):
            return values
        spec = {"arguments": values, "clips": self._clips_id, **self.split_arguments(fold)}

        def make(folder: Path) -> None:
            arguments = build_arguments(
                STAGES[modality],
                clips_dir=str(self.clips_folder),
                output_dir=str(folder),
                **{**QUIET, **values},
                **self.split_arguments(fold),
            )
            TOKENIZER_PROGRAMS[modality].run(arguments)
            delete_checkpoints(folder)

        return str(self.once(f"{modality}-tokenizer", spec, make))

    def unlabelled_tokens(self, fold: int, share: float) -> Tokens:
        """The codes that pre-training may see: all clips, or a share of them, but those of the test speakers."""
        tokens = self.tokens(fold)
        clip_ids = self._clips_without_test(fold, tokens)
        if share < 1:
            draw = np.random.default_rng(PRETRAINING_SEED)
            clip_ids = draw.choice(clip_ids, max(1, round(share * len(clip_ids))), replace=False).tolist()
        spec = {"tokens": self.name_of(tokens.token_store), "clips": digest(sorted(clip_ids))}
        store = self.once("some-tokens", spec, lambda folder: write_token_subset(tokens.token_store, folder, clip_ids))
        return tokens._replace(token_store=str(store))

    def _clips_without_test(self, fold: int, tokens: Tokens) -> list[str]:
        """Clips of a store by the training and validation speakers of a fold, in alphabetical order."""
        known = {*self.folds[fold]["train"], *self.folds[fold]["validation"]}
        tables = (
            parquet.read_table(path, columns=["clip_id", "speaker"]) for path in shard_addresses(tokens.token_store)
        )
        # A set: a clip and its copies at other speeds have one name.
        return sorted({row["clip_id"] for table in tables for row in table.to_pylist() if row["speaker"] in known})

    # ---- networks ----

    def pretrained(self, system: System, fold: int) -> str | None:
        """The masked autoencoder that a system starts from, trained without labels and without the test speakers."""
        if system.pretraining is None:
            return None
        values = {name: value for name, value in system.pretraining.items() if name != "share"}
        tokens = self.unlabelled_tokens(fold, system.pretraining["share"])
        spec = {"arguments": values, "model": system.model, "tokens": self.name_of(tokens.token_store)}

        def make(folder: Path) -> None:
            arguments = build_arguments(
                PretrainArguments,
                output_dir=str(folder),
                validation_share=0.0,
                test_share=0.0,
                seed=PRETRAINING_SEED,
                **model_arguments(system),
                **tokens._asdict(),
                **{**QUIET, **values},
            )
            pretrain.run(arguments)
            delete_checkpoints(folder)

        return str(self.once("pretrained", spec, make))


@contextmanager
def held_by_one(folder: Path) -> Iterator[None]:
    """Makes a folder and holds it: another process that wants to hold it waits, and one that dies lets go.

    Raises:
        RuntimeError: in one of several processes of one run, which would wait for each other for ever.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RuntimeError(
            f"WORLD_SIZE={os.environ['WORLD_SIZE']}: an experiment is run by one process, or by several with cells of their "
            "own (`--only`), not under `accelerate launch` or `torchrun`; the training programs are."
        )
    folder.mkdir(parents=True, exist_ok=True)
    locks = folder.parent / LOCKS_NAME
    locks.mkdir(exist_ok=True)
    with FileLock(locks / folder.name):
        yield


# Curves and the last lines of a run say enough where hundreds run.
QUIET: dict[str, Any] = {"disable_tqdm": True, "picture_clips": 0, "report_to": "none", "save_total_limit": 1}


def model_arguments(system: System) -> dict[str, Any]:
    """Arguments of the stages that build a network."""
    return {"model_preset": system.model["preset"], "model_overrides": dict(system.model["overrides"])}


def delete_checkpoints(folder: Path) -> None:
    """Leave the final model of a finished stage alone."""
    for checkpoint in folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)


def digest(spec: Any) -> str:
    """Ten hexadecimal digits that stand for a JSON-like value."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()[:10]
