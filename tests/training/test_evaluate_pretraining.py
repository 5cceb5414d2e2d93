import json

import numpy as np
import pytest
from PIL import Image
from tests.training.conftest import SMALL_VQMAE

from vqmae_hf import VQMAEForPreTraining
from vqmae_hf.data.shards import StaleStoreError
from vqmae_hf.training import evaluate_pretraining, pretrain
from vqmae_hf.training.arguments import PretrainArguments
from vqmae_hf.training.evaluate_pretraining import EvaluationWindows, stored_codes
from vqmae_hf.training.evaluation_arguments import EvaluatePretrainingArguments
from vqmae_hf.training.recipes import build_arguments

PREDICTORS = {"model", "unigram", "position_unigram", "copy_nearest"}


@pytest.fixture(scope="module")
def pretrained(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    values = {"output_dir": str(folder), "disable_tqdm": True, "picture_clips": 0, "eval_strategy": "no"}
    pretrain.run(build_arguments(PretrainArguments, recipe="debug", **world.tokens, **values))
    return str(folder)


def evaluate(world, model, folder, **values):
    values = {"mask_ratios": [0.5, 0.9], "baseline_windows": 4, "batch_size": 2, "use_cpu": True, **values}
    options = {"token_store": world.tokens["token_store"], "output_dir": str(folder), **values}
    return evaluate_pretraining.run(build_arguments(EvaluatePretrainingArguments, model=model, **options))


@pytest.fixture(scope="module")
def evaluated(world, pretrained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    return folder, evaluate(world, pretrained, folder)


def test_the_report_is_of_test_speakers_and_of_all_predictors(evaluated, world):
    folder, results = evaluated
    assert json.loads((folder / "masked_prediction.json").read_text()) == results
    assert len(results["speakers"]) == 1
    for modality in ("audio", "visual"):
        assert set(results["masked"][modality]) == {"0.5", "0.9"}
        for predictors in results["masked"][modality].values():
            assert set(predictors) == PREDICTORS
            # All were asked the same.
            assert len({(scores["codes"], scores["clips"]) for scores in predictors.values()}) == 1
            for scores in predictors.values():
                assert 0 <= scores["top1"] <= scores["top5"] <= 1
                assert scores["cross_entropy"] > 0
        assert results["masked"][modality]["0.5"]["model"]["clips"] == 3
    assert np.asarray(Image.open(folder / "masked_prediction.png").convert("L")).std() > 10


def test_gains_are_the_differences_between_contexts(evaluated):
    _, results = evaluated
    for modality in ("audio", "visual"):
        gain = results["gain"][modality]
        assert {row["speaker"] for row in gain["clips"]} == set(results["speakers"])
        assert len({row["clip_id"] for row in gain["clips"]}) == 3
        for context in ("stranger", "hidden", "absent"):
            differences = [row[context] - row["visible"] for row in gain["clips"]]
            found = gain["gain_over"][context]
            assert found["mean"] == pytest.approx(np.mean(differences))
            assert found["interval"][0] <= found["mean"] <= found["interval"][1]
            assert found["speaker_interval"] is None  # one speaker says nothing about others
        contexts = gain["contexts"]
        assert len({scores["codes"] for scores in contexts.values()}) == 1
        # An untrained tokenizer sees the same face everywhere: a stranger's is no other.
        assert len({contexts[name]["cross_entropy"] for name in ("visible", "hidden", "absent")}) == 3


def test_batches_do_not_change_the_results(evaluated, world, pretrained, tmp_path):
    _, results = evaluated
    again = evaluate(world, pretrained, tmp_path, batch_size=3)
    for modality in ("audio", "visual"):
        for ratio in ("0.5", "0.9"):
            for name in PREDICTORS:
                first, second = (found["masked"][modality][ratio][name] for found in (results, again))
                assert first == pytest.approx(second, rel=1e-5)
        first, second = (found["gain"][modality]["contexts"]["stranger"] for found in (results, again))
        assert first == pytest.approx(second, rel=1e-5)


def test_a_model_of_sound_alone_is_evaluated_without_gains(world, tmp_path):
    values = {"disable_tqdm": True, "picture_clips": 0, "max_steps": 1, "eval_strategy": "no"}
    overrides = {**SMALL_VQMAE, "modalities": ["audio"]}
    tokens = {**world.tokens, "visual_tokenizer": None}
    pretrain.run(
        build_arguments(
            PretrainArguments,
            recipe="debug",
            output_dir=str(tmp_path / "model"),
            **{**tokens, **values, "model_overrides": overrides},
        )
    )
    results = evaluate(world, str(tmp_path / "model"), tmp_path / "results", mask_ratios=[0.75])
    assert set(results["masked"]) == {"audio"}
    assert "gain" not in results


def test_a_stranger_is_another_clip(world, pretrained):
    config = VQMAEForPreTraining.from_pretrained(pretrained).config
    batches = EvaluationWindows(world.store, config, 4, "cpu", stranger_seed=0)
    clips = [clip for batch in batches for clip in batch.clips]
    strangers = batches.data.clip_index[batches.stranger_of[clips]]
    assert (np.asarray(clips) != strangers).all()
    assert set(strangers.tolist()) == set(range(len(world.store)))
    with pytest.raises(ValueError, match="evaluate more clips"):
        EvaluationWindows(world.store.select([0]), config, 4, "cpu", stranger_seed=0)


def test_stored_codes_are_those_of_the_clips(world):
    for modality in ("audio", "visual"):
        found = list(stored_codes(world.store, modality, clips_at_once=5))
        assert [codes.tolist() for codes in found] == world.store[f"{modality}_codes"][:]


def test_other_splits_and_other_stores_are_refused(world, pretrained, tmp_path):
    with pytest.raises(ValueError, match=r"another split of the speakers \(--split_seed 0\)"):
        evaluate(world, pretrained, tmp_path, split_seed=1)
    other = VQMAEForPreTraining.from_pretrained(pretrained)
    other.model.audio_tokenizer.quantizer.codebook.data += 1
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(StaleStoreError, match="another audio tokenizer"):
        evaluate(world, str(tmp_path / "other"), tmp_path)


def test_problems_are_reported_all_at_once():
    with pytest.raises(ValueError, match=r"4 problem(.*\n)+.*mask_ratios=\[1.0\] and gain"):
        build_arguments(EvaluatePretrainingArguments, mask_ratios=[1.0])
