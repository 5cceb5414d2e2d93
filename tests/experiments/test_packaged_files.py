"""The files of the package on the small world: what each varies reaches the programs."""

import pytest

from tests.experiments.conftest import skip_without_muon, world_overrides
from vqmae_hf.experiments.cells import experiment_cells, read_cell
from vqmae_hf.experiments.experiment_file import load_experiment
from vqmae_hf.experiments.runner import run_experiment
from vqmae_hf.experiments.workspace import Workspace

SMALLEST = {
    "ravdess-speech": "pretrained/0/0",
    "ablation-fusion": "cross/0/0",
    "ablation-code-embedding": "frozen-scratch/0/0",
    "ablation-input": "decoded/0/0",
    "ablation-frozen-layers": "frozen-4/0/0",
    "ablation-labels": "scratch-10/0/0",
    "ablation-pooling": "query2emo/0/0",
    "ablation-optimizer": "pretrained-adamw/0/0",
}


@pytest.mark.parametrize("name", SMALLEST)
def test_packaged_experiments_run_in_size_debug(name, world, tmp_path):
    experiment = load_experiment(name, size="debug", overrides=world_overrides(world))
    skip_without_muon(experiment)
    lines = []
    run_experiment(experiment, tmp_path, only=[SMALLEST[name]], announce=lines.append)
    assert len(lines) == 2


def test_a_network_on_spectra_is_a_row_like_any_other(world, tmp_path):
    experiment = load_experiment("ravdess-speech", size="debug", overrides=world_overrides(world))
    ran = run_experiment(experiment, tmp_path, only=["residual/*/*"], announce=len)
    tested = []
    for cell in experiment_cells(experiment, ["residual/*/*"]):
        result = read_cell(ran, cell)
        assert result["speakers"] == ran.folds[cell.fold]
        assert 0 <= result["best_validation"] <= 1
        assert list(result["test"]) == ["audio"]
        tested += result["test"]["audio"]["predictions"]
    assert sorted(row["clip_id"] for row in tested) == sorted(world.clips["clip_id"])
    assert len(list(tmp_path.glob("spectrograms-*/step.json"))) == 1


def test_the_synthetic_corpus_is_made_and_shared(tmp_path):
    experiment = load_experiment("synthetic-audiovisual", size="debug")
    run_experiment(
        experiment, tmp_path, only=["majority/0/0", "log-mel/0/0", "codes/0/0", "code-vectors/0/0"], announce=len
    )
    for kind in ("corpus", "clips", "audio-tokenizer", "visual-tokenizer", "tokens"):
        assert len(list(tmp_path.glob(f"{kind}-*/step.json"))) == 1, kind
    again = load_experiment("ablation-fusion", size="debug")
    assert Workspace(again, tmp_path).tokens(0) == Workspace(experiment, tmp_path).tokens(0)
