import pytest
import yaml

from tests.experiments.conftest import skip_without_muon
from vqmae_hf.data.fixed_folds import FIXED_FOLDS
from vqmae_hf.experiments.experiment_file import (
    FILES,
    STAGES,
    experiment_names,
    load_experiment,
    stage_values,
)
from vqmae_hf.experiments.nested_values import merge
from vqmae_hf.training.recipes import build_arguments

ABLATIONS = {
    *(
        "mask-ratio",
        "dirichlet",
        "fusion",
        "contrastive",
        "pooling",
        "code-embedding",
        "positions",
        "input",
        "pretraining",
        "labels",
    ),
    *(
        "modality-dropout",
        "class-weights",
        "time-masking",
        "tube-masking",
        "layer-decay",
        "frozen-layers",
        "lora",
        "mixup",
        "optimizer",
    ),
}


def test_the_protocols_and_ablations_are_there():
    expected = {"ravdess-speech", "synthetic-audiovisual", *(f"ablation-{name}" for name in ABLATIONS)}
    assert expected <= set(experiment_names())


@pytest.mark.parametrize("size", ["full", "debug"])
@pytest.mark.parametrize("name", experiment_names())
def test_every_file_parses_and_its_arguments_are_real(name, size, tmp_path):
    experiment = load_experiment(name, size=size)
    skip_without_muon(experiment)
    folders = {"output_dir": str(tmp_path), "use_cpu": True, "report_to": "none", "bf16": False}
    tokens = {"token_store": "store", "audio_tokenizer": "a", "visual_tokenizer": "v"}
    for modality, values in experiment.tokenizers.items():
        build_arguments(STAGES[modality], clips_dir=str(tmp_path), **{**values, **folders})
    for system in experiment.systems.values():
        for stage, values in (("pretraining", system.pretraining), ("finetuning", system.finetuning)):
            if values is not None:
                values = {key: value for key, value in values.items() if key != "share"}
                build_arguments(STAGES[stage], **{**values, **tokens, **folders})
    assert all(side.partition("@")[0] in experiment.systems for pair in experiment.comparisons for side in pair)


@pytest.mark.parametrize("name", experiment_names())
def test_every_file_begins_with_its_command_and_its_cost(name):
    head = (FILES / f"{name}.yaml").read_text(encoding="utf-8").split("\ntitle:")[0].split("\nbase:")[0]
    assert f"python -m vqmae_hf.experiments run {name} " in head
    assert "Cost: " in head


def test_the_protocol_of_ravdess_is_the_fixed_one():
    experiment = load_experiment("ravdess-speech")
    assert experiment.folds == "ravdess"
    assert experiment.num_folds == len(FIXED_FOLDS["ravdess"]) == 5
    assert experiment.systems["pretrained"].model == experiment.systems["scratch"].model
    # Each start has the step sizes that are best for it on validation actors; all else is one recipe.
    recipes = [experiment.systems[name].finetuning for name in ("pretrained", "scratch")]
    differing = {name for name in {*recipes[0], *recipes[1]} if recipes[0].get(name) != recipes[1].get(name)}
    assert differing == {"learning_rate", "layer_decay"}
    assert experiment.systems["scratch"].pretraining is None


def test_an_ablation_varies_what_it_says_and_nothing_else():
    base, ablation = load_experiment("ravdess-speech"), load_experiment("ablation-mask-ratio")
    assert ablation.data == base.data
    reference, varied = ablation.systems["pretrained"], ablation.systems["ratio-50"]
    assert reference.pretraining == base.systems["pretrained"].pretraining == varied.pretraining
    assert reference.title == "75 % hidden"
    assert varied.model["overrides"] == {**reference.model["overrides"], "mask_ratio": 0.5}
    assert "log-mel" not in ablation.systems


def test_what_would_not_change_is_run_once():
    experiment = load_experiment("synthetic-audiovisual")
    seeds = {name: experiment.seeds_of(system) for name, system in experiment.systems.items()}
    assert seeds["majority"] == seeds["log-mel"] == (0,)
    assert seeds["log-mel-10"] == seeds["scratch"] == experiment.seeds


def test_debug_overrules_what_a_file_says_of_its_stages():
    section = {"recipe": "speech-6", "num_train_epochs": 400, "save_strategy": "no", "share": 0.5}
    assert stage_values("pretraining", section, "full")["num_train_epochs"] == 400
    debug = stage_values("pretraining", section, "debug")
    assert debug["max_steps"] == 4
    assert debug["save_strategy"] == "steps"


def test_what_the_runner_sets_is_not_taken_from_a_recipe(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("folds: ravdess\nseed: 3\nweight_decay: 0.1\n", encoding="utf-8")
    assert stage_values("finetuning", {"recipe": str(recipe)}, "full") == {"weight_decay": 0.1}


def test_all_problems_of_a_file_are_told_at_once(write_file):
    systems = {
        "a": {
            "kind": "network",
            "finetuning": {"learning_rat": 1e-3},
            "model": {"overrides": {"num_attention_heads": 7}},
        },
        "b": {"kind": "logistic_regression", "features": "mel"},
        "c": {"kind": "magic"},
        "d": {"kind": "logistic_regression", "features": "log_mel", "label_share": 2},
        "e": {"kind": "majority", "label_share": 0.5},
        "f/g": {"kind": "majority"},
    }
    path = write_file(systems=systems, seeds=[1, 1], folds=2, seed=3, pretraining={"recipe": "debugg"})
    with pytest.raises(ValueError, match="problem") as error:
        load_experiment(path)
    for part in ("a majority, 'label_share'", "systems.f/g: a name"):
        assert part in str(error.value), part
    for part in ("learning_rate?", "'mel'", "'magic'", "label_share=2", "seeds=[1, 1]", "folds=2", "'seed'", "debugg"):
        assert part in str(error.value), part


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"train_on_validation": 1}, "train_on_validation=1 must be true or false"),
        ({"train_on_validation": True, "labelled_speakers": 1}, "leave out labelled_speakers"),
        (
            {
                "train_on_validation": True,
                "systems": {"few": {"kind": "network", "label_share": 0.5}},
                "comparisons": [],
            },
            "leave out label_share",
        ),
    ],
)
def test_training_on_validation_speakers_goes_with_all_labels(write_file, values, problem):
    with pytest.raises(ValueError, match=problem):
        load_experiment(write_file(**values))


def test_wrong_networks_and_comparisons_are_told(write_file):
    systems = {"a": {"kind": "network", "model": {"overrides": {"num_attention_heads": 7}}}}
    path = write_file(systems=systems, comparisons=[["a", "z"], ["a"]])
    with pytest.raises(ValueError, match="problem") as error:
        load_experiment(path)
    for part in ("num_attention_heads", "'z'", "['a'] must be a pair"):
        assert part in str(error.value), part


def test_a_setting_of_the_runner_is_refused(write_file):
    with pytest.raises(ValueError, match="unknown argument in finetuning 'fold'"):
        load_experiment(write_file(finetuning={"fold": 1}))


def test_clips_have_to_come_from_somewhere(write_file):
    with pytest.raises(ValueError, match="data needs clips_dir"):
        load_experiment(write_file(data={"corpus": "ravdess"}))


def test_a_base_by_path_and_a_circle(write_file, tmp_path):
    base = write_file("base")
    derived = tmp_path / "derived.yaml"
    derived.write_text(yaml.safe_dump({"base": str(base), "title": "Derived", "systems": {"scratch": None}}))
    experiment = load_experiment(derived)
    assert list(experiment.systems) == ["scratch"]
    assert experiment.name == "derived"
    assert experiment.comparisons == ()
    base.write_text(yaml.safe_dump({"base": str(derived)}))
    with pytest.raises(ValueError, match="its own base"):
        load_experiment(derived)


def test_unknown_likes_names_and_sizes_are_refused(write_file):
    with pytest.raises(ValueError, match="like='nobody'"):
        load_experiment(write_file(systems={"a": {"like": "nobody"}}, comparisons=[]))
    with pytest.raises(ValueError, match="neither a YAML file"):
        load_experiment("nothing")
    with pytest.raises(ValueError, match="size='small'"):
        load_experiment("ravdess-speech", size="small")


def test_merging_replaces_leaves_and_changes_no_argument():
    first, second = {"a": {"b": 1, "c": [1, 2]}, "d": 1}, {"a": {"c": [3]}, "e": {"f": 2}}
    assert merge(first, second) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": {"f": 2}}
    assert first == {"a": {"b": 1, "c": [1, 2]}, "d": 1}
