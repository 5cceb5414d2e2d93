"""Few labels: who keeps one, what is learned from them, what is reported."""

import numpy as np
import pytest

from vqmae_hf.evaluation.few_labels import (
    LabelledClips,
    draw_labelled,
    label_curve,
    logistic_regression,
    small_network,
)


def clouds(num_clips=120, num_classes=3, dimensions=8, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(num_clips) % num_classes
    return LabelledClips(4 * np.eye(dimensions)[labels] + rng.normal(size=(num_clips, dimensions)), labels)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 1.0])
def test_every_class_keeps_its_share_and_at_least_one(share):
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    chosen = draw_labelled(labels, share, seed=0)
    assert len(set(chosen)) == len(chosen)
    assert np.bincount(labels[chosen]).tolist() == [max(1, round(share * n)) for n in (100, 50, 10)]
    assert np.array_equal(chosen, draw_labelled(labels, share, seed=0))


def test_other_seeds_draw_other_clips():
    labels = np.zeros(1000, dtype=int)
    assert not np.array_equal(draw_labelled(labels, 0.1, 0), draw_labelled(labels, 0.1, 1))
    with pytest.raises(ValueError, match=r"share=1.5 must be above 0 and at most 1"):
        draw_labelled(labels, 1.5, 0)


@pytest.mark.parametrize("classifier", [logistic_regression, small_network])
def test_classifiers_learn_and_do_not_depend_on_the_scale_of_their_inputs(classifier):
    train, test = clouds(seed=0), clouds(seed=1)
    predicted = classifier(train, test.inputs, 0)
    assert (predicted == test.labels).mean() > 0.95
    scaled = classifier(LabelledClips(7 * train.inputs + 3, train.labels), 7 * test.inputs + 3, 0)
    assert (scaled == predicted).mean() > 0.98


def test_a_curve_is_of_the_draws_it_says():
    seen = []

    def classifier(train, inputs, seed):
        seen.append((len(train.labels), seed))
        return np.full(len(inputs), seed % 3)

    train, test = clouds(), clouds(seed=1)
    curve = label_curve(classifier, train, test, shares=(0.1, 1.0), num_draws=3, seed=5)
    assert seen == [(12, 5), (12, 6), (12, 7), (120, 5), (120, 6), (120, 7)]
    assert [point["labels"] for point in curve] == [12, 120]
    assert curve[0]["accuracies"] == pytest.approx([1 / 3] * 3)
    assert curve[0]["std"] == pytest.approx(0)
    assert curve[0]["right"] == [round(1 / 3, 4)] * len(test.labels)  # seeds 5, 6, 7 say classes 2, 0, 1
    fewer = label_curve(classifier, train, test, shares=(0.1, 1.0), num_draws=[2, 1], seed=5)
    assert [len(point["accuracies"]) for point in fewer] == [2, 1]
    assert fewer[1]["std"] is None
    assert fewer[1]["right"] == (test.labels == 2).astype(float).tolist()
    with pytest.raises(ValueError, match=r"num_draws=\[2\] for shares=\(0.1, 1.0\)"):
        label_curve(classifier, train, test, shares=(0.1, 1.0), num_draws=[2])
