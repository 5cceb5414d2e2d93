"""Model cards: a text for each kind of checkpoint, around facts from its configuration and numbers from results JSON."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from jinja2 import DictLoader, Environment, StrictUndefined
from transformers import PreTrainedConfig

import vqmae_hf
from vqmae_hf.data.corpora import corpus_card, corpus_names
from vqmae_hf.data.corpora.registry import CorpusCard
from vqmae_hf.hub.checkpoint_source import CheckpointSource
from vqmae_hf.hub.measurements import METRIC_NAMES, Measurement, read_measurements

CARD_NAME = "README.md"
LAYOUTS = ("videofolder", "audiofolder", "hub")  # names of `load_corpus` that are no corpus
# What says how the weights came about; the other 100 fields of transformers stand in the file.
SHOWN_TRAINING_ARGUMENTS = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "num_train_epochs",
    "max_steps",
    "bf16",
    "fp16",
    "seed",
)


@dataclass(frozen=True)
class CardFacts:
    """
    What a card is made of.

    Args:
        checkpoint: what is published.
        repo_id: as what.
        arguments: the stage's own arguments, {} where they are not known.
        results: content of each file of results, by its name.
        corpora: what the model was trained on; None is what `arguments` says.
        metadata: entries of the head that take the place of ours.
    """

    checkpoint: CheckpointSource
    repo_id: str
    arguments: dict[str, Any]
    results: dict[str, Any]
    corpora: Sequence[str] | None
    metadata: dict[str, Any]


def write_model_card(facts: CardFacts, folder: Path) -> list[str]:
    """Write `README.md`; returns what is missing from it, for whoever publishes."""
    corpora = describe_corpora(facts)
    measurements = read_measurements(facts.results)
    card = ModelCard(render_model_card(facts, corpora, measurements))
    card.save(folder / CARD_NAME)
    notes = []
    if not corpora:
        notes.append("the card does not say what the model was trained on; name it with `corpora`")
    if not any(row.is_of_checkpoint and row.part != "validation" for row in measurements):
        notes.append("the card says that the model was not evaluated; give `results`")
    if "license" not in facts.metadata:
        notes.append("the card says that no licence was stated for the weights; give `metadata={'license': ...}`")
    return notes


def render_model_card(
    facts: CardFacts, corpora: Sequence[CorpusCard | str], measurements: Sequence[Measurement]
) -> str:
    """The card as text, with its head."""
    model, kind = facts.checkpoint.model, facts.checkpoint.kind
    return render_card(
        kind.name,
        card_data=card_metadata(facts, corpora, measurements).to_yaml(),
        repo_id=facts.repo_id,
        config=model.config,
        processor=facts.checkpoint.processor,
        auto_class=kind.auto_class,
        model_class=kind.model_class.__name__,
        modalities=list(getattr(model.config, "modalities", ("audio", "visual"))),
        parameters=f"{model.num_parameters():,}",
        classes=[name for _, name in sorted(model.config.id2label.items())] if kind.is_classifier else [],
        corpora=corpora,
        arguments={name: value for name, value in facts.arguments.items() if value is not None},
        measurements=[row for row in measurements if row.part != "validation"],
        validation=[row for row in measurements if row.part == "validation"],
        metric_name=lambda metric: METRIC_NAMES.get(metric, (metric.replace("_", " "),))[0],
        license=facts.metadata.get("license"),
        expected_recordings=expected_recordings(model.config),
        notes=facts.checkpoint.notes,
    )


def render_card(name: str, **context: Any) -> str:
    """A text of `cards/`, filled in."""
    folder = files("vqmae_hf.hub") / "cards"
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name.endswith(".jinja")}
    environment = Environment(
        loader=DictLoader(texts),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    versions = {"package_version": vqmae_hf.__version__, "transformers_version": transformers.__version__}
    text = environment.get_template(f"{name}.md.jinja").render(**versions, **context)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"  # conditions leave blank lines behind


def describe_corpora(facts: CardFacts) -> list[CorpusCard | str]:
    """The cards of what a model was trained on; text where there is no card."""
    named = facts.corpora
    if named is None:
        corpus = facts.arguments.get("corpus")
        named = [] if corpus is None or corpus in LAYOUTS else [corpus]
    carded = set(corpus_names()) - set(LAYOUTS)
    return [corpus_card(name) if name in carded else name for name in named]


def takes(config: PreTrainedConfig) -> tuple[bool, bool]:
    """Whether a model of this configuration hears, and whether it sees."""
    modalities = {"audio_vqvae": ("audio",), "visual_vqvae": ("visual",)}.get(
        config.model_type, getattr(config, "modalities", ("audio", "visual"))
    )
    return "audio" in modalities, "visual" in modalities


def expected_recordings(config: PreTrainedConfig) -> str:
    """What the processors make inputs of."""
    hears, sees = takes(config)
    face = ["a frontal face, large in the picture, as the face detector cuts it out"] if sees else []
    return " and ".join([*face, *(["one voice at 16 kHz with little noise"] if hears else [])])


def card_metadata(
    facts: CardFacts, corpora: Sequence[CorpusCard | str], measurements: Sequence[Measurement]
) -> ModelCardData:
    """The head of the card, with the measurements of this checkpoint as `model-index`."""
    kind, config = facts.checkpoint.kind, facts.checkpoint.model.config
    hears, sees = takes(config)
    task = "feature-extraction"
    if kind.is_classifier:
        task = "video-classification" if sees else "audio-classification"
    tags = ["vqmae-hf", kind.name.replace("_", "-")]
    tags += ["emotion-recognition"] if kind.is_classifier else []
    tags += [*(["speech"] if hears else []), *(["talking-face"] if sees else [])]
    fields: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": task, "tags": tags}
    evaluated = [row for row in measurements if row.is_of_checkpoint and row.part != "validation"]
    if evaluated:
        fields["model_name"] = facts.repo_id.rpartition("/")[2]
        fields["eval_results"] = [eval_result(row, task, corpora) for row in evaluated]
    return ModelCardData(**{**fields, **facts.metadata})


def eval_result(row: Measurement, task: str, corpora: Sequence[CorpusCard | str]) -> EvalResult:
    """One entry of `model-index`."""
    corpus = corpora[0] if len(corpora) == 1 else None
    name, metric_type = METRIC_NAMES.get(row.metric, (row.metric.replace("_", " "), row.metric))
    return EvalResult(
        task_type=task,
        dataset_type=corpus.name if isinstance(corpus, CorpusCard) else "unknown",
        dataset_name=corpus.title if isinstance(corpus, CorpusCard) else corpus or "not stated",
        dataset_config=None,
        dataset_split=row.part or None,
        metric_type=metric_type,
        metric_name=f"{name}, {row.setting}" if row.setting else name,
        metric_value=row.value,
    )


def shown_training_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The few of transformers' training arguments that a reader looks for."""
    return {name: arguments[name] for name in SHOWN_TRAINING_ARGUMENTS if arguments.get(name) is not None}
