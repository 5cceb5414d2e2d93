"""A recipe names the fixed folds of a corpus."""

import pytest
from datasets import Dataset

from vqmae_hf.data.fixed_folds import FIXED_FOLDS
from vqmae_hf.training.arguments import StageArguments
from vqmae_hf.training.stages import own_arguments, split_speakers_of


@pytest.fixture
def arguments(tmp_path):
    def make(**values):
        return StageArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", **values)

    return make


@pytest.mark.parametrize(("name", "fold"), [("ravdess", 1), ("crema_d", 4)])
def test_the_named_fold_is_run(arguments, name, fold):
    speakers = sorted(speaker for part in FIXED_FOLDS[name] for speaker in part)
    dataset = Dataset.from_dict({"speaker": speakers * 2})
    args = arguments(folds=name, fold=fold, validation_share=0, test_share=0)
    assert not args.trains_on_everyone
    parts = split_speakers_of(dataset, args)
    assert sorted(set(parts["test"]["speaker"][:])) == list(FIXED_FOLDS[name][fold])
    assert sorted(speaker for part in parts.values() for speaker in part["speaker"][:]) == sorted(speakers * 2)
    again = split_speakers_of(dataset, arguments(folds=name, fold=fold, split_seed=1))
    assert again["test"]["speaker"][:] == parts["test"]["speaker"][:]
    assert again["validation"]["speaker"][:] != parts["validation"]["speaker"][:]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"folds": "mead"}, r"folds='mead' has no fixed folds, \['crema_d', 'ravdess'\] have; others take num_folds"),
        ({"folds": "ravdess", "num_folds": 5}, "exclude each other"),
        ({"folds": "ravdess", "fold": 5}, "fold=5 of the 5 folds of ravdess, counted from 0"),
        ({"num_folds": 2}, "fold=0 of num_folds=2: at least 3 folds"),
    ],
)
def test_folds_that_do_not_exist_are_refused(arguments, values, problem):
    with pytest.raises(ValueError, match=problem):
        arguments(**values)


def test_runs_of_different_folds_are_different_runs(arguments):
    first, second = (own_arguments(arguments(folds=name, fold=0)) for name in ("ravdess", "crema_d"))
    assert {name for name in first if first[name] != second[name]} == {"folds"}
