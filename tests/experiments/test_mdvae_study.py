"""The study of an MDVAE: its file, its cells, its page, and all of it once at a size of no use."""

import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

from vqmae_hf.evaluation.few_labels import LabelledClips
from vqmae_hf.experiments.mdvae import study as study_module
from vqmae_hf.experiments.mdvae.__main__ import main
from vqmae_hf.experiments.mdvae.page import gain_text, margin_text, update_page
from vqmae_hf.experiments.mdvae.results import cell_path, study_cells
from vqmae_hf.experiments.mdvae.study import StudyWorkspace, load_study, study_names
from vqmae_hf.experiments.mdvae.supervised_transformer import (
    SupervisedTransformer,
    count_parameters,
    supervised_transformer,
    width_for,
)


@pytest.mark.parametrize("size", ["full", "debug"])
@pytest.mark.parametrize("name", study_names())
def test_packaged_studies_can_be_read(name, size, tmp_path):
    study = load_study(name, size=size)
    assert study.name == name
    assert set(study.regions) == {"mouth", "eyes"}
    assert len(study_cells(StudyWorkspace(study, tmp_path))) == 4 * len(study.seeds)


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("title: x\ncolour: red\n")
    with pytest.raises(ValueError, match=r"mine.yaml: missing keys \['data'.*unknown keys \['colour'\]"):
        load_study(path)
    with pytest.raises(ValueError, match=r"'nothing'.*mdvae-synthetic"):
        load_study("nothing")


def test_a_cell_is_another_one_where_its_own_settings_change(tmp_path):
    base, other = (
        StudyWorkspace(load_study("mdvae-synthetic", overrides=overrides), tmp_path)
        for overrides in ({}, {"label_draws": 3})
    )
    same = {name for name, seed in study_cells(base) if cell_path(base, name, seed) == cell_path(other, name, seed)}
    assert same == {"disentanglement", "swaps", "denoising"}
    with pytest.raises(ValueError, match=r"only='swap/0' matches no cell.*'swaps'"):
        study_cells(base, ["swap/0"])


def test_a_cell_is_another_one_where_a_recipe_has_changed(tmp_path):
    recipe = tmp_path / "mine.yaml"
    paths = []
    for steps in (10, 20):
        recipe.write_text(f"warmup_steps: {steps}\n")
        study = load_study("mdvae-synthetic", overrides={"model": {"recipe": str(recipe)}})
        paths.append(cell_path(StudyWorkspace(study, tmp_path), "disentanglement", 0))
    assert paths[0] != paths[1]


def test_the_transformer_has_the_size_asked_for_and_learns():
    width = width_for(60_000, 12, 6, 3)
    size = count_parameters(SupervisedTransformer(12, width, 6, 3))
    assert abs(size - 60_000) < 0.2 * 60_000
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    inputs = rng.normal(size=(90, 6, 12)).astype(np.float32)
    inputs[np.arange(90), :, labels] += 2
    classify = supervised_transformer(32, 3)
    predicted = classify(LabelledClips(inputs[:60], labels[:60]), inputs[60:], 0)
    assert (predicted == labels[60:]).mean() > 0.8


def test_gains_are_those_of_the_same_clips_of_all_seeds():
    def content(with_sound, without):
        methods = {"MDVAE with sound": {"psnr": with_sound}, "MDVAE without sound": {"psnr": without}}
        return {"speakers": ["one", "two"], "conditions": {"noise mouth": methods}}

    seeds = {"0": content([20.0, 22.0], [18.0, 18.0]), "1": content([30.0, 30.0], [28.0, 30.0])}
    text = gain_text({"measurements": {"denoising": seeds}}, "noise mouth", "MDVAE with sound", "MDVAE without sound")
    assert text == "2.00 (2.00 to 2.00)"  # each speaker gains 2 dB on average


def test_margins_are_over_test_speakers():
    def content(own, other):
        curves = {"w": [{"right": own}], "other": [{"right": other}]}
        return {"speakers": ["one", "one", "two"], "curves": curves}

    seeds = {"0": content([1.0, 0.5, 0.0], [0.0, 0.5, 1.0]), "1": content([1.0, 0.5, 1.0], [0.0, 0.5, 0.0])}
    text = margin_text({"measurements": {"few-labels": seeds}}, "w", "other", 0)
    assert text == "33.3 (0.0 to 50.0)"


def test_probes_learn_from_as_many_training_speakers_as_are_labelled(tmp_path, monkeypatch):
    speakers = [f"speaker_{index}" for index in range(10) for _ in range(2)]
    clips = Dataset.from_dict({"clip_id": [f"clip_{index}" for index in range(20)], "speaker": speakers})
    study = load_study("mdvae-synthetic", size="debug", overrides={"labelled_speakers": 2})
    workspace = StudyWorkspace(study, tmp_path)
    workspace.clips, workspace.corpus_root, workspace.num_frames = clips, tmp_path, 6
    asked = []
    monkeypatch.setattr(study_module, "read_factors", lambda root, clip_ids, *rest: asked.append(clip_ids))
    labelled, test = workspace.part("labelled"), workspace.part("test")
    assert [clips["clip_id"][int(row)] for row in labelled.rows] == asked[0]
    of_labelled, of_test = ({speakers[row] for row in part.rows} for part in (labelled, test))
    assert (len(of_labelled), len(of_test)) == (2, 4)
    assert not of_labelled & of_test
    assert len(labelled.rows) == 4
    workspace.study = replace(study, labelled_speakers=6)
    with pytest.raises(ValueError, match=r"labelled_speakers=6, and [45] speakers are for training"):
        workspace.part("labelled")


@pytest.mark.slow
def test_the_whole_study_runs_once_and_goes_on_where_it_stopped(tmp_path, capsys):
    arguments = ["run", "mdvae-synthetic", "--size", "debug", "--work_dir", str(tmp_path / "work")]
    arguments += ["--set", "data.synthetic.num_speakers=6", "--set", "data.synthetic.image_size=64"]
    arguments += ["--set", "data.clip_options={crop_faces: false}", "--results", str(tmp_path / "results")]
    main([*arguments, "--only", "disentanglement/*", "--no_clips"])
    main(arguments)
    assert "disentanglement/0: done before" in capsys.readouterr().out
    path = tmp_path / "results" / "mdvae-synthetic.json"
    results = json.loads(path.read_text())
    assert set(results["measurements"]) == {"disentanglement", "swaps", "denoising", "few-labels"}
    assert results["incomplete"] == []
    page = path.with_suffix(".md")
    assert all(
        picture in page.read_text() for picture in ("latents.png", "swaps.png", "denoising.png", "few-labels.png")
    )
    pictures = {picture.name.removeprefix("mdvae-synthetic-") for picture in path.parent.glob("*.png")}
    assert {
        "latents.png",
        "swaps.png",
        "denoising.png",
        "few-labels.png",
        "swap-w.png",
        "swapped-pairs.png",
    } <= pictures
    assert {clip.name for clip in tmp_path.rglob("clips-written/*.mp4")} >= {"swap-w.mp4", "interpolation.mp4"}
    written = page.read_text() + "\nWhat I think of it.\n"
    page.write_text(written)
    main(["tables", str(path.parent)])
    assert page.read_text() == written
    assert update_page(path) == page
