"""What the training programs share: opening their data, the split of the speakers, one run of the loop, its files."""

import dataclasses
import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelerate import PartialState, load_checkpoint_in_model
from accelerate.utils import broadcast_object_list
from datasets import Dataset, DatasetDict
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from vqmae_hf.data.corpora import load_corpus
from vqmae_hf.data.prepared_clips import load_prepared_clips, prepare_clips
from vqmae_hf.data.shards import write_json, write_lines
from vqmae_hf.data.splits import corpus_folds, speaker_folds, speaker_split
from vqmae_hf.training.arguments import CorpusArguments, SplitArguments, StageArguments
from vqmae_hf.training.callbacks import (
    LOG_HISTORY_NAME,
    EpochCallback,
    LogHistoryCallback,
    Painter,
    PictureCallback,
    tensorboard_callback,
)
from vqmae_hf.training.checkpoints import (
    DamagedCheckpointError,
    checkpoint_folders,
    find_damage,
    last_whole_checkpoint,
)
from vqmae_hf.training.stage_trainer import StageTrainer

METRICS_NAME = "metrics.json"
ARGUMENTS_NAME = "arguments.json"
TRAINING_ARGUMENTS_NAME = "training_arguments.json"

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class StageResult:
    """What a stage leaves behind.

    Args:
        output_dir: folder of the final model (and of checkpoints, `metrics.json`, `log_history.jsonl`, `pictures/`).
        model: the trained model, in evaluation mode; of the best epoch where the stage chooses one.
        metrics: `train` (seconds, mean loss) and `validation`, as in `metrics.json`.
        log_history: what was logged, oldest first, as in `log_history.jsonl`.
    """

    output_dir: Path
    model: PreTrainedModel
    metrics: dict[str, Any]
    log_history: list[dict[str, float]]


def open_clips(args: CorpusArguments) -> Dataset:
    """The prepared clips of `clips_dir`, made first if a corpus is named and they are not there."""
    # One process prepares; the others find the clips there.
    with PartialState().main_process_first():
        if args.corpus is None:
            return load_prepared_clips(args.clips_dir)
        corpus = load_corpus(args.corpus, args.corpus_root, **(args.corpus_options or {}))
        options = {"face_size": args.face_size, **(args.clip_options or {})}
        if args.frames_per_second != 25:  # which load_clip does of itself, and clips prepared before do not mention
            options.setdefault("frames_per_second", args.frames_per_second)
        return prepare_clips(corpus, args.clips_dir, num_processes=args.preparation_processes, **options)


def split_speakers_of(dataset: Dataset, args: SplitArguments) -> DatasetDict:
    """Rows for train, validation and test: every row for train where no speaker is held out."""
    if args.trains_on_everyone:
        return DatasetDict({"train": dataset})
    if args.folds is not None:
        return corpus_folds(args.folds, dataset, seed=args.split_seed)[args.fold]
    if args.num_folds:
        return speaker_folds(dataset, num_folds=args.num_folds, seed=args.split_seed)[args.fold]
    return speaker_split(dataset, fractions=args.shares, seed=args.split_seed)


def run_stage(
    args: StageArguments,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    train_data: Any,
    validation_data: Any | None,
    collator: Callable | None = None,
    terms: Sequence[str] = (),
    paint: Painter | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    after_training: Callable[[], Any] | None = None,
    **trainer_options: Any,
) -> tuple[StageTrainer, StageResult]:
    """Train, from the last checkpoint if there is one, then validate and save.

    Args:
        args: of the stage.
        model: untrained, or where training starts from.
        processor: saved beside the model in every checkpoint.
        train_data: a dataset with `set_epoch`.
        validation_data: None where nothing is held out.
        collator: items -> batch.
        terms: scalar outputs of the model to log.
        paint: the model -> pictures, drawn after every validation.
        callbacks: further ones.
        after_training: called when the last (or best) weights are there, before they are validated and saved.
        **trainer_options: further arguments of `StageTrainer`.

    Returns:
        The trainer, for further evaluations, and the result, whose files are written.
    """
    checkpoint = find_checkpoint(args)
    trainer = StageTrainer(
        model=model,
        args=args,
        train_dataset=train_data,
        eval_dataset=validation_data,
        data_collator=collator,
        terms=terms,
        callbacks=[EpochCallback(train_data), LogHistoryCallback(), *callbacks],
        processor=processor,
        **trainer_options,
    )
    tensorboard = tensorboard_callback(args.output_dir)
    trainer.add_callback(tensorboard)
    if paint is not None:
        trainer.add_callback(PictureCallback(paint, tensorboard))

    metrics: dict[str, Any] = {"train": train_to_the_end(trainer, checkpoint)}
    if after_training is not None:
        after_training()
    if validation_data is not None:
        metrics["validation"] = _without_prefix(trainer.evaluate(), "eval_")
    model.eval()
    save_stage(trainer, metrics)
    if tensorboard.tb_writer is not None:
        tensorboard.tb_writer.close()
    return trainer, StageResult(Path(args.output_dir), model, metrics, trainer.state.log_history)


def train_to_the_end(trainer: StageTrainer, checkpoint: str | None) -> dict[str, float]:
    """Train on from the checkpoint, unless it is the last one of a finished run; returns the metrics of training.

    Trainer would give a finished run one step more where it ended within an epoch.
    """
    args = trainer.args
    if checkpoint is None or not is_finished(args, state := read_state(checkpoint)):
        return _without_prefix(trainer.train(resume_from_checkpoint=checkpoint).metrics, "train_")
    if args.load_best_model_at_end and state.best_model_checkpoint is not None:
        checkpoint = str(Path(args.output_dir) / Path(state.best_model_checkpoint).name)
    load_checkpoint_in_model(trainer.model, checkpoint, strict=True)
    trainer.state = state
    before = Path(args.output_dir) / METRICS_NAME
    return json.loads(before.read_text(encoding="utf-8"))["train"] if before.exists() else {}


def read_state(checkpoint: str) -> TrainerState:
    """The trainer's state at a checkpoint."""
    return TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))


def is_finished(args: TrainingArguments, state: TrainerState) -> bool:
    """Whether training with these arguments is over, as opposed to training with fewer epochs or steps."""
    if args.max_steps > 0:
        return state.global_step >= args.max_steps
    return state.global_step >= state.max_steps and state.num_train_epochs == math.ceil(args.num_train_epochs)


def find_checkpoint(args: StageArguments) -> str | None:
    """The whole checkpoint to continue from, after checking that it is one of the same run.

    Raises:
        ValueError: there is one, but `resume` is off, or it was trained on other data or as another model.
        DamagedCheckpointError: there are some, and none is whole, or the best is not and the run shall end with it.
    """
    output_dir = Path(args.output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    record = output_dir / ARGUMENTS_NAME
    own = own_arguments(args)
    if checkpoint_folders(output_dir):
        if not args.resume:
            raise ValueError(
                f"{output_dir} holds checkpoints and resume is off; delete them or choose another output_dir."
            )
        # An argument that the run did not know yet did what its default does.
        before = {**_defaults(args), **json.loads(record.read_text(encoding="utf-8"))}
        changed = [
            f"{name} was {before[name]!r}, is {value!r}" for name, value in own.items() if before[name] != value
        ]
        if changed:
            raise ValueError(
                f"{output_dir} holds the checkpoints of another run ({'; '.join(changed)}); choose another output_dir "
                "or the former values."
            )
    checkpoint = told_by_the_main_process(lambda: last_checkpoint_of_use(args))
    if checkpoint is not None:
        logger.warning("Continuing from %s.", checkpoint)
    if args.should_save:
        write_json(record, own)
    return checkpoint


def last_checkpoint_of_use(args: StageArguments) -> str | None:
    """`last_whole_checkpoint` of the output folder, if the best one so far, with which the run may have to end, is whole."""
    checkpoint = last_whole_checkpoint(Path(args.output_dir))
    if checkpoint is None:
        return None
    best = read_state(str(checkpoint)).best_model_checkpoint
    if args.load_best_model_at_end and best is not None:
        folder = Path(args.output_dir) / Path(best).name
        if (damage := find_damage(folder)) is not None:
            raise DamagedCheckpointError(
                f"{folder}, the best checkpoint so far, is damaged ({damage}), and load_best_model_at_end asks for it. "
                "Bring it back from a backup, or train from the beginning in another output_dir, or set "
                "load_best_model_at_end to False."
            )
    return str(checkpoint)


def told_by_the_main_process(look: Callable[[], str | None]) -> str | None:
    """What the main process finds, and may change while it looks; what goes wrong there goes wrong everywhere."""
    found: list[Any] = [None, None]
    if PartialState().is_main_process:
        try:
            found[0] = look()
        except DamagedCheckpointError as error:
            found[1] = error
    broadcast_object_list(found)
    if found[1] is not None:
        raise found[1]
    return found[0]


def own_arguments(args: StageArguments) -> dict[str, Any]:
    """The arguments that say what is trained on what; the others, transformers' own, say how a run goes."""
    inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
    free = {"recipe", "resume", "picture_clips", "preparation_processes"}
    names = [field.name for field in dataclasses.fields(args) if field.name not in inherited | free]
    return json.loads(json.dumps({name: getattr(args, name) for name in names}))


def _defaults(args: StageArguments) -> dict[str, Any]:
    """Defaults of all arguments, as JSON has them."""
    values = {
        field.name: field.default_factory() if field.default is dataclasses.MISSING else field.default
        for field in dataclasses.fields(args)
        if field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    }
    return json.loads(json.dumps(values, default=str))


def save_stage(trainer: StageTrainer, metrics: dict[str, Any]) -> None:
    """Write the final model, its processor, `metrics.json`, transformers' own arguments (Trainer keeps them as a pickle) and
    the whole `log_history.jsonl` to the output folder."""
    trainer.save_model()
    if trainer.is_world_process_zero():
        training_arguments = json.loads(trainer.args.to_json_string())
        inherited = {field.name for field in dataclasses.fields(TrainingArguments)}
        training_arguments = {name: value for name, value in training_arguments.items() if name in inherited}
        write_json(Path(trainer.args.output_dir) / TRAINING_ARGUMENTS_NAME, training_arguments)
        write_json(Path(trainer.args.output_dir) / METRICS_NAME, metrics)
        write_lines(Path(trainer.args.output_dir) / LOG_HISTORY_NAME, trainer.state.log_history)


def _without_prefix(metrics: dict[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in metrics.items()}
