"""Studies of pre-training alone: what a masked autoencoder predicts of clips that no step before has seen.

| key | what |
|---|---|
| `title`, `modalities`, `data`, `tokenizers` | as in `experiment_file.py`; labels are not needed |
| `folds`, `model`, `pretraining` | as in `experiment_file.py`; labels are not needed |
| `fold` | whose test speakers are held out from all steps and asked about |
| `evaluation` | arguments of `evaluate_pretraining` |

The steps are those of experiments, in the same folder: tokenizers are trained on the training speakers of the fold, the
network on those and on the validation speakers.
"""

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
from vqmae_hf.experiments.workspace import Workspace
from vqmae_hf.training import evaluate_pretraining
from vqmae_hf.training.evaluation_arguments import EvaluatePretrainingArguments
from vqmae_hf.training.recipes import build_arguments

STUDIES = Path(__file__).parent / "studies"
KEYS = {"title", "modalities", "data", "tokenizers", "folds", "fold", "model", "pretraining", "evaluation"}
EVALUATION_KEYS = {"part", "mask_ratios", "gain_mask_ratio", "mask_seed", "batch_size", "baseline_windows", "use_cpu"}
# Paths of this machine are of no use to others.
PATHS = ("model", "token_store")
DEBUG: dict[str, Any] = {"model": {"preset": "tiny"}, "evaluation": {"mask_ratios": [0.5], "baseline_windows": 4}}


@dataclass(frozen=True)
class MaskedStudy:
    """A file, read and checked.

    Attributes:
        experiment: corpus, tokenizers, and one system: the network and its pre-training.
        fold: whose test speakers are asked about.
        evaluation: arguments of `evaluate_pretraining`.
    """

    experiment: Experiment
    fold: int
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
        seeds=(0,),
        systems={"pretrained": system},
        comparisons=(),
    )
    return MaskedStudy(experiment, values["fold"], values["evaluation"])


def run_study(study: MaskedStudy, work_dir: str | Path, results_dir: str | Path) -> Path:
    """Run the steps that are not done, and publish `<name>.json`, `.png` and `.md`.

    Returns:
        Path of the JSON: the content of `evaluate_pretraining.run` without paths; `study`, `title`, `size`, `clips` and
        `speakers` by part of the fold, `tokenizers`, `network` (preset, overrides, pre-training), `environment`.
    """
    workspace = Workspace(study.experiment, work_dir)
    tokens, pretrained = workspace.tokens(study.fold), workspace.pretrained(study.system, study.fold)
    assert pretrained is not None  # the network of a study is always pre-trained
    spec = {"model": Path(pretrained).parent.name, "evaluation": study.evaluation, "fold": study.fold}

    def make(folder: Path) -> None:
        arguments = build_arguments(
            EvaluatePretrainingArguments,
            model=pretrained,
            token_store=tokens.token_store,
            output_dir=str(folder),
            **workspace.split_arguments(study.fold),
            **study.evaluation,
        )
        results = evaluate_pretraining.run(arguments)
        write_json(folder / "study.json", {**_describe(study, workspace), **_without_paths(results)})

    made = workspace.once("masked-prediction", spec, make) / "study.json"
    path = Path(results_dir) / f"{study.experiment.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(made.read_bytes())
    present_study(path)
    return path


def present_study(results_path: Path) -> list[Path]:
    """Bring the page and the picture of a published study up to date."""
    page, results = update_study_page(results_path)
    picture = results_path.with_suffix(".png")
    draw_masked_prediction(results).savefig(picture, dpi=110, metadata={"Software": None})
    return [page, picture]


def _describe(study: MaskedStudy, workspace: Workspace) -> dict[str, Any]:
    fold, names = workspace.folds[study.fold], workspace.clips["speaker"][:]
    return {
        "study": study.experiment.name,
        "title": study.experiment.title,
        "size": study.experiment.size,
        "clips": {part: sum(name in set(members) for name in names) for part, members in fold.items()},
        "speakers_of_part": {part: len(members) for part, members in fold.items()},
        "tokenizers": study.experiment.tokenizers,
        "network": {"model": study.system.model, "pretraining": study.system.pretraining},
        "environment": describe_environment(),
    }


def _without_paths(results: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in results.items() if name not in PATHS}
