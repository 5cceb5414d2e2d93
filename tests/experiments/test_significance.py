import numpy as np
import pytest
from scipy import stats

from vqmae_hf.experiments import significance
from vqmae_hf.experiments.significance import compare_clips, compare_runs, permutation_p_value

SPEAKERS = np.repeat(np.arange(12), 10).astype(str)


def simulate(generator, advantage=0.0, spread=0.15):
    """Right or wrong of two systems on clips of speakers who are easy or hard for each of them, on their own."""
    ease = 0.5 + generator.uniform(-spread, spread, (2, 12))
    chances = np.repeat(ease + np.array([[advantage], [0.0]]), 10, axis=1)
    return (generator.random(chances.shape) < chances).astype(float)


@pytest.fixture
def fewer_resamples(monkeypatch):
    """12 speakers have 4,096 patterns of signs; 999 of them are drawn, in a tenth of the time."""
    monkeypatch.setattr(significance, "NUM_RESAMPLES", 999)


@pytest.mark.usefixtures("fewer_resamples")
def test_without_a_difference_p_is_uniform():
    generator = np.random.default_rng(0)
    values = [permutation_p_value(generator.standard_t(3, size=14), seed=trial) for trial in range(300)]
    assert stats.kstest(values, "uniform").pvalue > 0.05


@pytest.mark.usefixtures("fewer_resamples")
def test_answers_of_equally_good_systems_differ_significantly_no_more_often_than_they_may():
    generator = np.random.default_rng(1)
    pairs = [simulate(generator) for _ in range(100)]
    values = np.array([compare_clips(first, second, SPEAKERS)["p_speakers"] for first, second in pairs])
    assert (values < 0.05).mean() <= 0.09  # 0.05, and two standard deviations of a hundred draws
    assert 0.3 < (values < 0.5).mean() < 0.6  # and p is not simply large


@pytest.mark.usefixtures("fewer_resamples")
def test_clips_as_units_are_too_sure_where_systems_differ_by_speaker():
    """What the docstring warns of: the same data, the smaller p."""
    generator = np.random.default_rng(1)
    pairs = [simulate(generator, spread=0.45) for _ in range(30)]
    results = [compare_clips(first, second, SPEAKERS) for first, second in pairs]
    by_clip, by_speaker = (np.array([result[name] for result in results]) for name in ("p_clips", "p_speakers"))
    assert np.median(by_clip) < np.median(by_speaker)
    assert (by_clip < 0.05).sum() > (by_speaker < 0.05).sum()


def test_a_strong_effect_is_found_and_has_its_sign():
    first, second = simulate(np.random.default_rng(2), advantage=0.4)
    result = compare_clips(first, second, SPEAKERS)
    assert result["p_speakers"] < 0.01
    assert result["p_clips"] < 0.01
    assert result["difference"] == pytest.approx((first - second).mean())
    low, high = result["interval"]
    assert 0 < low < result["difference"] < high
    swapped = compare_clips(second, first, SPEAKERS)
    assert swapped["difference"] == -result["difference"]
    assert swapped["p_speakers"] == pytest.approx(result["p_speakers"], abs=0.005)


def test_equal_systems_are_not_told_apart():
    answers = np.tile([0.0, 1.0], 60)
    result = compare_clips(answers, answers, SPEAKERS)
    assert result == {"difference": 0.0, "p_speakers": 1.0, "p_clips": 1.0, "interval": [0.0, 0.0]}
    assert compare_runs([0.5, 0.6, 0.7], [0.5, 0.6, 0.7]) == {"p_t": 1.0, "p_wilcoxon": 1.0, "num_runs": 3}


def test_few_units_are_enumerated():
    # Of the 8 patterns of signs of three equal differences, two are as extreme as the one found.
    assert permutation_p_value(np.ones(3)) == pytest.approx(2 / 8)
    assert permutation_p_value(np.array([1.0])) == 1.0


def test_tests_over_runs_are_those_of_scipy():
    generator = np.random.default_rng(3)
    first, second = generator.normal(0.6, 0.05, 15), generator.normal(0.5, 0.05, 15)
    result = compare_runs(first, second)
    assert result["p_t"] == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert result["p_wilcoxon"] == pytest.approx(stats.wilcoxon(first, second).pvalue)
    assert result["num_runs"] == 15


def test_one_run_proves_nothing_and_a_constant_gain_is_certain_to_the_t_test():
    assert compare_runs([0.9], [0.1]) == {"p_t": None, "p_wilcoxon": None, "num_runs": 1}
    assert compare_runs([0.6, 0.7, 0.8], [0.5, 0.6, 0.7])["p_t"] == 0.0


def test_what_cannot_be_paired_is_refused():
    with pytest.raises(ValueError, match="cannot be paired"):
        compare_clips(np.ones(3), np.ones(2), ["a", "b", "c"])
    with pytest.raises(ValueError, match="cannot be paired"):
        compare_clips(np.ones(0), np.ones(0), [])
    with pytest.raises(ValueError, match="same folds and seeds"):
        compare_runs([0.1], [0.1, 0.2])
