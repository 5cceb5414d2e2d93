"""
Study files, and the steps of a study: corpus, clips, tokenizers, latents, models.

| key | what |
|---|---|
| `title` | heading of the page |
| `data` | `synthetic`: arguments of `write_synthetic_corpus`; the others are fields of `CorpusArguments` |
| `split` | `validation_share`, `test_share`, `split_seed` of the speakers |
| `labelled_speakers` | of the training speakers, those whose truth is known to probes and classifiers: models see them all |
| `seeds` | of the models; tokenizers are trained once |
| `tokenizers`, `model` | `recipe` and arguments of their training programs |
| `regions` | boxes of mouth and eyes, in shares of the picture |
| `denoising_clips`, `swapped_pairs` | how many of the test clips |
| `label_shares`, `label_draws`, `supervised_draws` | of the labelled clips; draws of every share, and of each |
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from datasets import Dataset

from vqmae_hf.data.latent_store import load_latent_store
from vqmae_hf.data.prepared_clips import clip_arrays
from vqmae_hf.data.speaker_deals import labelled_speakers
from vqmae_hf.data.synthetic import write_synthetic_corpus
from vqmae_hf.evaluation.disentanglement import LatentArrays
from vqmae_hf.evaluation.known_factors import FactorValues, read_factors
from vqmae_hf.experiments.experiment_file import merge
from vqmae_hf.experiments.workspace import QUIET, TOKENIZER_PROGRAMS, StepFolders, delete_checkpoints
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor
from vqmae_hf.training import encode_corpus, train_mdvae
from vqmae_hf.training.arguments import (
    AudioTokenizerArguments,
    CorpusArguments,
    SplitArguments,
    VisualTokenizerArguments,
)
from vqmae_hf.training.mdvae_arguments import EncodeArguments, MDVAEArguments
from vqmae_hf.training.recipes import build_arguments, read_recipe
from vqmae_hf.training.stages import open_clips, split_speakers_of

FOLDER = Path(__file__).parent
SIZES = ("full", "debug")
TOKENIZER_ARGUMENTS = {"audio": AudioTokenizerArguments, "visual": VisualTokenizerArguments}
BOTH = ("audio", "visual")
BATCH_SIZE = 40
# Does it run? Of no other use.
DEBUG: dict[str, Any] = {
    "data": {"synthetic": {"num_speakers": 8, "clips_per_emotion": 1, "clip_seconds": 1.0}},
    "split": {"validation_share": 0.15, "test_share": 0.4},
    "labelled_speakers": 3,
    "seeds": [0],
    "tokenizers": {"audio": {"recipe": "mdvae-debug"}, "visual": {"recipe": "mdvae-debug"}},
    "model": {"recipe": "debug"},
    "denoising_clips": 2,
    "swapped_pairs": 8,
    "label_shares": [0.3, 1.0],
    "label_draws": 2,
    "supervised_draws": [1, 1],
}


@dataclass(frozen=True)
class Study:
    """A study file, read and checked; see the table at the head of this module."""

    name: str
    size: str
    title: str
    data: dict[str, Any]
    split: dict[str, Any]
    labelled_speakers: int
    seeds: list[int]
    tokenizers: dict[str, dict[str, Any]]
    model: dict[str, Any]
    regions: dict[str, list[float]]
    denoising_clips: int
    swapped_pairs: int
    label_shares: list[float]
    label_draws: int
    supervised_draws: list[int]


def study_names() -> list[str]:
    """Names of the packaged studies."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_study(study: str | Path, *, size: str = "full", overrides: Mapping[str, Any] | None = None) -> Study:
    """
    Read a study file.

    Args:
        study: name of a packaged one, or path of a YAML file.
        size: "full", or "debug" for one that only shows that everything runs.
        overrides: nested values, as in a file, that win.

    Raises:
        ValueError: no such file, or keys that are missing or unknown.
    """
    path = FOLDER / f"{study}.yaml" if str(study) in study_names() else Path(study)
    if size not in SIZES or path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise ValueError(
            f"study={str(study)!r}, size={size!r}: accepted are a YAML file or one of {study_names()}, and one of {SIZES}."
        )
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if size == "debug":
        values |= {"tokenizers": {}, "model": {}}  # what the study adds to its recipes is not for those of DEBUG
    for layer in (DEBUG if size == "debug" else {}, overrides or {}):
        values = merge(values, layer)
    known = {field.name for field in fields(Study)} - {"name", "size"}
    if set(values) != known:
        raise ValueError(
            f"{path}: missing keys {sorted(known - set(values))}, unknown keys {sorted(set(values) - known)}; accepted are "
            f"{sorted(known)}, each once."
        )
    values["tokenizers"] = {
        modality: _spelled_out(TOKENIZER_ARGUMENTS[modality], section)
        for modality, section in values["tokenizers"].items()
    }
    values["model"] = _spelled_out(MDVAEArguments, values["model"])
    return Study(name=path.stem, size=size, **values)


def _spelled_out(argument_class: type, section: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a section over those of its recipe, so that steps and cells are made anew when the recipe has changed."""
    recipe = section.get("recipe")
    said = {} if recipe is None else read_recipe(argument_class, recipe)
    return {**said, **{name: value for name, value in section.items() if name != "recipe"}}


class StudyClips(NamedTuple):
    """Some clips of a study: their truth, and `rows`, their places among the prepared clips."""

    rows: np.ndarray
    values: FactorValues


class StudyWorkspace(StepFolders):
    """The steps of a study in a folder, each done once; a repeated run goes on where the last one stopped."""

    def __init__(self, study: Study, folder: str | Path):
        super().__init__(folder)
        self.study = study

    @cached_property
    def corpus_root(self) -> Path:
        parameters = self.study.data["synthetic"]
        return self.once("corpus", parameters, lambda made: write_synthetic_corpus(made, **parameters))

    @cached_property
    def clips_folder(self) -> Path:
        options = {name: value for name, value in self.study.data.items() if name != "synthetic"}
        spec = {**options, "corpus": self.name_of(self.corpus_root)}

        def make(made: Path) -> None:
            arguments = {
                "corpus": "synthetic",
                "corpus_root": str(self.corpus_root),
                "clips_dir": str(made),
                **options,
            }
            open_clips(build_arguments(CorpusArguments, **arguments))

        return self.once("clips", spec, make)

    @cached_property
    def clips(self) -> Dataset:
        """The prepared clips, in the order of everything else."""
        return open_clips(build_arguments(CorpusArguments, clips_dir=str(self.clips_folder)))

    def tokenizer(self, modality: str) -> str:
        """Checkpoint of a tokenizer, trained on the training speakers."""
        values = self.study.tokenizers[modality]
        spec = {"arguments": values, "clips": self.name_of(self.clips_folder), "split": self.study.split}

        def make(made: Path) -> None:
            given = {**QUIET, **values, **self.study.split}
            places = {"clips_dir": str(self.clips_folder), "output_dir": str(made)}
            TOKENIZER_PROGRAMS[modality].run(build_arguments(TOKENIZER_ARGUMENTS[modality], **places, **given))
            delete_checkpoints(made)

        return str(self.once(f"mdvae-{modality}-tokenizer", spec, make))

    @cached_property
    def latent_store(self) -> Path:
        """What the tokenizers make of all clips before quantization."""
        named = {f"{modality}_tokenizer": self.tokenizer(modality) for modality in BOTH}
        spec = {
            **{name: self.name_of(folder) for name, folder in named.items()},
            "clips": self.name_of(self.clips_folder),
        }

        def make(made: Path) -> None:
            places = {"clips_dir": str(self.clips_folder), "latent_store": str(made)}
            encode_corpus.run(build_arguments(EncodeArguments, **places, **named))

        return self.once("latents", spec, make)

    def model(self, modalities: tuple[str, ...], seed: int) -> MDVAEModel:
        """The MDVAE of a seed, or the unimodal one of the same sizes."""
        return MDVAEModel.from_pretrained(self.model_folder(modalities, seed)).eval()

    def model_folder(self, modalities: tuple[str, ...], seed: int) -> Path:
        values = self.study.model
        spec = {
            "arguments": values,
            "latents": self.name_of(self.latent_store),
            "split": self.study.split,
            "seed": seed,
        }
        spec["modalities"] = modalities

        def make(made: Path) -> None:
            places = {"latent_store": str(self.latent_store), "output_dir": str(made), "modalities": list(modalities)}
            places |= {f"{modality}_tokenizer": self.tokenizer(modality) for modality in modalities}
            train_mdvae.run(
                build_arguments(MDVAEArguments, **places, **{**QUIET, **values, **self.study.split, "seed": seed})
            )
            delete_checkpoints(made)

        return self.once("mdvae", spec, make)

    # ---- what is measured on ----

    def part(self, name: str) -> StudyClips:
        """
        The clips of "labelled" training speakers, which probes and classifiers learn from, or of "test" speakers.

        Raises:
            ValueError: fewer training speakers than are to be labelled.
        """
        parts = split_speakers_of(self.clips, build_arguments(SplitArguments, **self.study.split))
        speakers = sorted(set(parts["test" if name == "test" else "train"]["speaker"]))
        if name == "labelled":
            speakers = labelled_speakers(speakers, self.study.labelled_speakers, self.study.split["split_seed"])
        rows = np.isin(self.clips["speaker"], speakers).nonzero()[0]
        clip_ids = [self.clips["clip_id"][int(row)] for row in rows]
        rate = self.study.data["frames_per_second"]
        return StudyClips(rows, read_factors(self.corpus_root, clip_ids, self.num_frames, rate))

    @cached_property
    def num_frames(self) -> int:
        """T that all clips have."""
        return min(self.clips["num_frames"])

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """x_a and x_v of all clips, in the order of `clips`: (N, T, D) in the precision of the store."""
        store = load_latent_store(self.latent_store)
        places = {clip_id: place for place, clip_id in enumerate(store["clip_id"])}
        store = store.select([places[clip_id] for clip_id in self.clips["clip_id"]]).with_format("numpy")
        lengths = {"audio": "num_spectra", "visual": "num_frames"}
        return {
            modality: np.stack(
                [
                    row[f"{modality}_features"].reshape(row[length], -1)[: self.num_frames]
                    for row in store.select_columns([f"{modality}_features", length])
                ]
            )
            for modality, length in lengths.items()
        }

    def frames(self, rows: np.ndarray) -> np.ndarray:
        """(N, T, H, H, 3) uint8 of some clips."""
        return np.stack([clip_arrays(self.clips, int(row)).frames[: self.num_frames] for row in rows])

    def spectra(self, rows: np.ndarray, model: MDVAEModel) -> torch.Tensor:
        """(N, T, F) power spectra of some clips."""
        processor = MDVAEProcessor.from_model_config(model.config)
        arrays = [clip_arrays(self.clips, int(row)) for row in rows]
        inputs = processor(videos=[a.frames for a in arrays], audio=[a.waveform for a in arrays], padding="longest")
        return inputs["audio_values"][:, : self.num_frames]


@torch.no_grad()
def encode_features(model: MDVAEModel, features: Mapping[str, np.ndarray], rows: np.ndarray) -> LatentArrays:
    """Posterior means of some clips, from the features of a store."""
    encoded: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(rows), BATCH_SIZE):
        chosen = rows[start : start + BATCH_SIZE]
        batch = {
            f"{m}_features": torch.from_numpy(features[m][chosen]).float().to(model.device)
            for m in model.config.modalities
        }
        latents = model.encode(**batch)
        for name in ("w", *model.config.dynamic_latents):
            encoded.setdefault(name, []).append(latents[name].cpu().numpy())
    joined = {name: np.concatenate(parts) for name, parts in encoded.items()}
    return LatentArrays({"w": joined.pop("w")}, joined)
