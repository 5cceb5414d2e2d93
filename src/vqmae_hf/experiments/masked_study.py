"""Studies of pre-training alone: what a masked autoencoder predicts of clips that no step before has seen.

| key | what |
|---|---|
| `title`, `modalities`, `data`, `tokenizers` | as in `experiment_file.py`; labels are not needed |
| `folds`, `model`, `pretraining` | as in `experiment_file.py`; labels are not needed |
| `folds_run` | how many of the folds, from the first; each holds its test speakers out from all steps and asks about them |
| `evaluation` | arguments of `evaluate_pretraining` |

The steps are those of experiments, in the same folder: tokenizers are trained on the training speakers of the fold, the
network on those and on the validation speakers.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vqmae_hf.data.shards import write_json
from vqmae_hf.evaluation.masked_prediction_chart import draw_masked_prediction
from vqmae_hf.experiments.environment import describe_environment
from vqmae_hf.experiments.experiment_file import Experiment, System, stage_values
from vqmae_hf.experiments.masked_study_page import update_study_page
from vqmae_hf.experiments.nested_values import merge
from vqmae_hf.experiments.pooled_predictions import pool_predictions
from vqmae_hf.experiments.workspace import Workspace
from vqmae_hf.training import evaluate_pretraining
from vqmae_hf.training.evaluation_arguments import EvaluatePretrainingArguments
from vqmae_hf.training.recipes import build_arguments

STUDIES = Path(__file__).parent / "studies"
FOLD_NAME = "fold.json"
KEYS = {"title", "modalities", "data", "tokenizers", "folds", "folds_run", "model", "pretraining", "evaluation"}
EVALUATION_KEYS = {"part", "mask_ratios", "gain_mask_ratio", "mask_seed", "batch_size", "baseline_windows", "use_cpu"}
DEBUG: dict[str, Any] = {"model": {"preset": "tiny"}, "evaluation": {"mask_ratios": [0.5], "baseline_windows": 4}}


@dataclass(frozen=True)
class MaskedStudy:
    """A file, read and checked.

    Attributes:
        experiment: corpus, tokenizers, and one system: the network and its pre-training.
        evaluation: arguments of `evaluate_pretraining`.
    """

    experiment: Experiment
    evaluation: dict[str, Any]

    @property
    def system(self) -> System:
        """The network and its pre-training."""
        return self.experiment.systems["pretrained"]


def study_names() -> list[str]:
    """Names of the packaged studies."""
    return sorted(path.stem for path in STUDIES.glob("*.yaml"))


def load_study(study: str | Path, *, size: str = "full", overrides: Mapping[str, Any] | None = None) -> MaskedStudy:
    """Read the file of a study.

    Args:
        study: name of a packaged one, or path of a YAML file.
        size: "full", or "debug" for one that only shows that everything runs.
        overrides: nested values, as in the file, that win.

    Raises:
        ValueError: no such file, missing or unknown keys.
    """
    path = STUDIES / f"{study}.yaml" if str(study) in study_names() else Path(study)
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise ValueError(f"{str(study)!r} is neither a YAML file nor one of the studies {study_names()}.")
    values = merge(yaml.safe_load(path.read_text(encoding="utf-8")), overrides or {})
    if size == "debug":
        values = merge(values, DEBUG)
        values["model"]["overrides"] = {}
    unknown = set(values) ^ KEYS | set(values.get("evaluation", {})) - EVALUATION_KEYS
    if unknown:
        raise ValueError(
            f"{path}: {sorted(unknown)} are missing or not known; a study has {sorted(KEYS)}, its evaluation some of "
            f"{sorted(EVALUATION_KEYS)}."
        )
    pretraining = {"share": 1.0, **stage_values("pretraining", values["pretraining"], size)}
    system = System(
        name="pretrained",
        title=values["title"],
        kind="network",
        model={"overrides": {}, **values["model"]},
        pretraining={name: value for name, value in pretraining.items() if not name.startswith("model_")},
    )
    experiment = Experiment(
        name=path.stem,
        title=values["title"],
        size=size,
        modalities=tuple(values["modalities"]),
        data=values["data"],
        tokenizers={
            name: raw if isinstance(raw, str) else stage_values(name, raw, size)
            for name, raw in values["tokenizers"].items()
        },
        folds=values["folds"],
        folds_run=values["folds_run"],
        seeds=(0,),
        systems={"pretrained": system},
        comparisons=(),
    )
    return MaskedStudy(experiment, values["evaluation"])


def run_study(study: MaskedStudy, work_dir: str | Path, results_dir: str | Path) -> Path:
    """Run the steps that are not done, and publish `<name>.json`, `.png` and `.md`.

    Returns:
        Path of the JSON: the content of `pool_predictions`; `study`, `title`, `size`, `clips` and `speakers_of_part` of the
        first fold, `clips_asked` of all, `folds` (dealt and run), `tokenizers`, `network` (preset, overrides, pre-training).
    """
    workspace = Workspace(study.experiment, work_dir)
    folds = [_ask_fold(study, workspace, fold) for fold in range(study.experiment.num_folds_run)]
    path = Path(results_dir) / f"{study.experiment.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {**_describe(study, workspace), **pool_predictions(folds)})
    present_study(path)
    return path


def _ask_fold(study: MaskedStudy, workspace: Workspace, fold: int) -> dict[str, Any]:
    """The content of `evaluate_pretraining.run` for the held-out clips of a fold, after the steps that are not done, and
    `environment`."""
    tokens, pretrained = workspace.tokens(fold), workspace.pretrained(study.system, fold)
    assert pretrained is not None  # the network of a study is always pre-trained
    spec = {"model": Path(pretrained).parent.name, "evaluation": study.evaluation, "fold": fold}

    def make(folder: Path) -> None:
        arguments = build_arguments(
            EvaluatePretrainingArguments,
            model=pretrained,
            token_store=tokens.token_store,
            output_dir=str(folder),
            **workspace.split_arguments(fold),
            **study.evaluation,
        )
        found = {**evaluate_pretraining.run(arguments), "environment": describe_environment()}
        write_json(folder / FOLD_NAME, found)

    made = workspace.once("masked-prediction", spec, make) / FOLD_NAME
    return json.loads(made.read_text(encoding="utf-8"))


def present_study(results_path: Path) -> list[Path]:
    """Bring the page and the picture of a published study up to date."""
    page, results = update_study_page(results_path)
    picture = results_path.with_suffix(".png")
    draw_masked_prediction(results).savefig(picture, dpi=110, metadata={"Software": None})
    return [page, picture]


def _describe(study: MaskedStudy, workspace: Workspace) -> dict[str, Any]:
    run, names = workspace.folds[: study.experiment.num_folds_run], workspace.clips["speaker"][:]
    fold = run[0]
    return {
        "study": study.experiment.name,
        "title": study.experiment.title,
        "size": study.experiment.size,
        "clips": {part: sum(name in set(members) for name in names) for part, members in fold.items()},
        "clips_asked": sum(name in fold["test"] for fold in run for name in names),
        "folds": {"dealt": study.experiment.num_folds, "run": len(run)},
        "speakers_of_part": {part: len(members) for part, members in fold.items()},
        "tokenizers": study.experiment.tokenizers,
        "network": {"model": study.system.model, "pretraining": study.system.pretraining},
    }
