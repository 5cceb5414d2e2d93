"""Studies of pre-training: the files of the package, and a run on the small world."""

import json

import pytest
import yaml

from tests.experiments.conftest import world_overrides
from vqmae_hf.data.token_store import load_token_store
from vqmae_hf.experiments.__main__ import main
from vqmae_hf.experiments.masked_study import STUDIES, load_study, present_study, run_study, study_names
from vqmae_hf.experiments.masked_study_page import is_study
from vqmae_hf.experiments.workspace import Workspace
from vqmae_hf.training.arguments import PretrainArguments
from vqmae_hf.training.recipes import build_arguments


@pytest.mark.parametrize("name", study_names())
@pytest.mark.parametrize("size", ["full", "debug"])
def test_every_study_parses_and_says_its_command_and_cost(name, size, tmp_path):
    study = load_study(name, size=size)
    values = {key: value for key, value in study.system.pretraining.items() if key != "share"}
    store = {"token_store": "store", "audio_tokenizer": "a", "visual_tokenizer": "v"}
    build_arguments(PretrainArguments, output_dir=str(tmp_path), **{**values, **store, "bf16": False})
    head = (STUDIES / f"{name}.yaml").read_text(encoding="utf-8").split("\ntitle:")[0]
    assert f"python -m vqmae_hf.experiments masked {name} " in head
    assert "Cost: " in head


@pytest.fixture
def published(world, tmp_path):
    overrides = {**world_overrides(world), "folds": 3, "folds_run": 2, "evaluation": {"batch_size": 3}}
    study = load_study("grid-masked-prediction", size="debug", overrides=overrides)
    return study, run_study(study, tmp_path / "work", tmp_path / "results")


def test_a_study_asks_about_the_speakers_that_no_step_has_seen(published, tmp_path):
    study, path = published
    results = json.loads(path.read_text(encoding="utf-8"))
    folds = Workspace(study.experiment, tmp_path / "work").folds[:2]
    tested = {speaker for fold in folds for speaker in fold["test"]}
    assert results["speakers"] == sorted(tested)
    assert {row["speaker"] for row in results["gain"]["visual"]["clips"]} <= tested
    trained = [
        set(load_token_store(path / "made")["speaker"][:]) for path in (tmp_path / "work").glob("some-tokens-*")
    ]
    assert len(trained) == 2
    for fold in folds:
        assert sum(not speakers & set(fold["test"]) for speakers in trained) == 1
    assert path.with_suffix(".png").stat().st_size > 0


def test_the_page_is_made_from_the_results_alone(published):
    _, path = published
    results = json.loads(path.read_text(encoding="utf-8"))
    page = path.with_suffix(".md").read_text(encoding="utf-8")
    for modality in ("visual", "audio"):
        assert f"{results['masked'][modality]['0.5']['model']['cross_entropy']:.3f}" in page
        assert f"{results['gain'][modality]['contexts']['stranger']['cross_entropy']:.4f}" in page
    path.with_suffix(".md").unlink()
    assert is_study(path)
    present_study(path)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == page


def test_the_command_makes_the_pages_of_studies(published, capsys):
    _, path = published
    main(["tables", str(path.parent)])
    assert str(path.with_suffix(".md")) in capsys.readouterr().out


def test_wrong_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="grid-masked-prediction"):
        load_study("no-such-study")
    values = yaml.safe_load((STUDIES / "grid-masked-prediction.yaml").read_text(encoding="utf-8"))
    values["evaluation"]["mask_ratio"] = 0.5
    del values["folds_run"]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ValueError, match=r"'folds_run', 'mask_ratio'"):
        load_study(wrong)
