import re
from dataclasses import fields

import pytest
import yaml

from vqmae_hf.training.arguments import (
    AudioTokenizerArguments,
    FinetuneArguments,
    PretrainArguments,
    TokenizeArguments,
    VisualTokenizerArguments,
)
from vqmae_hf.training.mdvae_arguments import EncodeArguments, MDVAEArguments
from vqmae_hf.training.recipes import RECIPES, build_arguments, parse_arguments, read_recipe, recipe_names

STAGES = {
    c.stage: c
    for c in (
        AudioTokenizerArguments,
        VisualTokenizerArguments,
        PretrainArguments,
        FinetuneArguments,
        MDVAEArguments,
    )
}
NEEDED = {
    "audio_tokenizer": {"clips_dir": "."},
    "visual_tokenizer": {"clips_dir": "."},
    "pretrain": {"token_store": "store", "audio_tokenizer": "audio", "visual_tokenizer": "visual"},
    "finetune": {"token_store": "store", "pretrained": "model"},
    "mdvae": {"latent_store": "store", "audio_tokenizer": "audio", "visual_tokenizer": "visual"},
}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_is_one_of_a_stage_and_says_how_to_run_it(path, tmp_path):
    stage = next(stage for stage in STAGES if path.stem.startswith(f"{stage}-"))
    name = path.stem.removeprefix(f"{stage}-")
    arguments = build_arguments(STAGES[stage], recipe=name, output_dir=str(tmp_path), use_cpu=True, **NEEDED[stage])
    for key, value in read_recipe(STAGES[stage], name).items():
        if key not in ("use_cpu", "eval_strategy", "save_strategy"):
            assert getattr(arguments, key) == value, key
    lines = path.read_text(encoding="utf-8").splitlines()
    head = "\n".join(line for line in lines if line.startswith("#"))
    assert f"--recipe {name} " in head
    assert re.search(r"not measured here|[Ss]econds?|minutes?", head)


def test_every_stage_has_a_debug_and_a_quickstart_recipe():
    for stage in STAGES:
        assert {"debug", "quickstart"} <= set(recipe_names(stage)), stage


@pytest.mark.parametrize(
    "argument_class", [*STAGES.values(), TokenizeArguments, EncodeArguments], ids=lambda c: c.__name__
)
def test_every_argument_of_ours_explains_itself(argument_class):
    for field in fields(argument_class):
        if field.name in argument_class.__annotations__:
            assert len(field.metadata["help"]) > 10, field.name


def test_flags_win_over_the_recipe_and_the_recipe_over_the_defaults(tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "num_train_epochs: 7\nlearning_rate: 1e-3\nmodel_overrides: {num_hidden_layers: 2}\nresume: false\n"
    )
    flags = [f"--{name}={value}" for name, value in NEEDED["finetune"].items()]
    flags += ["--output_dir", str(tmp_path), "--use_cpu", "--recipe", str(recipe), "--num_train_epochs", "3"]
    arguments = parse_arguments(FinetuneArguments, [*flags, "--modalities", "audio", "--no_load_best_model_at_end"])
    assert arguments.num_train_epochs == 3
    assert arguments.learning_rate == 1e-3  # YAML reads 1e-3 as text
    assert arguments.model_overrides == {"num_hidden_layers": 2}
    assert arguments.modalities == ["audio"]
    assert arguments.resume is False
    assert arguments.adam_beta2 == 0.95
    assert arguments.recipe == str(recipe)


def test_python_and_command_line_give_the_same(tmp_path):
    values = {"output_dir": str(tmp_path), "use_cpu": True, "model_overrides": '{"num_hidden_layers": 3}', "fold": 2}
    values |= {"num_folds": 4, **NEEDED["pretrain"]}
    flags = [f"--{name}={value}" for name, value in values.items()]
    assert parse_arguments(PretrainArguments, flags) == build_arguments(PretrainArguments, **values)


def test_all_problems_are_reported_at_once():
    with pytest.raises(ValueError, match="problem") as caught:
        build_arguments(
            FinetuneArguments,
            use_cpu=True,
            modalities=["audio", "smell"],
            model_overrides="{nonsense",
            time_masking=1.5,
            fold=5,
            num_folds=2,
            dataloader_persistent_workers=True,
            dataloader_num_workers=1,
        )
    message = str(caught.value)
    for part in (
        "8 problem(s)",
        "output_dir is needed",
        "token_store is needed",
        "pretrained is needed",
        "modalities=['audio', 'smell']",
        "'{nonsense' is not JSON",
        "time_masking=1.5",
        "fold=5 of num_folds=2",
        "dataloader_persistent_workers",
    ):
        assert part in message, part


def test_misspelt_arguments_are_named_with_a_suggestion(tmp_path):
    with pytest.raises(ValueError, match=r"num_train_epoch \(did you mean num_train_epochs\?\)"):
        build_arguments(PretrainArguments, num_train_epoch=3)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(yaml.safe_dump({"lerning_rate": 1, "batch": 2}))
    with pytest.raises(ValueError, match=r"batch, lerning_rate \(did you mean learning_rate\?\)"):
        build_arguments(PretrainArguments, recipe=str(recipe))
    with pytest.raises(ValueError, match=r"neither a YAML file nor one of the pretrain recipes \['cross-12'"):
        build_arguments(PretrainArguments, recipe="cros-12")


def test_the_learning_rate_follows_the_batch(tmp_path):
    values = {"output_dir": str(tmp_path), "use_cpu": True, **NEEDED["pretrain"]}
    scaled = build_arguments(
        PretrainArguments,
        per_device_train_batch_size=32,
        gradient_accumulation_steps=4,
        base_learning_rate=2e-3,
        **values,
    )
    assert scaled.learning_rate == pytest.approx(2e-3 * 128 / 256)
    # Said outright, it stays, whatever a recipe says of the base.
    for recipe in (None, "cross-12"):
        assert build_arguments(PretrainArguments, recipe=recipe, learning_rate=3e-4, **values).learning_rate == 3e-4


def test_a_corpus_is_needed_where_there_are_no_clips(tmp_path):
    values = {"output_dir": str(tmp_path), "use_cpu": True}
    with pytest.raises(ValueError, match="is no folder; name corpus and corpus_root"):
        build_arguments(AudioTokenizerArguments, clips_dir=str(tmp_path / "absent"), **values)
    with pytest.raises(ValueError, match=r"corpus='ravdess2' is unknown.*\n.*corpus_root is needed"):
        build_arguments(AudioTokenizerArguments, clips_dir="clips", corpus="ravdess2", **values)


def test_nobody_is_held_out_when_the_shares_are_zero(tmp_path):
    values = {"output_dir": str(tmp_path), "use_cpu": True, "validation_share": 0, "test_share": 0}
    arguments = build_arguments(PretrainArguments, **values, **NEEDED["pretrain"])
    assert arguments.trains_on_everyone
    assert arguments.eval_strategy == "no"
    with pytest.raises(ValueError, match="validation_share and test_share must be above 0"):
        build_arguments(FinetuneArguments, **values, **NEEDED["finetune"])
