"""Copies of clips at other speeds in a store, as augmentation (Ko et al. 2015, "Audio augmentation for speech recognition").

A clip without pictures has one row for each of the store's speed factors; the column `speed` tells them apart, 1 the clip as
it was recorded. Stores without copies have neither the column nor `speed_factors` in their manifest, which is what counts: a
corpus may have a column of that name for something else.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vqmae_hf.data.clip_shards import ClipFailure, Row
from vqmae_hf.data.prepared_clips import row_arrays
from vqmae_hf.data.waveform_edits import change_speed

if TYPE_CHECKING:
    from vqmae_hf.data.clip_encoding import ClipEncoder

SPEED_COLUMN = "speed"
ORIGINAL = 1.0
SLOWEST, FASTEST = 0.5, 2.0


def speed_factor_problems(factors: Any) -> list[str]:
    """What is wrong with speed factors, one sentence at most, with the remedy."""
    if factors is None:
        return []
    are_numbers = isinstance(factors, Sequence) and all(
        isinstance(factor, int | float) and not isinstance(factor, bool) and isfinite(factor) for factor in factors
    )
    right = are_numbers and len(set(factors)) == len(factors) and ORIGINAL in factors
    if right and all(SLOWEST <= factor <= FASTEST for factor in factors):
        return []
    return [
        f"speed_factors={factors!r} must be different numbers from {SLOWEST} to {FASTEST}, 1 among them for the clips as "
        "they are, such as [0.9, 1.0, 1.1]"
    ]


def sorted_speed_factors(factors: Sequence[float] | None) -> tuple[float, ...]:
    """Factors in the order of a store's rows: the original first, the others from slow to fast; (1.0,) for None.

    Raises:
        ValueError: see `speed_factor_problems`.
    """
    if problems := speed_factor_problems(factors):
        raise ValueError(f"{problems[0]}.")
    others = sorted(float(factor) for factor in factors or () if factor != ORIGINAL)
    return ORIGINAL, *others


class SpeedCopies:
    """A row of a corpus, or of prepared clips, to the rows of a store: one for each speed; can be sent to another process.

    Args:
        encoder: of one clip.
        factors: as of `sorted_speed_factors`.
    """

    def __init__(self, encoder: "ClipEncoder", factors: Sequence[float]):
        self.encoder = encoder
        self.factors = tuple(factors)

    def __call__(self, row: Row) -> list[Row] | ClipFailure:
        """The clip and its copies; the clip alone where it has no sound."""
        prepared = self.encoder.prepare(row)
        if isinstance(prepared, ClipFailure):
            return prepared
        copies = []
        for factor in self.factors if prepared["waveform"] is not None else (ORIGINAL,):
            encoded = self.encoder.encode_prepared(self._at_speed(prepared, factor))
            if isinstance(encoded, ClipFailure):
                return encoded
            copies.append({**encoded, SPEED_COLUMN: factor})
        return copies

    def _at_speed(self, prepared: Row, factor: float) -> Row:
        """A prepared row with its sound at another speed. Its digest stays: it says which recording it is."""
        if factor == ORIGINAL:
            return prepared
        rate = self.encoder.processor.feature_extractor.sampling_rate
        waveform = np.ascontiguousarray(change_speed(row_arrays(prepared).waveform, rate, factor))
        # Pictures, which are not encoded here, would no longer be as long as the sound.
        return {**prepared, "frames": None, "waveform": waveform.tobytes(), "num_samples": len(waveform)}


def speed_columns(parameters: Mapping[str, Any]) -> list[str]:
    """The column that tells copies apart, where a store with these parameters of its plan has one."""
    return [SPEED_COLUMN] if "speed_factors" in parameters else []


def original_rows(table: pa.Table, parameters: Mapping[str, Any]) -> pa.Table:
    """The rows of a table of a store that are clips as they were recorded.

    Args:
        table: with what `speed_columns` names.
        parameters: of the store's plan.
    """
    return table.filter(pc.equal(table[SPEED_COLUMN], ORIGINAL)) if speed_columns(parameters) else table
