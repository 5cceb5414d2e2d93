"""Datasets of the Hub (or in their form on disk) as corpora: their columns renamed, their media left undecoded."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datasets import (
    Audio,
    ClassLabel,
    Dataset,
    DatasetDict,
    Value,
    Video,
    concatenate_datasets,
    load_dataset,
    load_from_disk,
)

from vqmae_hf.data.corpora.media_folder import read_class_names, read_speakers, speaker_name
from vqmae_hf.data.corpora.registry import CorpusError, register_corpus, sample
from vqmae_hf.data.corpora.tables import COLUMN_ORDER, MEDIA_FEATURES

SAVED_TO_DISK = ("state.json", "dataset_dict.json")


@register_corpus("hub", is_folder=False)
def load_hub_corpus(
    dataset: Dataset | DatasetDict | str | Path,
    *,
    columns: Mapping[str, str] | None = None,
    speaker_pattern: str | None = None,
    class_names: Sequence[str] | None = None,
    split: str | None = None,
    config: str | None = None,
) -> Dataset:
    """Make a corpus of a dataset with a video or audio column, such as `mteb/RAVDESS_AV`; nothing is decoded.

    ```python
    load_corpus("hub", "mteb/RAVDESS_AV", speaker_pattern=r"-(\\d\\d)\\.mp4$")
    ```

    Args:
        dataset: a dataset; or a folder with Parquet or Arrow files, or that `save_to_disk` left; or a repository of the
            Hub, which without network is taken from the cache.
        columns: names of the columns that play the parts `video`, `audio`, `emotion`, `speaker`, `intensity`,
            `clip_id`, e.g. `{"emotion": "label"}`; a part that is not mentioned keeps its own name, and media
            columns are found by their type. Other columns are kept as they are.
        speaker_pattern: regular expression searched in the name of each clip's file (the `path` of its video, or else
            of its audio; its `clip_id` if it has none); the group `speaker`, or else the first, is the speaker. It
            overrides the column.
        class_names: emotions in the order of their class numbers; default: those of the column's `ClassLabel`, or
            those found, sorted. Needed where the column holds bare numbers.
        split: of the dataset, several joined as "train+test"; None where there is one.
        config: configuration of a repository that has several.

    Returns:
        The dataset described at `load_corpus`. `clip_id` is the file name without its ending where every clip has one
        of its own, or else the number of the row.

    Raises:
        CorpusError: nothing to load there, no media column, a column or split that does not exist, an emotion without
            name, a pattern that does not match.
    """
    where = "the dataset" if isinstance(dataset, Dataset | DatasetDict) else str(dataset)
    data = _one_dataset(_open(dataset, split, config), split, where)
    parts = _assign_columns(data, dict(columns or {}), where)
    for medium in (part for part in ("video", "audio") if part in parts):
        data = data.cast_column(parts[medium], MEDIA_FEATURES[medium])
    data = data.rename_columns({name: part for part, name in parts.items() if part != name})

    names = _file_names(data)
    made: dict[str, tuple[list, Any]] = {"clip_id": (_clip_ids(data, names, where), Value("string"))}
    clip_ids = made["clip_id"][0]
    if speaker_pattern is not None:
        searched = [name or clip_id for name, clip_id in zip(names, clip_ids, strict=True)]
        speakers = read_speakers(searched, speaker_pattern, where)
    else:
        column = data["speaker"][:] if "speaker" in data.column_names else [None] * len(data)
        speakers = list(map(speaker_name, column))
    made["speaker"] = speakers, Value("string")
    if "emotion" in data.column_names:
        made["emotion"] = _read_emotions(data, clip_ids, class_names, where)
    return _with_columns(data, made)


def _open(dataset: Any, split: str | None, config: str | None) -> Any:
    """What the name stands for."""
    if not isinstance(dataset, str | Path):
        return dataset
    folder = Path(dataset).expanduser()
    if any((folder / name).is_file() for name in SAVED_TO_DISK):
        return load_from_disk(folder)
    if not folder.is_dir() and (folder.is_absolute() or str(dataset).startswith((".", "~"))):
        raise CorpusError(
            f"{folder} is not a folder; pass one with Parquet or Arrow files, or a repository of the Hub."
        )
    try:
        return load_dataset(str(folder if folder.is_dir() else dataset), config, split=split)
    except (OSError, ValueError) as error:
        raise CorpusError(
            f"{dataset} cannot be loaded as a dataset: {error}. Without network, fetch it where there is one "
            f"(hf download {dataset} --repo-type dataset --local-dir FOLDER) and pass the folder."
        ) from error


def _one_dataset(data: Any, split: str | None, where: str) -> Dataset:
    """The splits that were asked for, as one dataset."""
    if isinstance(data, DatasetDict):
        wanted = split.split("+") if split else list(data)
        if (split is None and len(data) > 1) or set(wanted) - set(data):
            raise CorpusError(
                f"{where} has the splits {list(data)}; choose some with split={'+'.join(data)!r}, "
                f"{'not none' if split is None else f'not {split!r}'}."
            )
        data = concatenate_datasets([data[name] for name in wanted])
    if not isinstance(data, Dataset):
        raise CorpusError(f"{where} is a {type(data).__name__}; a datasets.Dataset is needed, not a stream of it.")
    if not len(data):
        raise CorpusError(f"{where} has no rows.")
    return data.with_format(None)


def _assign_columns(data: Dataset, columns: dict[str, str], where: str) -> dict[str, str]:
    """Part -> name of the column that plays it, for the parts that are played."""
    unknown, absent = sorted(set(columns) - set(COLUMN_ORDER)), sorted(set(columns.values()) - set(data.column_names))
    if unknown or absent:
        raise CorpusError(
            f"columns names the parts {unknown} and the columns {absent}, which do not exist; parts are {COLUMN_ORDER}, "
            f"columns of {where} {data.column_names}."
        )
    parts = {part: part for part in COLUMN_ORDER if part in data.column_names} | columns
    for part, kind in (("video", Video), ("audio", Audio)):
        typed = [name for name, feature in data.features.items() if isinstance(feature, kind)]
        if part not in parts and len(typed) == 1:
            parts[part] = typed[0]
    if not {"video", "audio"} & set(parts):
        raise CorpusError(
            f"{where} has no video or audio column among {dict(data.features)}; name it, e.g. "
            'columns={"video": "clip"}.'
        )
    return parts


def _file_names(data: Dataset) -> list[str | None]:
    """The `path` of each clip's video, or else of its audio, below the folder that all of them share."""
    names: list[str | None] = [None] * len(data)
    for medium in ("audio", "video"):
        if medium in data.column_names:
            # In pieces, and as Arrow: the bytes beside the names stay on disk.
            pieces = data.select_columns([medium]).with_format("arrow").iter(batch_size=1000)
            paths = [path for piece in pieces for path in _paths(piece[medium])]
            names = [path or name for path, name in zip(paths, names, strict=True)]
    folders = {str(PurePosixPath(name).parent) for name in names if name}
    shared = os.path.commonpath(folders) if folders and len({name[:1] == "/" for name in folders}) == 1 else ""
    return [name and str(PurePosixPath(name).relative_to(shared)) for name in names]


def _paths(media: pa.ChunkedArray) -> list[str | None]:
    return pc.struct_field(media, "path").to_pylist()


def _clip_ids(data: Dataset, names: Sequence[str | None], where: str) -> list[str]:
    if "clip_id" in data.column_names:
        given = [str(name) for name in data["clip_id"][:]]
        repeated = [name for name, count in Counter(given).items() if count > 1]
        if repeated:
            raise CorpusError(f"{where}: several rows share the clip_id {sample(repeated)}; it must be unique.")
        return given
    stems = [name and str(PurePosixPath(name).with_suffix("")) for name in names]
    if all(stems) and len(set(stems)) == len(stems):
        return stems
    return [f"{row:06d}" for row in range(len(data))]


def _read_emotions(
    data: Dataset, clip_ids: Sequence[str], class_names: Sequence[str] | None, where: str
) -> tuple[list[int], ClassLabel]:
    """Class numbers and their names."""
    feature, values = data.features["emotion"], data["emotion"][:]
    names = feature.names if isinstance(feature, ClassLabel) else class_names
    if any(isinstance(value, int) for value in values):
        if names is None:
            raise CorpusError(
                f"{where}: the emotions are the numbers {sample(sorted(set(values) - {None}), 12)}; "
                "say what they mean with class_names, in the order of the numbers."
            )
        outside = sorted({value for value in values if value is not None and value >= len(names)})
        if outside:
            raise CorpusError(f"{where} has the emotions {outside}; class_names has {len(names)} names, from 0.")
        # A negative number is how `datasets` marks what has no label.
        values = [None if value is None or value < 0 else names[value] for value in values]
    chosen = read_class_names(values, clip_ids, where, class_names or names)
    return [chosen.index(str(value)) for value in values], ClassLabel(names=chosen)


def _with_columns(data: Dataset, made: Mapping[str, tuple[list, Any]]) -> Dataset:
    """The dataset with these columns in place of its own of the same name, in the order of all corpora."""
    data = data.remove_columns([name for name in made if name in data.column_names])
    for name, (values, feature) in made.items():
        data = data.add_column(name, values, feature=feature)
    shared = [name for name in COLUMN_ORDER if name in data.column_names]
    return data.select_columns([*shared, *(name for name in data.column_names if name not in shared)])
