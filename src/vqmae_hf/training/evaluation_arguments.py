"""Arguments of the programs that evaluate what the stages trained, on speakers that these stages held out."""
# ruff: noqa: RUF009 - `option` makes a dataclass field

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from datasets import Dataset

from vqmae_hf.training.arguments import CorpusArguments, SplitArguments, check_arguments, option
from vqmae_hf.training.stages import ARGUMENTS_NAME, split_speakers_of


@dataclass
class EvaluationArguments(SplitArguments):
    """What both programs take."""

    output_dir: str | None = option(None, "Folder of the results.")
    recipe: str | None = option(
        None, "Packaged recipe (its name) or path of a YAML file whose values become defaults."
    )
    use_cpu: bool = option(False, "Compute on the CPU even where there is an accelerator.")

    def __post_init__(self) -> None:
        check_arguments(self)

    def problems(self) -> list[str]:
        """What is wrong with the arguments, one sentence each, with the remedy."""
        missing = [] if self.output_dir is not None else ["output_dir is needed: the folder of the results"]
        return [*missing, *self.split_problems()]


@dataclass
class EvaluateTokenizersArguments(CorpusArguments, EvaluationArguments):
    """Arguments of `python -m vqmae_hf.training.evaluate_tokenizers`."""

    stage: ClassVar[str] = "evaluate_tokenizers"

    audio_tokenizer: str | None = option(None, "Checkpoint of the audio tokenizer; None: sound is not evaluated.")
    visual_tokenizer: str | None = option(
        None, "Checkpoint of the visual tokenizer; None: pictures are not evaluated."
    )
    part: Literal["test", "validation", "train", "all"] = option(
        "test", "Whose clips: a part of the split that training used, or 'all' of a corpus that training never saw."
    )
    sound_clips: int = option(
        64, "Clips, evenly spread, whose sound is retrieved by Griffin-Lim: a second of work per second of speech."
    )
    sample_clips: int = option(4, "Clips, evenly spread, to look at and to listen to.")

    def problems(self) -> list[str]:
        problems = [*super().problems(), *self.corpus_problems()]
        if self.audio_tokenizer is None and self.visual_tokenizer is None:
            problems.append("audio_tokenizer and visual_tokenizer are both missing; name one or both checkpoints")
        for name in ("sound_clips", "sample_clips"):
            if getattr(self, name) < 0:
                problems.append(f"{name}={getattr(self, name)} cannot be negative")
        return problems


@dataclass
class EvaluatePretrainingArguments(EvaluationArguments):
    """Arguments of `python -m vqmae_hf.training.evaluate_pretraining`."""

    stage: ClassVar[str] = "evaluate_pretraining"

    model: str | None = option(None, "Checkpoint of pre-training, with its tokenizers inside.")
    token_store: str | None = option(None, "Folder (or fsspec address) of the token store.")
    part: Literal["test", "validation"] = option("test", "Whose clips; those of 'train' fit the baselines.")
    mask_ratios: list[float] = option([0.5, 0.75, 0.9], "Masked shares of the tubes of the modality to predict.")
    gain_mask_ratio: float = option(0.9, "Masked share when one modality is predicted with and without the other.")
    mask_seed: int = option(0, "Seed of the masks, the pairs of strangers and the bootstrap.")
    batch_size: int = option(8, "Windows at a time; the results do not depend on it.")
    baseline_windows: int = option(256, "Windows of the training speakers on which the copying baseline is fitted.")

    def problems(self) -> list[str]:
        problems = super().problems()
        for name, meaning in (("model", "checkpoint of pre-training"), ("token_store", "folder of the codes")):
            if getattr(self, name) is None:
                problems.append(f"{name} is needed: the {meaning}")
        ratios = [*self.mask_ratios, self.gain_mask_ratio]
        if not self.mask_ratios or not all(0 < ratio < 1 for ratio in ratios):
            problems.append(
                f"mask_ratios={self.mask_ratios} and gain_mask_ratio={self.gain_mask_ratio}: each above 0 and below 1"
            )
        if self.batch_size < 1 or self.baseline_windows < 1:
            problems.append(
                f"batch_size={self.batch_size} and baseline_windows={self.baseline_windows} must be positive"
            )
        if self.trains_on_everyone:
            problems.append("validation_share and test_share are both 0: there is no speaker who was not trained on")
        return problems


def evaluated_part(dataset: Dataset, args: SplitArguments, part: str) -> Dataset:
    """The rows of a part of the split, or "all" of them.

    Raises:
        ValueError: nobody is in that part.
    """
    if part == "all":
        return dataset
    parts = split_speakers_of(dataset, args)
    if part not in parts or not len(parts[part]):
        raise ValueError(
            f"part={part!r} of this split has no clip; give it a share of the speakers, or evaluate "
            f"{[name for name in parts if len(parts[name])]} or, where the model never saw this corpus, 'all'."
        )
    return parts[part]


def check_same_split(checkpoint: str, args: SplitArguments, data: str) -> None:
    """Refuse another split of the same data than the one a checkpoint was trained with: it may have seen test speakers.

    Checkpoints without a record of their arguments (of the Hub, or converted), or trained on other data, pass.

    Args:
        checkpoint: folder that a stage wrote.
        args: of the evaluation.
        data: name of the argument that names the data, "clips_dir" or "token_store", in both.

    Raises:
        ValueError: the splits differ; names the arguments.
    """
    record = Path(checkpoint) / ARGUMENTS_NAME
    if not record.is_file():
        return
    before = json.loads(record.read_text(encoding="utf-8"))
    if before.get(data) is None or Path(before[data]).resolve() != Path(getattr(args, data)).resolve():
        return
    names = [field.name for field in fields(SplitArguments)]
    changed = [name for name in names if before.get(name) != getattr(args, name)]
    if changed:
        trained = ", ".join(f"--{name} {before.get(name)}" for name in changed)
        raise ValueError(
            f"{checkpoint} was trained on {before[data]} with another split of the speakers ({trained}); give the "
            "same to the evaluation, or it tests on speakers of the training."
        )
