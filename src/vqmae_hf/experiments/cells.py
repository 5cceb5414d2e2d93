"""Cells: one system, trained on one fold with one seed, and its answers on the test speakers of the fold."""

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from vqmae_hf.data.shards import write_json
from vqmae_hf.data.token_store import load_token_store, read_token_store_info
from vqmae_hf.evaluation.clip_reports import clip_report
from vqmae_hf.experiments.environment import describe_environment
from vqmae_hf.experiments.experiment_file import Experiment, System
from vqmae_hf.experiments.features import SOUND_FEATURES, TOKENIZER_FEATURES, code_features
from vqmae_hf.experiments.reference_systems import (
    CLASSIFIERS,
    SELECTION,
    choose_classifier,
    class_scores,
    majority_probabilities,
)
from vqmae_hf.experiments.spectrogram_network import DEBUG_EPOCHS, SpectrogramNetwork
from vqmae_hf.experiments.workspace import QUIET, Workspace, digest, held_by_one, model_arguments
from vqmae_hf.training import finetune
from vqmae_hf.training.arguments import FinetuneArguments
from vqmae_hf.training.assembly import load_tokenizers
from vqmae_hf.training.recipes import build_arguments

CELL_NAME = "cell.json"
# What is kept of a fine-tuning; the weights can be made again.
KEPT_FILES = ("arguments.json", "log_history.jsonl", "metrics.json")


class ForeignSpeakersError(RuntimeError):
    """A system was trained or tested on other speakers than those of the fold."""


@dataclass(frozen=True)
class Cell:
    """A system, a fold counted from 0, and a seed; `str` is what `--only` is matched with."""

    system: System
    fold: int
    seed: int

    def __str__(self) -> str:
        return f"{self.system.name}/{self.fold}/{self.seed}"


def experiment_cells(experiment: Experiment, only: Sequence[str] = ()) -> list[Cell]:
    """The cells of an experiment, in the order in which they are run.

    Args:
        experiment: as of `load_experiment`.
        only: patterns of `system/fold/seed`, as of a shell ("scratch/*/0"); none: all cells.

    Raises:
        ValueError: a pattern that no cell matches.
    """
    cells = list(_all_cells(experiment))
    names = [str(cell) for cell in cells]
    for pattern in only:
        if not any(fnmatch(name, pattern) for name in names):
            raise ValueError(
                f"only={pattern!r} matches no cell of {experiment.name}; they are called system/fold/seed, with the systems "
                f"{list(experiment.systems)}, the folds 0 to {experiment.num_folds_run - 1} and the seeds "
                f"{experiment.seeds}."
            )
    return [cell for cell in cells if not only or any(fnmatch(str(cell), pattern) for pattern in only)]


def _all_cells(experiment: Experiment) -> Iterator[Cell]:
    for system in experiment.systems.values():
        for fold in range(experiment.num_folds_run):
            for seed in experiment.seeds_of(system):
                yield Cell(system, fold, seed)


def cell_folder(workspace: Workspace, cell: Cell) -> Path:
    """Where a cell is kept: by what it is made from, so that experiments share the cells that they have in common."""
    experiment = workspace.experiment
    plain = {name: value for name, value in asdict(cell.system).items() if name not in ("name", "title")}
    is_network = cell.system.kind == "network"
    # A corpus is the same wherever it lies, and copies at other speeds are for networks alone.
    of_no_matter = {"corpus_root"} if is_network else {"corpus_root", "speed_factors"}
    spec = {
        "system": plain,
        "modalities": experiment.modalities,
        "data": {name: value for name, value in experiment.data.items() if name not in of_no_matter},
        "tokenizers": experiment.tokenizers if is_network or _uses_codes(cell.system) else None,
        "folds": workspace.split_arguments(cell.fold),
    }
    if experiment.labelled_speakers:
        spec["labelled_speakers"] = experiment.labelled_speakers
    if experiment.train_on_validation:
        spec["train_on_validation"] = True
    return workspace.folder / "cells" / f"{cell.system.kind}-fold{cell.fold}-seed{cell.seed}-{digest(spec)}"


def read_cell(workspace: Workspace, cell: Cell) -> dict[str, Any] | None:
    """What `run_cell` has left, None before it has run."""
    path = cell_folder(workspace, cell) / CELL_NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def run_cell(workspace: Workspace, cell: Cell) -> dict[str, Any]:
    """Train and test a system, unless that has been done; what another process is training is waited for.

    Returns:
        The content of `cell.json`: `system`, `fold`, `seed`, `classes`, `speakers` by part, `best_validation` (the value of
        the metric that chose the epoch or C, None where neither was), `chosen` (C, where one was), `test` by what the
        system saw and heard ("audio+visual", "audio", ...; see `finetune.report_test`), `seconds`, `environment`.

    Raises:
        ForeignSpeakersError: the system was trained or tested on other speakers than those of the fold.
    """
    done = read_cell(workspace, cell)
    if done is not None:
        return done
    with held_by_one(cell_folder(workspace, cell)):
        return read_cell(workspace, cell) or _run_cell(workspace, cell)


def _run_cell(workspace: Workspace, cell: Cell) -> dict[str, Any]:
    answer = {
        "majority": _run_majority,
        **dict.fromkeys(CLASSIFIERS, _run_classifier),
        "spectrogram_network": _run_spectrogram_network,
        "network": _run_network,
    }
    start = time.perf_counter()
    outcome = answer[cell.system.kind](workspace, cell)
    check_speakers(outcome, workspace.classifier_fold(cell.fold), str(cell))
    result = {
        "system": asdict(cell.system),
        "fold": cell.fold,
        "seed": cell.seed,
        **outcome,
        # With the shared steps that this cell was the first to need.
        "seconds": round(time.perf_counter() - start, 1),
        "environment": describe_environment(),
    }
    write_json(cell_folder(workspace, cell) / CELL_NAME, result)
    return result


def check_speakers(outcome: dict[str, Any], fold: dict[str, list[str]], cell: str) -> None:
    """Whatever a system says it did, it did with the speakers of the fold; a share of the labels may be of fewer."""
    given = {part: set(outcome["speakers"][part]) for part in fold}
    answered = [{row["speaker"] for row in report["predictions"]} for report in outcome["test"].values()]
    right = given["train"] <= set(fold["train"]) and given["validation"] == set(fold["validation"])
    if not right or any(speakers != set(fold["test"]) for speakers in (given["test"], *answered)):
        raise ForeignSpeakersError(
            f"{cell} was given the speakers {outcome['speakers']} and answered for {answered}, but the fold has {fold}; "
            "start with an empty work_dir if the corpus has changed."
        )


def _uses_codes(system: System) -> bool:
    return system.kind in CLASSIFIERS and system.features not in SOUND_FEATURES


def _run_majority(workspace: Workspace, cell: Cell) -> dict[str, Any]:
    clips = workspace.clips
    train, validation, test = _parts(workspace, cell, clips)
    if workspace.experiment.train_on_validation:
        train = train + validation
    labels, names = np.asarray(clips["emotion"][:]), clips.features["emotion"].names
    probabilities = majority_probabilities(labels[train], len(names), len(test))
    return {
        "classes": names,
        "speakers": workspace.classifier_fold(cell.fold),
        "best_validation": None,
        "test": {"none": clip_report(clips.select(test), probabilities)},
    }


def _run_classifier(workspace: Workspace, cell: Cell) -> dict[str, Any]:
    clips, features = _features(workspace, cell)
    train, validation, test = _parts(workspace, cell, clips)
    labels, names = np.asarray(clips["emotion"][:]), clips.features["emotion"].names
    choice = choose_classifier(
        cell.system.kind,
        features[train],
        labels[train],
        features[validation],
        labels[validation],
        refit=workspace.experiment.train_on_validation,
    )
    scores = class_scores(choice, features[test], len(names))
    view = "+".join(workspace.experiment.modalities) if _uses_codes(cell.system) else "audio"
    return {
        "classes": names,
        "speakers": workspace.classifier_fold(cell.fold),
        "best_validation": choice.best_validation,
        "chosen": {"C": choice.strength},
        "test": {view: clip_report(clips.select(test), scores)},
    }


def _run_spectrogram_network(workspace: Workspace, cell: Cell) -> dict[str, Any]:
    clips, spectrograms = workspace.clips, workspace.spectrograms()
    train, validation, test = _parts(workspace, cell, clips)
    labels, names = np.asarray(clips["emotion"][:]), clips.features["emotion"].names
    epochs = DEBUG_EPOCHS if workspace.experiment.size == "debug" else None
    parts = {"validation": validation, "test": test}
    if workspace.experiment.train_on_validation:
        train = train + parts.pop("validation")
    network = SpectrogramNetwork(len(names), cell.seed, epochs)
    network.fit([spectrograms[i] for i in train], labels[train])
    said = {
        part: clip_report(clips.select(rows), network.probabilities([spectrograms[i] for i in rows]))
        for part, rows in parts.items()
    }
    return {
        "classes": names,
        "speakers": workspace.classifier_fold(cell.fold),
        # Of the last epoch; it chose nothing.
        "best_validation": said["validation"]["metrics"][SELECTION] if "validation" in said else None,
        "test": {"audio": said["test"]},
    }


def _parts(workspace: Workspace, cell: Cell, clips: Dataset) -> tuple[list[int], list[int], list[int]]:
    """Rows of the clips to train on, to choose by and to answer for; fewer of the first where few labels are given, those
    that networks are given under the same seed."""
    fold = workspace.folds[cell.fold]
    numbered = clips.select_columns(["emotion"]).add_column("row", list(range(len(clips))))
    labelled = numbered.select(_rows(clips, workspace.labelled_speakers(cell.fold)))
    kept = finetune.keep_labels(labelled, cell.system.label_share, cell.seed)
    return kept["row"][:], _rows(clips, fold["validation"]), _rows(clips, fold["test"])


def _features(workspace: Workspace, cell: Cell) -> tuple[Dataset, np.ndarray]:
    """Clips and their features, (N, F): sound from the prepared clips, codes from the store of the fold."""
    name = cell.system.features
    if not _uses_codes(cell.system):
        return workspace.clips, workspace.sound_features(name)
    tokens = workspace.tokens(cell.fold)
    store, info = load_token_store(tokens.token_store), read_token_store_info(tokens.token_store)
    tokenizers = {}
    if name in TOKENIZER_FEATURES:
        tokenizers = load_tokenizers(tokens.audio_tokenizer, tokens.visual_tokenizer)
    return store, code_features(name, store, info, workspace.experiment.modalities, tokenizers)


def _run_network(workspace: Workspace, cell: Cell) -> dict[str, Any]:
    system, run = cell.system, cell_folder(workspace, cell) / "run"
    tokens = workspace.tokens(cell.fold)
    pretrained = workspace.pretrained(system, cell.fold)
    arguments = build_arguments(
        FinetuneArguments,
        output_dir=str(run),
        pretrained=pretrained,
        seed=cell.seed,
        label_share=system.label_share,
        labelled_speakers=workspace.experiment.labelled_speakers or 0,
        train_on_validation=workspace.experiment.train_on_validation,
        **workspace.split_arguments(cell.fold),
        # A pre-trained network has its sizes from its checkpoint.
        **(model_arguments(system) if pretrained is None else {}),
        **tokens._asdict(),
        **{**QUIET, **system.finetuning},
    )
    results = finetune.run(arguments).results
    for name in KEPT_FILES:
        if (run / name).exists():
            shutil.copy(run / name, run.parent / name)
    shutil.rmtree(run)
    kept = ("classes", "speakers", "best_validation", "test")
    return {name: results[name] for name in kept}


def _rows(clips: Dataset, speakers: Sequence[str]) -> list[int]:
    chosen = set(speakers)
    return [row for row, speaker in enumerate(clips["speaker"][:]) if speaker in chosen]
