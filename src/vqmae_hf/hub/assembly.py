"""A folder as a Hub repository holds it: weights, configuration, processor, code, records of the training, card."""

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path, PureWindowsPath
from typing import Any

from transformers import PreTrainedModel
from transformers.utils import CONFIG_NAME

from vqmae_hf.data.shards import write_json
from vqmae_hf.hub.carried_code import (
    auto_map_of_model,
    auto_map_of_processor,
    copy_clip_loader,
    copy_modeling_code,
    custom_pipelines,
)
from vqmae_hf.hub.checkpoint_source import PROCESSOR_FILES, CheckpointSource, open_source
from vqmae_hf.hub.model_card import CARD_NAME, CardFacts, shown_training_arguments, write_model_card
from vqmae_hf.modeling.pipeline_audiovisual_classification import AudioVisualClassificationPipeline
from vqmae_hf.training import evaluate_pretraining, evaluate_tokenizers, finetune
from vqmae_hf.training.stages import ARGUMENTS_NAME, METRICS_NAME, TRAINING_ARGUMENTS_NAME

ARGUMENT_FILES = (ARGUMENTS_NAME, TRAINING_ARGUMENTS_NAME)
RESULT_FILES = (
    METRICS_NAME,
    finetune.RESULTS_NAME,
    evaluate_tokenizers.RESULTS_NAME,
    evaluate_pretraining.RESULTS_NAME,
)


@dataclass(frozen=True)
class AssembledRepository:
    """
    A folder ready to be uploaded.

    Args:
        folder: holds exactly what the repository will hold.
        repo_type: "model" or "dataset".
        kind: of the checkpoint, "vqmae_classifier", or of the data set.
        files: bytes of each file, by its path in the repository.
        notes: what whoever publishes should know.
        is_whole: whether it takes the place of what an earlier publication left, or is added to it.
    """

    folder: Path
    repo_type: str
    kind: str
    files: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_whole: bool = True

    @property
    def num_bytes(self) -> int:
        return sum(self.files.values())


def assemble_repository(
    source: str | PathLike | PreTrainedModel,
    output_dir: str | PathLike,
    repo_id: str,
    *,
    processor: Any = None,
    results: str | PathLike | Sequence[str | PathLike] | None = None,
    corpora: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    max_shard_size: int | str = "5GB",
) -> AssembledRepository:
    """
    Write what a Hub repository of a checkpoint holds to a new folder; nothing is uploaded.

    The weights are read and written anew, so that every tensor is known to be there. Local paths in arguments and results
    are shortened to their last part. Pickles (`training_args.bin`), optimizer states and logs are left behind.

    Args:
        source: checkpoint folder, as `save_pretrained` or a training program wrote it, or a model.
        output_dir: new or empty folder.
        repo_id: name that the card and its examples use, "user/name".
        processor: None is the one beside the checkpoint.
        results: JSON files with measurements for the card, besides those of known names in the folder.
        corpora: what the model was trained on, names of `vqmae_hf.data.corpora.corpus_names()` or free text; None is what
            the records of the training say.
        metadata: entries for the head of the card, such as `{"license": "apache-2.0", "language": ["en"]}`.
        max_shard_size: of a file of weights, bytes or text such as "5GB".

    Raises:
        ValueError: `output_dir` is not empty, or the source is no whole checkpoint of this package.
    """
    checkpoint = open_source(source, processor)
    with new_folder(output_dir) as folder:
        write_checkpoint(checkpoint, folder, max_shard_size)
        arguments, measured = copy_records(checkpoint.folder, results, folder)
        facts = CardFacts(checkpoint, repo_id, arguments, measured, corpora, dict(metadata or {}))
        notes = (*checkpoint.notes, *write_model_card(facts, folder))
    return describe_folder(Path(output_dir), "model", checkpoint.kind.name, notes)


def write_checkpoint(checkpoint: CheckpointSource, folder: Path, max_shard_size: int | str) -> None:
    """Weights, configuration, processor, and the code that loads all of them."""
    model, config_class = checkpoint.model, type(checkpoint.model.config)
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    references: dict[str, Any] = {"auto_map": auto_map_of_model(config_class)}
    if checkpoint.kind.is_classifier:
        references["custom_pipelines"] = custom_pipelines()
    edit_json(folder / CONFIG_NAME, references)
    write_processor(checkpoint.processor, folder)
    classes = [config_class, type(model)]
    if checkpoint.kind.is_classifier:
        classes.append(AudioVisualClassificationPipeline)
        copy_clip_loader(folder)
    copy_modeling_code(classes, folder)


def write_processor(processor: Any, folder: Path) -> None:
    """A processor, or a part of one, with the code that loads it."""
    processor.save_pretrained(folder)
    names = [name for name in ("feature_extractor", "video_processor") if hasattr(processor, name)]
    classes = {name: type(getattr(processor, name)) for name in names}
    own = auto_map_of_processor(type(processor))
    entries = {name: {"auto_map": {**own, **auto_map_of_processor(class_)}} for name, class_ in classes.items()}
    for path in (folder / name for name in PROCESSOR_FILES):
        if path.is_file():
            edit_json(path, {"auto_map": own, **entries})
    copy_modeling_code([type(processor), *classes.values()], folder)


def edit_json(path: Path, entries: Mapping[str, Any]) -> None:
    """Set entries of a JSON file, without local paths; those that are mappings are merged one level deep."""
    content = without_local_paths(read_json(path))
    for name, value in entries.items():
        merged = isinstance(value, dict) and isinstance(content.get(name), dict) and name != "auto_map"
        content[name] = {**content[name], **value} if merged else value
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def copy_records(
    source: Path | None, results: str | PathLike | Sequence[str | PathLike] | None, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Copy what training and evaluation left behind, without local paths.

    Returns:
        The stage's own arguments and the main ones of transformers ({} where there are none), and the content of each file
        of results by its name.

    Raises:
        ValueError: a file that is not there, is no JSON, or has the name of another one.
    """
    found = [source / name for name in (*ARGUMENT_FILES, *RESULT_FILES)] if source is not None else []
    files = [path for path in found if path.is_file()]
    given = [results] if isinstance(results, str | PathLike) else list(results or [])
    files += [path for path in map(Path, given) if path.resolve() not in {file.resolve() for file in files}]
    contents: dict[str, Any] = {}
    for path in files:
        if path.name in contents or (folder / path.name).exists():
            raise ValueError(f"{path}: the repository already has a file {path.name}; give this one another name.")
        contents[path.name] = without_local_paths(read_json(path))
        write_json(folder / path.name, contents[path.name])
    arguments = {
        **contents.get(ARGUMENTS_NAME, {}),
        **shown_training_arguments(contents.get(TRAINING_ARGUMENTS_NAME, {})),
    }
    return arguments, {name: content for name, content in contents.items() if name not in ARGUMENT_FILES}


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} cannot be read as JSON ({error}); results are files that a program wrote."
        ) from error


def without_local_paths(content: Any) -> Any:
    """The same JSON with absolute paths, which name people and machines, shortened to their last part."""
    if isinstance(content, dict):
        return {name: without_local_paths(value) for name, value in content.items()}
    if isinstance(content, list):
        return [without_local_paths(value) for value in content]
    if isinstance(content, str) and (content.startswith(("/", "~")) or PureWindowsPath(content).drive):
        return PureWindowsPath(content).name or content  # of either kind of slash
    return content


@contextmanager
def new_folder(output_dir: str | PathLike) -> Iterator[Path]:
    """A folder to fill, which gets its name when the block ends without an error, and is gone otherwise.

    Raises:
        ValueError: there is something of this name, and it is no empty folder.
    """
    target = Path(output_dir)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} exists and is not an empty folder; choose a new one, or delete it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    unfinished.chmod(0o755)  # as mkdir would have made it
    try:
        yield unfinished
        unfinished.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def describe_folder(
    folder: Path, repo_type: str, kind: str, notes: Iterable[str], *, is_whole: bool = True
) -> AssembledRepository:
    """What is in a folder, the card first."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    paths.sort(key=lambda path: path.name != CARD_NAME)
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    return AssembledRepository(folder, repo_type, kind, sizes, tuple(notes), is_whole)
