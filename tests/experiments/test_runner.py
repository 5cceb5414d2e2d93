import json
import shutil
import subprocess
import sys

import evaluate
import numpy as np
import pytest

from tests.experiments.conftest import experiment_writer, world_overrides
from vqmae_hf.data.token_store import read_token_store_info
from vqmae_hf.evaluation.emotion_metrics import EmotionMetrics
from vqmae_hf.evaluation.metrics import classification_metrics
from vqmae_hf.experiments import cells as cells_module
from vqmae_hf.experiments.__main__ import main, parse_overrides
from vqmae_hf.experiments.aggregation import UnequalClipsError, aggregate, answers_of, labels_of
from vqmae_hf.experiments.cells import (
    Cell,
    ForeignSpeakersError,
    cell_folder,
    check_speakers,
    experiment_cells,
    read_cell,
    run_cell,
)
from vqmae_hf.experiments.experiment_file import load_experiment
from vqmae_hf.experiments.runner import publish, run_experiment
from vqmae_hf.experiments.tables import render
from vqmae_hf.experiments.unfinished import finished_cells, take_over
from vqmae_hf.experiments.workspace import StepFolders, Workspace
from vqmae_hf.training import finetune, pretrain
from vqmae_hf.training.token_batches import TokenWindows


@pytest.fixture(scope="module")
def ran(world, tmp_path_factory):
    """The whole small experiment, run once: its workspace."""
    root = tmp_path_factory.mktemp("ran")
    path = experiment_writer(world, root)()
    return run_experiment(load_experiment(path), root / "work", announce=lambda line: None)


@pytest.fixture(scope="module")
def results(ran):
    return aggregate(ran)


def test_every_system_answers_for_every_speaker_once(ran, world):
    tested = [speaker for fold in ran.folds for speaker in fold["test"]]
    assert sorted(tested) == sorted(set(world.clips["speaker"]))
    for fold in ran.folds:
        parts = [set(fold[part]) for part in ("train", "validation", "test")]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 6
    for system in ran.experiment.systems:
        for seed in (0, 1) if system in ("scratch", "pretrained") else (0,):
            answers = []
            for cell in experiment_cells(ran.experiment, [f"{system}/*/{seed}"]):
                result = read_cell(ran, cell)
                assert result["speakers"] == ran.folds[cell.fold]
                answers += next(iter(result["test"].values()))["predictions"]
            assert sorted(row["clip_id"] for row in answers) == sorted(world.clips["clip_id"])


def test_pretraining_never_saw_the_test_speakers(ran):
    specs = [json.loads(path.read_text()) for path in ran.folder.glob("pretrained-*/step.json")]
    assert len(specs) == 3
    stores = {spec["spec"]["tokens"] for spec in specs}
    speakers = {read_token_store_info(ran.folder / store / "made").speakers for store in stores}
    assert speakers == {tuple(sorted(fold["train"] + fold["validation"])) for fold in ran.folds}


def test_a_second_run_does_nothing_and_a_lost_cell_is_run_again(ran, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in ran.folder.rglob("*.json")}
    monkeypatch.setattr(cells_module.finetune, "run", lambda arguments: pytest.fail("a network was trained again"))
    lines = []
    run_experiment(ran.experiment, ran.folder, announce=lines.append)
    assert all("done before" in line for line in lines)
    assert len(lines) == 3 * (1 + 1 + 1 + 2 + 2)
    assert {path: path.stat().st_mtime_ns for path in ran.folder.rglob("*.json")} == before
    (cell,) = experiment_cells(ran.experiment, ["majority/1/0"])
    shutil.rmtree(cell_folder(ran, cell))
    run_experiment(ran.experiment, ran.folder, only=["majority/*/*"], announce=lines.append)
    assert read_cell(ran, cell)["fold"] == 1
    assert "runs" not in lines[-1]


def test_processes_that_share_a_folder_make_a_step_once(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from vqmae_hf.experiments.workspace import StepFolders\n"
        "def make(folder):\n"
        "    folder.mkdir(); time.sleep(1); (folder / 'maker').write_text(sys.argv[2])\n"
        "print((StepFolders(sys.argv[1]).once('slow', {}, make) / 'maker').read_text())\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path, name], stdout=subprocess.PIPE, text=True)
        for name in ("first", "second")
    ]
    said = [process.communicate(timeout=120)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert said[0] == said[1] in ("first", "second")


def test_a_step_whose_process_was_killed_is_made_by_the_next(tmp_path):
    script = (
        "import sys, time; from vqmae_hf.experiments.workspace import StepFolders\n"
        "StepFolders(sys.argv[1]).once('slow', {}, lambda folder: (print('holds', flush=True), time.sleep(600)))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "holds\n"
        holder.kill()
    made = StepFolders(tmp_path).once("slow", {}, lambda folder: folder.mkdir())
    assert made.is_dir()


def test_processes_of_one_distributed_run_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"WORLD_SIZE=2.*--only"):
        StepFolders(tmp_path).once("step", {}, lambda folder: folder.mkdir())
    assert not any(tmp_path.iterdir())


def test_seeds_and_folds_and_starts_make_a_difference(ran):
    cells = {str(cell): read_cell(ran, cell) for cell in experiment_cells(ran.experiment)}

    def probabilities(name):
        return [row["probabilities"] for row in cells[name]["test"]["audio+visual"]["predictions"]]

    assert probabilities("scratch/0/0") != probabilities("scratch/0/1")
    assert probabilities("scratch/0/0") != probabilities("pretrained/0/0")


def test_weights_are_not_kept_but_what_tells_of_the_run_is(ran):
    (cell,) = experiment_cells(ran.experiment, ["pretrained/0/0"])
    names = {path.name for path in cell_folder(ran, cell).iterdir()}
    assert names == {"cell.json", "arguments.json", "log_history.jsonl", "metrics.json"}
    result = read_cell(ran, cell)
    assert set(result["environment"]["versions"]) >= {"python", "torch", "transformers"}
    assert result["system"]["finetuning"]["max_steps"] == 2
    assert result["test"].keys() == {"audio+visual", "audio", "visual"}


def test_the_majority_class_has_its_share_and_a_separable_corpus_is_learned(results, world):
    emotions = np.bincount(world.clips["emotion"])
    assert results["rows"]["majority"]["pooled"]["accuracy"]["mean"] == pytest.approx(emotions[0] / emotions.sum())
    # The pitch of the fake clips is their emotion.
    assert results["rows"]["log-mel"]["pooled"]["accuracy"]["mean"] == 1.0
    assert results["rows"]["log-mel"]["pooled"]["accuracy"]["std"] is None


def test_pooled_metrics_follow_from_the_answers_and_evaluate_agrees(results, tmp_path):
    labels = labels_of(results)
    metric = EmotionMetrics(cache_dir=str(tmp_path))
    assert isinstance(metric, evaluate.Metric)
    for name, row in results["rows"].items():
        expected = [classification_metrics(labels, guess) for guess in answers_of(results, name)]
        for metric_name in expected[0]:
            values = [each[metric_name] for each in expected]
            assert row["pooled"][metric_name]["values"] == pytest.approx(values, abs=1e-6)
            assert row["pooled"][metric_name]["mean"] == pytest.approx(np.mean(values), abs=1e-6)
        offline = metric.compute(predictions=answers_of(results, name)[0], references=labels, num_classes=3)
        assert np.sum(offline.pop("confusion_matrix")) == len(labels)
        assert offline == expected[0]
        assert np.sum(row["confusion_matrix"]) == len(labels) * len(row["seeds"])


def test_folds_are_those_of_the_cells(results, ran):
    for cell in experiment_cells(ran.experiment, ["pretrained/*/*"]):
        row = results["rows"]["pretrained"]["folds"][cell.fold]["accuracy"]
        own = read_cell(ran, cell)["test"]["audio+visual"]["metrics"]["accuracy"]
        assert row["values"][cell.seed] == pytest.approx(own, abs=1e-6)


def test_missing_modalities_have_rows_and_pairs_have_tests(results):
    assert {"pretrained@audio", "pretrained@visual"} <= set(results["rows"])
    first, second = results["comparisons"]
    assert first["num_runs"] == 6
    assert second["first"] == "log-mel"
    assert second["difference"] == pytest.approx(2 / 3, abs=1e-5)
    assert second["p_speakers"] == pytest.approx(2 / 2**6)  # all 6 speakers agree, of 64 patterns of signs two do


def test_incomplete_systems_are_named_and_left_out(world, tmp_path, write_file):
    experiment = load_experiment(write_file())
    workspace = run_experiment(experiment, tmp_path / "work", only=["majority/*/*", "log-mel/0/0"], announce=len)
    results = aggregate(workspace)
    assert list(results["rows"]) == ["majority"]
    assert results["incomplete"]["log-mel"] == 2
    assert results["comparisons"] == []
    with pytest.raises(ValueError, match="no system has been run"):
        aggregate(Workspace(experiment, tmp_path / "empty"))


@pytest.fixture
def published(world, tmp_path, write_file):
    """Results with two of the three folds of "log-mel"."""
    some = ["majority/*/*", "log-mel/0/0", "log-mel/2/0"]
    workspace = run_experiment(load_experiment(write_file()), tmp_path / "first", only=some, announce=len)
    return publish(workspace, tmp_path / "out")


def test_finished_cells_of_published_results_are_taken_over(published, results, tmp_path, write_file):
    assert "Of these, WAR of the folds and seeds that are done" in published.with_suffix(".md").read_text("utf-8")
    said = []
    asked = {"only": ["majority/*/*", "log-mel/*/*"], "published": published, "announce": said.append}
    workspace = run_experiment(load_experiment(write_file()), tmp_path / "second", **asked)
    assert said[0].endswith("taken over: log-mel/0/0, log-mel/2/0")
    assert [line for line in said if line.endswith(" ...") and "log-mel" in line] == ["[5/6] log-mel/1/0 ..."]
    row, expected = (each["rows"]["log-mel"] for each in (aggregate(workspace), results))
    assert {**row, "seconds": 0} == {**expected, "seconds": 0}


def test_publishing_keeps_what_other_machines_have_finished(published, tmp_path, write_file):
    some = ["majority/*/*", "log-mel/1/0"]
    workspace = run_experiment(load_experiment(write_file()), tmp_path / "second", only=some, announce=len)
    both = json.loads(publish(workspace, published.parent).read_text(encoding="utf-8"))
    assert set(both["rows"]) == {"majority", "log-mel"}
    assert not both["unfinished"]


def test_cells_are_taken_over_by_what_they_are_made_from_and_not_by_name(published, tmp_path, write_file):
    systems = {"named": {"kind": "logistic_regression", "features": "log_mel"}}
    other = load_experiment(write_file("other", systems=systems, comparisons=[]))
    workspace = Workspace(other, tmp_path / "third")
    assert take_over(workspace, published) == ["named/0/0", "named/2/0"]
    pairs = [(cell, read_cell(workspace, cell)) for cell in experiment_cells(other)]
    assert {cell["system"]["name"] for cell in finished_cells(workspace, pairs).values()} == {"named"}
    systems["named"]["label_share"] = 0.5
    other = load_experiment(write_file("other", systems=systems, comparisons=[]))
    assert take_over(Workspace(other, tmp_path / "fourth"), published) == []


def test_what_cannot_be_taken_over_is_refused(world, tmp_path, write_file):
    workspace = Workspace(load_experiment(write_file()), tmp_path / "work")
    wrong = tmp_path / "wrong.json"
    for content, said in (("{", "is not JSON"), ('{"a": 1}', "is not what `run` publishes")):
        wrong.write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=f"wrong.json {said}"):
            take_over(workspace, wrong)
    with pytest.raises(FileNotFoundError, match="absent"):
        take_over(workspace, tmp_path / "absent.json")
    (cell,) = experiment_cells(workspace.experiment, ["log-mel/0/0"])
    foreign = {**run_cell(Workspace(workspace.experiment, tmp_path / "elsewhere"), cell)}
    foreign["speakers"] = {**foreign["speakers"], "test": foreign["speakers"]["train"]}
    published = {"incomplete": {"log-mel": 2}, "unfinished": {"log-mel": {cell_folder(workspace, cell).name: foreign}}}
    wrong.write_text(json.dumps(published), encoding="utf-8")
    with pytest.raises(ForeignSpeakersError, match="log-mel/0/0"):
        take_over(workspace, wrong)
    assert read_cell(workspace, cell) is None


def test_some_of_the_folds_are_enough_where_the_file_says_so(world, tmp_path, write_file):
    path = write_file(folds_run=1, systems={"majority": {"kind": "majority"}}, comparisons=[])
    workspace = run_experiment(load_experiment(path), tmp_path / "work", announce=lambda line: None)
    results = aggregate(workspace)
    assert not results["incomplete"]
    assert results["folds"] == [workspace.folds[0]["test"]]
    assert set(results["clips"]["speaker"].split()) == set(workspace.folds[0]["test"])
    assert f"one of {len(workspace.folds)} folds" in render(results)
    with pytest.raises(ValueError, match="folds_run"):
        load_experiment(path, overrides={"folds_run": 0})


def test_systems_that_were_tested_on_other_clips_are_refused(ran, monkeypatch):
    from vqmae_hf.experiments import aggregation

    def read_less(workspace, cell):
        result = read_cell(workspace, cell)
        if str(cell) == "codes/1/0":
            result["test"]["audio+visual"]["predictions"].pop()
        return result

    monkeypatch.setattr(aggregation, "read_cell", read_less)
    with pytest.raises(UnequalClipsError, match="codes was tested on other clips of fold 1"):
        aggregate(ran)


def test_speakers_of_another_fold_are_noticed(ran):
    (cell,) = experiment_cells(ran.experiment, ["majority/1/0"])
    with pytest.raises(ForeignSpeakersError, match="but the fold has"):
        check_speakers(read_cell(ran, cell), ran.folds[0], str(cell))


def test_other_arguments_are_another_cell_and_titles_are_not(ran, write_file):
    def folder(**values):
        workspace = Workspace(load_experiment(write_file(**values)), ran.folder)
        (cell,) = experiment_cells(workspace.experiment, ["scratch/0/0"])
        return cell_folder(workspace, cell)

    renamed = {"scratch": {"kind": "network", "title": "another name"}}
    assert folder() == folder(systems=renamed, comparisons=[])
    assert folder() != folder(finetuning={"recipe": "debug", "max_steps": 3})


def test_copies_at_other_speeds_are_another_cell_for_networks_alone(ran, world, write_file):
    def folders(**more):
        data = {**world_overrides(world)["data"], **more}
        experiment = load_experiment(write_file(data=data, modalities=["audio"], comparisons=[]))
        workspace = Workspace(experiment, ran.folder)
        return {cell.system.name: cell_folder(workspace, cell) for cell in experiment_cells(experiment, ["*/0/0"])}

    plain, fast = folders(), folders(speed_factors=[0.9, 1.0, 1.1])
    networks = {name for name, folder in plain.items() if folder.name.startswith("network")}
    assert networks
    assert {name for name in plain if plain[name] != fast[name]} == networks


def test_patterns_choose_cells_and_strangers_are_refused(ran):
    assert [str(cell) for cell in experiment_cells(ran.experiment, ["scratch/*/1"])] == [
        f"scratch/{fold}/1" for fold in range(3)
    ]
    with pytest.raises(ValueError, match="matches no cell"):
        experiment_cells(ran.experiment, ["scratch/7/0"])


def test_the_best_checkpoint_is_kept_with_the_strategy_of_the_packaged_files(world, tmp_path, write_file):
    finetuning = {"recipe": "debug", "save_strategy": "best"}
    experiment = load_experiment(
        write_file(finetuning=finetuning, systems={"scratch": {"kind": "network"}}, comparisons=[])
    )
    workspace = run_experiment(experiment, tmp_path / "work", only=["scratch/0/0"], announce=len)
    (cell,) = experiment_cells(experiment, ["scratch/0/0"])
    assert read_cell(workspace, cell)["best_validation"] is not None


def test_networks_and_regressions_are_given_the_same_share_of_the_labels(world, tmp_path, write_file, monkeypatch):
    systems = {
        "few": {"kind": "network", "label_share": 0.5},
        "few-mel": {"kind": "logistic_regression", "features": "log_mel", "label_share": 0.5},
    }
    experiment = load_experiment(write_file(systems=systems, comparisons=[]))
    keep, drawn = cells_module.finetune.keep_labels, []

    def record(clips, share, seed):
        kept = keep(clips, share, seed)
        ids = world.clips.select(kept["row"])["clip_id"] if "row" in kept.column_names else kept["clip_id"]
        drawn.append((len(clips), list(ids)))
        return kept

    monkeypatch.setattr(cells_module.finetune, "keep_labels", record)
    run_experiment(experiment, tmp_path / "work", only=["*/0/0"], announce=len)
    (all_clips, network), (_, regression) = drawn
    assert network == regression
    assert len(network) == all_clips / 2


def test_where_some_speakers_have_labels_all_systems_are_given_those_and_the_others_go_unlabelled(
    world, tmp_path, write_file, monkeypatch
):
    systems = {
        "scratch": {"kind": "network"},
        "mel": {"kind": "logistic_regression", "features": "log_mel"},
        "majority": {"kind": "majority"},
    }
    experiment = load_experiment(write_file(systems=systems, comparisons=[], labelled_speakers=1))
    fitted = []
    choose = cells_module.choose_classifier
    monkeypatch.setattr(
        cells_module,
        "choose_classifier",
        lambda kind, *arrays, **options: fitted.append(arrays[0]) or choose(kind, *arrays, **options),
    )
    workspace = run_experiment(experiment, tmp_path / "work", only=["*/0/0"], announce=len)
    (speaker,) = workspace.labelled_speakers(0)
    assert speaker in workspace.folds[0]["train"]
    clips = [row for row, name in enumerate(world.clips["speaker"]) if name == speaker]
    np.testing.assert_array_equal(fitted[0], workspace.sound_features("log_mel")[clips])
    network, *_ = experiment_cells(experiment, ["scratch/0/0"])
    assert read_cell(workspace, network)["speakers"]["train"] == [speaker]
    everyone = load_experiment(write_file(systems=systems, comparisons=[]))
    assert Workspace(everyone, tmp_path / "work").labelled_speakers(0) == workspace.folds[0]["train"]
    assert read_cell(Workspace(everyone, tmp_path / "work"), Cell(everyone.systems["mel"], 0, 0)) is None


def test_once_all_is_chosen_every_system_is_trained_on_the_validation_speakers_too(
    world, tmp_path, write_file, monkeypatch
):
    systems = {
        "majority": {"kind": "majority"},
        "mel": {"kind": "logistic_regression", "features": "log_mel"},
        "residual": {"kind": "spectrogram_network"},
        "scratch": {"kind": "network"},
    }
    finetuning = {"recipe": "debug", "save_strategy": "best"}
    values = {"systems": systems, "comparisons": [], "finetuning": finetuning}
    experiment = load_experiment(write_file(**values, train_on_validation=True))
    fitted = []
    fit = cells_module.SpectrogramNetwork.fit
    monkeypatch.setattr(
        cells_module.SpectrogramNetwork, "fit", lambda self, *given: fitted.append(given[1]) or fit(self, *given)
    )
    workspace = run_experiment(experiment, tmp_path / "work", only=["*/0/0"], announce=len)
    fold, usual = workspace.folds[0], load_experiment(write_file(**values))
    everyone = sorted([*fold["train"], *fold["validation"]])
    labels = [e for e, who in zip(world.clips["emotion"], world.clips["speaker"], strict=True) if who in everyone]
    assert sorted(fitted[0]) == sorted(labels)
    for name in systems:
        cell = Cell(experiment.systems[name], 0, 0)
        found = read_cell(workspace, cell)
        assert found["speakers"] == {"train": everyone, "validation": [], "test": fold["test"]}
        # C is chosen before, by speakers it is not fitted on; networks have nothing chosen.
        assert (found["best_validation"] is None) == (name != "mel")
        assert read_cell(Workspace(usual, tmp_path / "work"), cell) is None


def test_tokenizers_of_a_fold_are_trained_on_its_training_speakers(world, tmp_path, write_file):
    values = {"tokenizers": {"audio": {"recipe": "debug", "max_steps": 2}}, "modalities": ["audio"], "comparisons": []}
    experiment = load_experiment(write_file(**values))
    workspace = run_experiment(experiment, tmp_path / "work", only=["codes/0/0"], announce=len)
    (made,) = workspace.folder.glob("audio-tokenizer-*/made")
    arguments = json.loads((made / "arguments.json").read_text())
    assert (arguments["num_folds"], arguments["fold"]) == (3, 0)
    assert not list(made.glob("checkpoint-*"))


def test_copies_at_other_speeds_are_trained_on_and_change_nothing_else(world, tmp_path, write_file, monkeypatch):
    data = world_overrides(world)["data"]
    sizes = {"num_hidden_layers": 1, "decoder_num_hidden_layers": 1, "modalities": ["audio"]}
    common = {"modalities": ["audio"], "comparisons": [], "model": {"preset": "tiny", "overrides": sizes}}
    plain = load_experiment(write_file("plain", **common))
    fast = load_experiment(write_file("fast", **common, data={**data, "speed_factors": [0.9, 1.0, 1.1]}))
    given = []
    for program in (pretrain, finetune):

        def record(store, config, *, program=program, copies=None, **options):
            given.append((program, options.get("windows"), len(store), None if copies is None else len(copies)))
            return TokenWindows(store, config, copies=copies, **options)

        monkeypatch.setattr(program, "TokenWindows", record)
    quiet = {"only": ["codes/0/0"], "announce": len}
    (cell,) = experiment_cells(plain, ["codes/0/0"])
    expected = read_cell(run_experiment(plain, tmp_path / "work", **quiet), cell)
    # Elsewhere, for in one folder it is one cell.
    found = read_cell(run_experiment(fast, tmp_path / "fast", **quiet), cell)
    assert found["test"] == expected["test"]
    workspace = run_experiment(fast, tmp_path / "work", only=["pretrained/0/0"], announce=len)
    fold = {part: 3 * len(speakers) for part, speakers in workspace.folds[0].items()}
    unlabelled = fold["train"] + fold["validation"]
    assert read_token_store_info(workspace.unlabelled_tokens(0, 1.0).token_store).num_clips == unlabelled
    assert given == [
        (pretrain, None, unlabelled, 2 * unlabelled),
        (finetune, None, fold["train"], 2 * 18),
        (finetune, "all", fold["validation"], None),
        (finetune, "all", fold["test"], None),
    ]
    for wrong, told in (({"speed_factors": [0.9]}, "1 among them"), ({"speed_factors": [1, 2, 9]}, "0.5 to 2.0")):
        with pytest.raises(ValueError, match=rf"data\.speed_factors=.*{told}"):
            load_experiment(write_file(**common, data={**data, **wrong}))
    with pytest.raises(ValueError, match="of sound alone"):
        load_experiment(write_file(data={**data, "speed_factors": [1, 1.1]}, comparisons=[]))


def test_the_program_runs_lists_and_publishes(world, write_file, tmp_path, capsys):
    path, folder = write_file(), tmp_path / "published"
    common = [str(path), "--work_dir", str(tmp_path / "work"), "--set", "seeds=[5]"]
    main(["run", *common, "--only", "majority/*/*", "--results", str(folder)])
    main(["list", *common, "--only", "majority/*/*"])
    listed = capsys.readouterr().out.splitlines()[-3:]
    assert [line.split()[:2] for line in listed] == [[f"majority/{fold}/5", "done"] for fold in range(3)]
    page = (folder / "small.md").read_text()
    main(["tables", str(folder)])
    assert (folder / "small.md").read_text() == page
    assert (folder / "small.png").stat().st_size > 1000
    main(["run", *common, "--only", "codes/0/5", "--work_dir", str(tmp_path / "other")])
    assert "no system has been run on all folds" in capsys.readouterr().out


def test_overrides_are_nested_yaml():
    assert parse_overrides(["a.b=[1, 2]", "a.c=x", "d=true"]) == {"a": {"b": [1, 2], "c": "x"}, "d": True}
    with pytest.raises(ValueError, match="has no '='"):
        parse_overrides(["a.b"])


def test_publishing_gives_what_aggregation_gives(ran, results, tmp_path):
    assert json.loads(publish(ran, tmp_path).read_text()) == json.loads(json.dumps(results))
