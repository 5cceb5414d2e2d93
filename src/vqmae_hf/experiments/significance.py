"""Is one system better than another on the same folds, or was it luck? Paired tests, each with what it takes for granted.

All compare the share of clips that are right (WAR). None knows how much a result depends on the draw of the folds: all runs
share theirs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

NUM_RESAMPLES = 9999
RESAMPLES_AT_ONCE = 500
CONFIDENCE = 0.95


def compare_clips(
    first: np.ndarray, second: np.ndarray, speakers: Sequence[str], *, seed: int = 0
) -> dict[str, float | list[float]]:
    """Paired tests over what two systems said of the same test clips.

    Args:
        first, second: (N,) how right each system was on each clip: 0 or 1, or the mean of that over seeds.
        speakers: (N,) who speaks in it.
        seed: of the resampling.

    Returns:
        `difference`: mean of `first` - `second`.
        `p_speakers`: paired permutation test whose unit is the speaker: were the two systems alike, either could have
            given any speaker's answers. It asks about speakers never heard, since clips of one voice succeed and fail
            together; the one to quote.
        `p_clips`: the same with the clip as the unit: whether they differ on these very speakers. It takes clips for
            independent, and is too sure of itself about others.
        `interval`: 95 % bootstrap interval of the difference, speakers drawn with replacement (percentiles).

    Raises:
        ValueError: lengths differ, or nothing to compare.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if not len(first) or not len(first) == len(second) == len(speakers):
        raise ValueError(
            f"{len(first)} and {len(second)} answers on the clips of {len(speakers)} speakers cannot be paired; give both "
            "systems' answers on the same clips, in one order."
        )
    differences = first - second
    _, unit = np.unique(np.asarray(speakers), return_inverse=True)
    by_speaker, clips_of = np.bincount(unit, weights=differences), np.bincount(unit)
    return {
        "difference": float(differences.mean()),
        "p_speakers": permutation_p_value(by_speaker, seed=seed),
        "p_clips": permutation_p_value(differences, seed=seed),
        "interval": _bootstrap_interval(by_speaker, clips_of, seed),
    }


def compare_runs(first: Sequence[float], second: Sequence[float]) -> dict[str, Any]:
    """Paired tests over the runs (fold x seed) of two systems.

    Args:
        first, second: (R,) WAR of each run; the same folds and seeds, in one order.

    Returns:
        `p_t` of the two-sided paired t-test, `p_wilcoxon` of the two-sided signed-rank test (zero differences split),
        both None with fewer than two runs, and `num_runs`. Both take runs for independent, which they are not (folds
        share training speakers, seeds share test speakers), and so are too sure of themselves; the first, moreover, takes
        the differences for normal.

    Raises:
        ValueError: lengths differ.
    """
    if len(first) != len(second):
        raise ValueError(
            f"{len(first)} and {len(second)} runs cannot be paired; give both on the same folds and seeds."
        )
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    if len(differences) < 2:
        return {"p_t": None, "p_wilcoxon": None, "num_runs": len(differences)}
    return {
        "p_t": _t_test(differences),
        "p_wilcoxon": float(stats.wilcoxon(differences, zero_method="zsplit").pvalue) if differences.any() else 1.0,
        "num_runs": len(differences),
    }


def permutation_p_value(differences: np.ndarray, *, seed: int = 0) -> float:
    """Two-sided paired permutation test of the mean difference: each keeps or changes its sign, as if labels were swapped.

    Args:
        differences: (n,) one per unit. Up to 13 units all signs are tried, beyond that `NUM_RESAMPLES` drawn ones.
    """
    differences = np.asarray(differences, dtype=np.float64)
    if len(differences) < 2:
        return 1.0  # one unit has one other sign, which is as far from zero
    result = stats.permutation_test(
        (differences,),
        _mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        batch=RESAMPLES_AT_ONCE,
        random_state=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def _t_test(differences: np.ndarray) -> float:
    """scipy's, which has no answer where all differences are one and the same."""
    if np.ptp(differences) < 1e-12:
        return 1.0 if abs(differences[0]) < 1e-12 else 0.0
    return float(stats.ttest_1samp(differences, 0.0).pvalue)


def _bootstrap_interval(sums: np.ndarray, counts: np.ndarray, seed: int) -> list[float]:
    if len(sums) < 2:
        return [float(sums.sum() / counts.sum())] * 2
    result = stats.bootstrap(
        (sums, counts),
        _ratio,
        paired=True,
        vectorized=True,
        method="percentile",
        confidence_level=CONFIDENCE,
        n_resamples=NUM_RESAMPLES,
        batch=RESAMPLES_AT_ONCE,
        random_state=np.random.default_rng(seed),
    )
    return [float(result.confidence_interval.low), float(result.confidence_interval.high)]


def _mean(values: np.ndarray, axis: int) -> np.ndarray:
    return values.mean(axis=axis)


def _ratio(sums: np.ndarray, counts: np.ndarray, axis: int) -> np.ndarray:
    return sums.sum(axis=axis) / counts.sum(axis=axis)
