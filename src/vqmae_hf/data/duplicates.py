"""Recordings that occur more than once in a corpus, found by what they hold and not by what they are called."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any

import pyarrow.compute as pc
from datasets import Dataset

from vqmae_hf.data.corpora.tables import MEDIA_FEATURES

DIGEST_COLUMN = "content_digest"
CHUNK_BYTES = 1 << 20


def content_columns(dataset: Dataset) -> list[str]:
    """The columns that tell what a row holds: the digest of prepared clips and token stores, or else the media."""
    if DIGEST_COLUMN in dataset.column_names:
        return [DIGEST_COLUMN]
    return [name for name in MEDIA_FEATURES if name in dataset.column_names]


def find_duplicates(dataset: Dataset) -> list[list[int]]:
    """Find the rows that hold the same recording.

    Prepared clips and token stores carry the digest of their decoded content. For a corpus the bytes of the media are
    compared: video and separate sound must both be equal. Files are asked for their size first, and only those that share
    it with others are read.

    Args:
        dataset: with the column `content_digest`, or else `video` and `audio` or one of them.

    Returns:
        Groups of two and more row numbers, each ascending, in the order of their first rows. Rows without any content
        are in none.

    Raises:
        ValueError: none of these columns.
        OSError: a file that is not there.
    """
    columns = content_columns(dataset)
    if not columns:
        raise ValueError(
            f"no column {DIGEST_COLUMN}, video or audio among {dataset.column_names}; they say what a row holds."
        )
    if columns == [DIGEST_COLUMN]:
        return _groups(enumerate(dataset[DIGEST_COLUMN][:]))
    media = dataset.select_columns(columns).with_format(None)
    for name in columns:
        media = media.cast_column(name, MEDIA_FEATURES[name])
    sizes = zip(*(_sizes(media, name) for name in columns), strict=True)
    alike = _groups((row, size if any(part is not None for part in size) else None) for row, size in enumerate(sizes))
    digests = ((row, tuple(map(_digest, media[row].values()))) for group in alike for row in group)
    return _groups(digests)


def _groups(contents: Iterable[tuple[int, Hashable | None]]) -> list[list[int]]:
    """Rows of equal content, where there are several."""
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for row, content in contents:
        if content is not None:
            rows[content].append(row)
    return sorted(sorted(group) for group in rows.values() if len(group) > 1)


def _sizes(media: Dataset, column: str) -> list[int | None]:
    """Bytes of each medium, None where there is none."""
    sizes: list[int | None] = []
    # As Arrow, so that the bytes of embedded media are not copied.
    for piece in media.select_columns([column]).with_format("arrow").iter(batch_size=1000):
        embedded = pc.binary_length(pc.struct_field(piece[column], "bytes")).to_pylist()
        paths = pc.struct_field(piece[column], "path").to_pylist()
        for size, path in zip(embedded, paths, strict=True):
            sizes.append(os.path.getsize(path) if size is None and path is not None else size)
    return sizes


def _digest(medium: dict[str, Any] | None) -> bytes | None:
    if medium is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    if medium["bytes"] is not None:
        digest.update(medium["bytes"])
        return digest.digest()
    with open(medium["path"], "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.digest()
