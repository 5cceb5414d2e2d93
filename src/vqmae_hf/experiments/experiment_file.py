"""Experiment files: corpus, folds, seeds and systems of a table, as YAML; one that varies another names only what differs.

| key | what |
|---|---|
| `title` | heading of the table |
| `base` | experiment whose values are the defaults; its systems are there for `like`, those listed here are run |
| `modalities` | of "audio", "visual"; what networks and histograms of codes look at |
| `data` | see `DATA_KEYS`; `synthetic` holds arguments of `write_synthetic_corpus`, `speed_factors` is one of `tokenize` |
| `tokenizers` | by modality: a checkpoint, or `recipe` and arguments of its training program, run in each fold |
| `folds` | a name of `FIXED_FOLDS`, or a number of folds to deal |
| `folds_run` | how many of them are run, the first ones; default: all |
| `labelled_speakers` | of the training speakers of a fold, those whose labels classifiers are given; default: all |
| `train_on_validation` | `true`: all systems are, once C is chosen; for networks, no epoch is; default: `false` |
| `seeds` | of the systems' training |
| `model` | `preset` and `overrides` of the network; what recipes say of it is not used |
| `pretraining`, `finetuning` | `recipe` and arguments; `pretraining.share` is a share of its clips |
| `systems` | by name: `kind`, `title`, `like`, `features`, `label_share`, and its own `model`, `pretraining`, `finetuning` |
| `comparisons` | pairs of rows to test for significance: `system`, or `system@audio` for what it says hearing alone |

`kind` is "majority", one of `reference_systems.CLASSIFIERS`, "spectrogram_network" or "network", the models of this package.
A "network" whose `pretraining` is `true` or a mapping is fine-tuned from a masked autoencoder that saw neither labels nor
test speakers; `false` is the same network from scratch.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from vqmae_hf.data.fixed_folds import FIXED_FOLDS
from vqmae_hf.data.speed_copies import speed_factor_problems
from vqmae_hf.experiments.features import FEATURES
from vqmae_hf.experiments.nested_values import merge, unknown_names
from vqmae_hf.experiments.reference_systems import CLASSIFIERS
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.training.arguments import (
    AudioTokenizerArguments,
    FinetuneArguments,
    PretrainArguments,
    VisualTokenizerArguments,
)
from vqmae_hf.training.recipes import read_recipe

FILES = Path(__file__).parent / "files"
MODALITIES = ("audio", "visual")
DATA_KEYS = (
    *("corpus", "corpus_root", "corpus_options", "clip_options", "face_size", "clips_dir", "synthetic"),
    "speed_factors",
)
EXPERIMENT_KEYS = {
    *("title", "base", "modalities", "data", "tokenizers", "folds", "folds_run", "labelled_speakers", "seeds"),
    *("train_on_validation", "model", "pretraining", "finetuning", "systems", "comparisons"),
}
SYSTEM_KEYS = {
    "majority": {"kind", "title", "like"},
    **{kind: {"kind", "title", "like", "features", "label_share"} for kind in CLASSIFIERS},
    "spectrogram_network": {"kind", "title", "like", "label_share"},
    "network": {"kind", "title", "like", "label_share", "model", "pretraining", "finetuning"},
}
# "/" and "@" separate it from fold and seed, and from what a system is given; "*" and "[" are of patterns.
SYSTEM_NAME = re.compile(r"[\w.+-]+")
STAGES = {
    "audio": AudioTokenizerArguments,
    "visual": VisualTokenizerArguments,
    "pretraining": PretrainArguments,
    "finetuning": FinetuneArguments,
}
# What the runner sets: refused in a file, of no effect in a recipe.
RUNNERS_OWN = {
    *(
        "output_dir",
        "recipe",
        "resume",
        "token_store",
        "audio_tokenizer",
        "visual_tokenizer",
        "pretrained",
        "clips_dir",
    ),
    *("corpus", "corpus_root", "corpus_options", "clip_options", "face_size", "seed", "split_seed", "folds", "fold"),
    *("num_folds", "validation_share", "test_share", "stream", "label_share", "labelled_speakers"),
    "train_on_validation",
}
MODEL_FIELDS = ("model_preset", "model_overrides")
SIZES = ("full", "debug")
# Does it run? Of no other use. The recipes "debug" overrule what a file says of its stages, see `stage_values`.
DEBUG: dict[str, Any] = {
    "data": {"face_size": 64, "synthetic": {"num_speakers": 6, "clips_per_emotion": 1}},
    "folds": 3,
    "labelled_speakers": None,
    "seeds": [0],
}
DEBUG_LAYERS = {"num_hidden_layers": 1, "decoder_num_hidden_layers": 1}


@dataclass(frozen=True)
class System:
    """One row of a table; the dictionaries are plain values, as from the file.

    Attributes:
        name, title: in commands, and in tables.
        kind: a key of `SYSTEM_KEYS`.
        features: of a logistic regression or support vector machine, one of `FEATURES`.
        label_share: share of the training clips whose labels it is given.
        model: `preset` and `overrides`.
        pretraining: `share` and arguments of `pretrain`, or None from scratch.
        finetuning: arguments of `finetune`.
    """

    name: str
    title: str
    kind: str
    features: str | None = None
    label_share: float = 1.0
    model: dict[str, Any] | None = None
    pretraining: dict[str, Any] | None = None
    finetuning: dict[str, Any] | None = None

    @property
    def is_random(self) -> bool:
        """Whether another seed may give another answer."""
        trained = self.kind in ("spectrogram_network", "network")
        return trained or (self.kind in CLASSIFIERS and self.label_share < 1)


@dataclass(frozen=True)
class Experiment:
    """A file, read and checked; see the table at the head of this module."""

    name: str
    title: str
    size: str
    modalities: tuple[str, ...]
    data: dict[str, Any]
    tokenizers: dict[str, str | dict[str, Any]]
    folds: str | int
    seeds: tuple[int, ...]
    systems: dict[str, System]
    comparisons: tuple[tuple[str, str], ...]
    folds_run: int | None = None
    labelled_speakers: int | None = None
    train_on_validation: bool = False

    @property
    def num_folds(self) -> int:
        return len(FIXED_FOLDS[self.folds]) if isinstance(self.folds, str) else self.folds

    @property
    def num_folds_run(self) -> int:
        """The folds that are run: the first ones, of all that the speakers are dealt to."""
        return min(self.folds_run or self.num_folds, self.num_folds)

    def seeds_of(self, system: System) -> tuple[int, ...]:
        """The seeds that a system is run with: one, if another would change nothing."""
        return self.seeds if system.is_random else self.seeds[:1]


def experiment_names() -> list[str]:
    """Names of the packaged experiments."""
    return sorted(path.stem for path in FILES.glob("*.yaml"))


def load_experiment(
    experiment: str | Path, *, size: str = "full", overrides: Mapping[str, Any] | None = None
) -> Experiment:
    """Read an experiment file.

    Args:
        experiment: name of a packaged one, or path of a YAML file.
        size: "full", or "debug" for one that only shows that everything runs: three folds, one seed, tiny models, a few
            steps.
        overrides: nested values, as in a file, that win.

    Raises:
        ValueError: no such file, or anything wrong in it; everything that was found is listed.
    """
    if size not in SIZES:
        raise ValueError(f"size={size!r} is unknown; {list(SIZES)} are accepted.")
    path = experiment_path(experiment)
    values = _read(path, [])
    for layer in (DEBUG if size == "debug" else {}, overrides or {}):
        values = merge(values, layer)
    pool = values.pop("_pool")
    systems = {name: _inherit(name, pool | values["systems"], []) for name in values["systems"]}
    problems = [*_experiment_problems(values), *(p for item in systems.items() for p in _system_problems(*item))]
    if not problems:
        built = {name: _build_system(name, raw, values, size) for name, raw in systems.items()}
        problems = [*_comparison_problems(values, built), *(p for s in built.values() for p in _network_problems(s))]
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ValueError(f"{path}, {len(problems)} problem(s):\n{listed}")
    return Experiment(
        name=path.stem,
        title=values["title"],
        size=size,
        modalities=tuple(values["modalities"]),
        data=values["data"],
        tokenizers={name: _tokenizer(name, raw, size) for name, raw in (values.get("tokenizers") or {}).items()},
        folds=values["folds"],
        folds_run=values.get("folds_run"),
        labelled_speakers=values.get("labelled_speakers"),
        train_on_validation=values.get("train_on_validation", False),
        seeds=tuple(values["seeds"]),
        systems=built,
        comparisons=tuple((first, second) for first, second in values.get("comparisons") or ()),
    )


def experiment_path(experiment: str | Path) -> Path:
    """File of a packaged experiment, or of one named by its path."""
    if str(experiment) in experiment_names():
        return FILES / f"{experiment}.yaml"
    path = Path(experiment)
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path
    raise ValueError(f"{str(experiment)!r} is neither a YAML file nor one of the experiments {experiment_names()}.")


def stage_values(stage: str, section: Mapping[str, Any], size: str) -> dict[str, Any]:
    """Arguments of a stage: those of the section over those of its recipe, in "debug" those of its recipe "debug" over all.

    Args:
        stage: a key of `STAGES`.
        section: `recipe` and arguments.
        size: of the experiment.
    """
    arguments = STAGES[stage]
    recipe = section.get("recipe")
    values = read_recipe(arguments, recipe) if recipe is not None else {}
    values = {name: value for name, value in values.items() if name not in RUNNERS_OWN}
    values |= {name: value for name, value in section.items() if name not in ("recipe", "share")}
    if size == "debug":
        values = {**values, "model_overrides": None, **read_recipe(arguments, "debug")}
    return values


def _read(path: Path, seen: list[Path]) -> dict[str, Any]:
    """Values of a file over those of its base, with all systems of its bases under `_pool`."""
    if path in seen:
        raise ValueError(f"{path} is its own base, by way of {[step.name for step in seen]}; name another.")
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds {type(values).__name__}; a mapping as in experiment_file.py is expected.")
    base: dict[str, Any] = {"_pool": {}, "systems": {}}
    if values.get("base") is not None:
        base = _read(experiment_path(values["base"]), [*seen, path])
    pool = {**base["_pool"], **base["systems"]}
    merged = {**merge(base, values), "_pool": pool}
    if values.get("systems"):
        # A system of the base's name takes up where that one ends.
        merged["systems"] = {name: merge(pool.get(name, {}), raw or {}) for name, raw in values["systems"].items()}
        merged["comparisons"] = values.get("comparisons", [])
    return merged


def _inherit(name: str, pool: Mapping[str, Any], seen: list[str]) -> dict[str, Any]:
    """Values of a system over those of the system it is like."""
    if name not in pool or name in seen:
        raise ValueError(f"system {(seen or [name])[-1]!r}: like={name!r} must name another system of {sorted(pool)}.")
    raw = dict(pool[name] or {})
    parent = raw.pop("like", None)
    if parent is None:
        return raw
    inherited = _inherit(parent, pool, [*seen, name])
    inherited.pop("title", None)
    return merge(inherited, raw)


def _build_system(name: str, raw: Mapping[str, Any], values: Mapping[str, Any], size: str) -> System:
    plain = {key: raw[key] for key in ("kind", "features", "label_share") if key in raw}
    title = raw.get("title", name.replace("-", " "))
    if raw["kind"] != "network":
        return System(name=name, title=title, **plain)
    model = merge({"preset": None, "overrides": {}, **(values.get("model") or {})}, raw.get("model") or {})
    if size == "debug":
        overrides = {**model["overrides"], **DEBUG_LAYERS, "modalities": list(values["modalities"])}
        model = {"preset": "tiny", "overrides": overrides}
    finetuning = merge(values.get("finetuning") or {}, raw.get("finetuning") or {})
    finetuning = {"modalities": list(values["modalities"]), **stage_values("finetuning", finetuning, size)}
    if size == "debug" and finetuning.get("frozen_layers"):
        finetuning["frozen_layers"] = DEBUG_LAYERS["num_hidden_layers"]
    pretraining = None
    if raw.get("pretraining", False) is not False:
        own = raw["pretraining"] if isinstance(raw["pretraining"], Mapping) else {}
        section = merge(values.get("pretraining") or {}, own)
        pretraining = {"share": section.get("share", 1.0), **stage_values("pretraining", section, size)}
    return System(
        name=name,
        title=title,
        model=model,
        pretraining=_without_model(pretraining),
        finetuning=_without_model(finetuning),
        **plain,
    )


def _without_model(values: dict[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else {name: value for name, value in values.items() if name not in MODEL_FIELDS}


def _tokenizer(modality: str, raw: str | Mapping[str, Any], size: str) -> str | dict[str, Any]:
    return raw if isinstance(raw, str) else stage_values(modality, raw, size)


def _experiment_problems(values: Mapping[str, Any]) -> list[str]:
    """What is wrong outside the systems, one sentence each."""
    problems = unknown_names("key", values, EXPERIMENT_KEYS)
    problems += [
        f"{name} is missing" for name in ("title", "modalities", "data", "folds", "seeds") if name not in values
    ]
    problems += unknown_names("key of data", values.get("data", {}), DATA_KEYS)
    data = values.get("data") or {}
    if not any(data.get(name) for name in ("clips_dir", "corpus_root")) and data.get("corpus") != "synthetic":
        problems.append("data needs clips_dir, or corpus and corpus_root; only the corpus 'synthetic' is made")
    modalities = values.get("modalities", [])
    problems += [f"data.{problem}" for problem in speed_factor_problems(data.get("speed_factors"))]
    if data.get("speed_factors") and "visual" in modalities:
        problems.append("data.speed_factors are of sound alone; with pictures, leave them out")
    problems += unknown_names("modality", modalities, MODALITIES)
    folds, seeds = values.get("folds"), values.get("seeds")
    is_number = isinstance(folds, int) and folds >= 3
    if "folds" in values and not is_number and folds not in FIXED_FOLDS:
        problems.append(f"folds={folds!r} must be one of {sorted(FIXED_FOLDS)}, or a number of at least 3")
    counts = {"folds_run": "how many of the folds are run", "labelled_speakers": "how many speakers have labels"}
    for name, meaning in counts.items():
        if (number := values.get(name)) is not None and (not isinstance(number, int) or number < 1):
            problems.append(f"{name}={number!r} must be a positive number, {meaning}")
    if seeds is not None and (not isinstance(seeds, list) or not seeds or len(set(seeds)) < len(seeds)):
        problems.append(f"seeds={seeds!r} must be a list of different numbers")
    problems += _validation_problems(values)
    if not values["systems"]:
        problems.append("systems is empty; list the rows of the table")
    for modality, raw in (values.get("tokenizers") or {}).items():
        if modality not in MODALITIES:
            problems += unknown_names("tokenizer", [modality], MODALITIES)
        elif not isinstance(raw, str):
            problems += _stage_problems(f"tokenizers.{modality}", modality, raw)
    for stage in ("pretraining", "finetuning"):
        problems += _stage_problems(stage, stage, values.get(stage) or {})
    kinds = {(raw or {}).get("kind") for raw in values["systems"].values()}
    missing = sorted(set(modalities) - set(values.get("tokenizers") or {}))
    if missing and "network" in kinds:
        problems.append(f"tokenizers has no {' and no '.join(missing)}; name a checkpoint, or a recipe to train one")
    return problems


def _validation_problems(values: Mapping[str, Any]) -> list[str]:
    trained = values.get("train_on_validation", False)
    if not isinstance(trained, bool):
        return [f"train_on_validation={trained!r} must be true or false"]
    some = "labelled_speakers" if values.get("labelled_speakers") else "label_share"
    few = any((raw or {}).get("label_share", 1.0) != 1 for raw in values["systems"].values())
    if trained and (few or some == "labelled_speakers"):
        return [f"train_on_validation gives all labels there are: leave out {some}, or set it to false"]
    return []


def _system_problems(name: str, raw: Mapping[str, Any]) -> list[str]:
    where = f"systems.{name}"
    kind, features = raw.get("kind"), raw.get("features")
    if kind not in SYSTEM_KEYS:
        return [f"{where}.kind={kind!r} must be one of {list(SYSTEM_KEYS)}"]
    problems = unknown_names(f"key of {where}, a {kind},", raw, SYSTEM_KEYS[kind])
    if not SYSTEM_NAME.fullmatch(name):
        problems.append(f"{where}: a name has letters, digits, '.', '+', '-' and '_' alone")
    if kind in CLASSIFIERS and features not in FEATURES:
        problems.append(f"{where}.features={features!r} must be one of {sorted(FEATURES)}")
    share = raw.get("label_share", 1.0)
    if not isinstance(share, (int, float)) or not 0 < share <= 1:
        problems.append(f"{where}.label_share={share!r} must be above 0 and at most 1")
    problems += unknown_names(f"key of {where}.model", raw.get("model") or {}, ("preset", "overrides"))
    for stage in ("pretraining", "finetuning"):
        section = raw.get(stage)
        if isinstance(section, Mapping):
            problems += _stage_problems(f"{where}.{stage}", stage, section)
        elif section is not None and not (stage == "pretraining" and isinstance(section, bool)):
            problems.append(f"{where}.{stage}={section!r} must be a mapping of arguments")
    return problems


def _stage_problems(where: str, stage: str, section: Mapping[str, Any]) -> list[str]:
    arguments = STAGES[stage]
    known = {field.name for field in fields(arguments) if field.init} - RUNNERS_OWN
    if stage in ("pretraining", "finetuning"):
        known -= set(MODEL_FIELDS)
    known |= {"recipe", "share"} if stage == "pretraining" else {"recipe"}
    problems = unknown_names(f"argument in {where}", section, known)
    share = section.get("share", 1.0)
    if stage == "pretraining" and (not isinstance(share, (int, float)) or not 0 < share <= 1):
        problems.append(f"{where}.share={share!r} must be above 0 and at most 1")
    if section.get("recipe") is not None:
        try:
            read_recipe(arguments, section["recipe"])
        except ValueError as error:
            problems.append(f"{where}: {error}")
    return problems


def _network_problems(system: System) -> list[str]:
    """Whether a network's preset and overrides make a configuration."""
    if system.kind != "network":
        return []
    overrides = system.model["overrides"]
    try:
        # The codebooks of the tokenizers, which this asks for, are not known yet.
        VQMAEConfig.from_preset(system.model["preset"], **{**overrides, "code_embedding": "learned"})
    except Exception as error:  # of huggingface_hub's own kind for values of the wrong type
        return [f"systems.{system.name}.model: {error}"]
    return unknown_names(f"field in systems.{system.name}.model.overrides", overrides, dir(VQMAEConfig()))


def _comparison_problems(values: Mapping[str, Any], systems: Mapping[str, System]) -> list[str]:
    problems = []
    for pair in values.get("comparisons") or ():
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            problems.append(f"comparisons: {pair!r} must be a pair of systems")
        else:
            problems += unknown_names("system in comparisons", [row.partition("@")[0] for row in pair], systems)
    return problems
