"""From columns of names and labels to a `datasets.Dataset` whose media stay undecoded."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from datasets import Audio, ClassLabel, Dataset, DatasetInfo, Features, Video

from vqmae_hf.data.corpora.registry import CorpusError, sample

MEDIA_FEATURES = {"video": Video(decode=False), "audio": Audio(decode=False)}
COLUMN_ORDER = ("clip_id", "video", "audio", "speaker", "emotion", "intensity")


def to_dataset(root: Any, columns: Mapping[str, Sequence], class_names: Sequence[str] | None = None) -> Dataset:
    """Make the dataset that `load_corpus` describes, in memory, column by column.

    Args:
        root: of the corpus, for messages.
        columns: equally long; `clip_id`, `speaker`, `video` and `audio` (full paths or None; one that is None
            throughout is dropped), `emotion` (names), anything else.
        class_names: emotions in the order of their class numbers; needed with `emotion`.

    Raises:
        CorpusError: a clip name that occurs twice, a column of values of several types.
    """
    repeated = [name for name, count in Counter(columns["clip_id"]).items() if count > 1]
    if repeated:
        raise CorpusError(f"{root}: several files share the clip name {sample(repeated)}; rename or move all but one.")
    arrays, features = {}, {}
    shared = [name for name in COLUMN_ORDER if name in columns]
    for name in [*shared, *(name for name in columns if name not in COLUMN_ORDER)]:
        values = columns[name]
        if name in MEDIA_FEATURES:
            if not any(values):
                continue
            arrays[name], features[name] = _media_array(values), MEDIA_FEATURES[name]
        elif name == "emotion":
            number = {label: i for i, label in enumerate(class_names)}
            arrays[name] = pa.array([number[label] for label in values], pa.int64())
            features[name] = ClassLabel(names=list(class_names))
        else:
            arrays[name] = _value_array(root, name, values)
            features |= Features.from_arrow_schema(pa.schema([(name, arrays[name].type)]))
    return Dataset(pa.table(arrays), info=DatasetInfo(features=Features(features)))


def _media_array(paths: Sequence[str | None]) -> pa.StructArray:
    """Paths as `datasets` stores undecoded media. Made here: encoding audio would import torchcodec."""
    names = pa.array(paths, pa.string())
    return pa.StructArray.from_arrays(
        [pa.nulls(len(names), pa.binary()), names], ["bytes", "path"], mask=names.is_null()
    )


def _value_array(root: Any, name: str, values: Sequence) -> pa.Array:
    try:
        array = pa.array(values)
    except pa.ArrowException as error:
        types = sorted({type(value).__name__ for value in values})
        raise CorpusError(f"{root}: the column {name!r} mixes values of the types {types}; use one.") from error
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array
