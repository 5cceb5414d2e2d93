"""Experiments on the small world of the training programs."""

import pytest
import torch
import yaml

from tests.training.conftest import world  # noqa: F401 - a fixture

SYSTEMS = {
    "majority": {"kind": "majority"},
    "log-mel": {"kind": "logistic_regression", "features": "log_mel"},
    "codes": {"kind": "logistic_regression", "features": "code_histogram"},
    "scratch": {"kind": "network", "pretraining": False},
    "pretrained": {"kind": "network", "pretraining": True},
}


def world_overrides(world):  # noqa: F811
    """What makes a packaged experiment one on the small world."""
    data = {"corpus": None, "corpus_root": None, "clips_dir": world.clips_dir}
    tokenizers = {name: world.tokens[f"{name}_tokenizer"] for name in ("audio", "visual")}
    return {"data": data, "tokenizers": tokenizers}


def experiment_writer(world, folder):  # noqa: F811
    """Writes an experiment file of 3 folds on the small world; arguments replace its values."""

    def write(name="small", **values):
        content = {
            "title": "A small world",
            "modalities": ["audio", "visual"],
            **world_overrides(world),
            "folds": 3,
            "seeds": [0, 1],
            "model": {"preset": "tiny", "overrides": {"num_hidden_layers": 1, "decoder_num_hidden_layers": 1}},
            "pretraining": {"recipe": "debug", "max_steps": 2},
            "finetuning": {"recipe": "debug", "max_steps": 2},
            "systems": SYSTEMS,
            "comparisons": [["pretrained", "scratch"], ["log-mel", "majority"]],
            **values,
        }
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return write


def skip_without_muon(experiment):
    """Skip a test of an experiment whose networks are trained by Muon, where torch has none."""
    stages = [values for s in experiment.systems.values() for values in (s.pretraining, s.finetuning) if values]
    if not hasattr(torch.optim, "Muon") and any(values.get("muon") for values in stages):
        pytest.skip(f"torch before 2.9 has no Muon, by which {experiment.name} trains its networks")


@pytest.fixture
def write_file(world, tmp_path):  # noqa: F811
    return experiment_writer(world, tmp_path)
