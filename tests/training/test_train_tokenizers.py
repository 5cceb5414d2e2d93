import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoFeatureExtractor, AutoModel
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

from vqmae_hf import AudioVQVAEModel, VisualVQVAEModel
from vqmae_hf.training import train_audio_tokenizer, train_visual_tokenizer
from vqmae_hf.training.arguments import AudioTokenizerArguments, VisualTokenizerArguments
from vqmae_hf.training.recipes import build_arguments
from vqmae_hf.training.stage_trainer import StageTrainer

PROGRAMS = {
    "audio": (train_audio_tokenizer, AudioTokenizerArguments, AudioVQVAEModel),
    "visual": (train_visual_tokenizer, VisualTokenizerArguments, VisualVQVAEModel),
}


def make_arguments(kind, world, folder, **values):
    return build_arguments(
        PROGRAMS[kind][1],
        recipe="debug",
        clips_dir=world.clips_dir,
        output_dir=str(folder),
        disable_tqdm=True,
        **values,
    )


def interrupt_after(monkeypatch, steps):
    """As if the process were killed in the middle of a step."""
    step, done = StageTrainer.training_step, []

    def killed(self, *args, **kwargs):
        if len(done) == steps:
            raise KeyboardInterrupt
        done.append(1)
        return step(self, *args, **kwargs)

    monkeypatch.setattr(StageTrainer, "training_step", killed)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_a_run_leaves_a_loadable_tokenizer_curves_and_pictures(kind, world, tmp_path):
    program, _, model_class = PROGRAMS[kind]
    result = program.run(make_arguments(kind, world, tmp_path))
    for name in ("reconstruction_loss", "commitment_loss", "perplexity", "code_usage", "codebook_usage"):
        assert np.isfinite(result.metrics["validation"][name]), name
    logged = [json.loads(line) for line in (tmp_path / "log_history.jsonl").read_text().splitlines()]
    assert logged == result.log_history
    training = [entry for entry in logged if "loss" in entry]
    assert [entry["step"] for entry in training] == [2, 4]
    for entry in training:
        assert entry["loss"] == pytest.approx(entry["reconstruction_loss"] + entry["commitment_loss"], rel=1e-4)
    assert json.loads((tmp_path / "metrics.json").read_text()) == result.metrics
    assert list((tmp_path / "tensorboard").glob("events.*"))
    pictures = sorted((tmp_path / "pictures").glob("*.png"))
    assert [path.stem[-1] for path in pictures] == ["2", "4"]
    assert np.asarray(Image.open(pictures[0])).std() > 10
    assert not result.model.training
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is model_class
    for name, tensor in result.model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_the_processor_is_saved_with_the_model_and_with_checkpoints(world, tmp_path):
    train_audio_tokenizer.run(make_arguments("audio", world, tmp_path / "audio"))
    train_visual_tokenizer.run(make_arguments("visual", world, tmp_path / "visual"))
    for folder in ("", "checkpoint-4"):
        assert AutoFeatureExtractor.from_pretrained(tmp_path / "audio" / folder).hop_length == 320
        processor = AutoVideoProcessor.from_pretrained(tmp_path / "visual" / folder)
        assert (processor.size["height"], processor.size["width"]) == (64, 64)


@pytest.mark.parametrize("kind", PROGRAMS)
def test_an_interrupted_run_ends_as_an_uninterrupted_one(kind, world, tmp_path, monkeypatch):
    program = PROGRAMS[kind][0]
    revive = {"model_overrides": {"dead_code_threshold": 0.1}}  # draws from the global generator
    straight = program.run(make_arguments(kind, world, tmp_path / "straight", **revive))
    interrupt_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        program.run(make_arguments(kind, world, tmp_path / "killed", **revive))
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    monkeypatch.undo()
    resumed = program.run(make_arguments(kind, world, tmp_path / "killed", **revive))
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("straight", "killed")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    last = [[entry for entry in run.log_history if "loss" in entry][-1] for run in (straight, resumed)]
    assert last[0] == last[1]


def test_a_finished_run_called_again_changes_nothing(world, tmp_path):
    first = train_audio_tokenizer.run(make_arguments("audio", world, tmp_path))
    before = (tmp_path / "model.safetensors").read_bytes()
    again = train_audio_tokenizer.run(make_arguments("audio", world, tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert again.metrics["train"] == first.metrics["train"]
    timed = {"runtime", "samples_per_second", "steps_per_second"}
    for name in set(first.metrics["validation"]) - timed:
        assert again.metrics["validation"][name] == first.metrics["validation"][name]


def test_a_finished_run_goes_on_when_more_steps_are_asked_for(world, tmp_path):
    train_audio_tokenizer.run(make_arguments("audio", world, tmp_path))
    longer = train_audio_tokenizer.run(make_arguments("audio", world, tmp_path, max_steps=8))
    assert [entry["step"] for entry in longer.log_history if "loss" in entry] == [2, 4, 6, 8]


def test_a_run_recorded_before_an_argument_existed_goes_on(world, tmp_path):
    train_audio_tokenizer.run(make_arguments("audio", world, tmp_path))
    record = tmp_path / "arguments.json"
    before = json.loads(record.read_text())
    del before["codebook_start"]
    record.write_text(json.dumps(before))
    longer = train_audio_tokenizer.run(make_arguments("audio", world, tmp_path, max_steps=6))
    assert [entry["step"] for entry in longer.log_history if "loss" in entry] == [2, 4, 6]
    record.write_text(json.dumps(before))
    with pytest.raises(ValueError, match=r"codebook_start was 'sample', is 'kmeans'"):
        train_audio_tokenizer.run(make_arguments("audio", world, tmp_path, max_steps=8, codebook_start="kmeans"))


def test_the_checkpoints_of_another_run_are_refused(world, tmp_path):
    train_audio_tokenizer.run(make_arguments("audio", world, tmp_path))
    with pytest.raises(ValueError, match=r"another run \(spectra_per_clip was 20, is 30\); choose another output_dir"):
        train_audio_tokenizer.run(make_arguments("audio", world, tmp_path, spectra_per_clip=30))
    with pytest.raises(ValueError, match="holds checkpoints and resume is off"):
        train_audio_tokenizer.run(make_arguments("audio", world, tmp_path, resume=False))


def test_held_out_speakers_are_not_trained_on(world, tmp_path, monkeypatch):
    seen = {}

    def capture(args, model, processor, *, train_data, validation_data, **options):
        seen["train"] = set(train_data.clips.with_format(None)["speaker"])
        seen["validation"] = validation_data and set(validation_data.clips.with_format(None)["speaker"])
        raise KeyboardInterrupt

    monkeypatch.setattr(train_audio_tokenizer, "run_stage", capture)
    everyone = set(world.clips["speaker"])
    for values, held_out in (({}, 2), ({"num_folds": 3, "fold": 1}, 4), ({"validation_share": 0, "test_share": 0}, 0)):
        with pytest.raises(KeyboardInterrupt):
            train_audio_tokenizer.run(make_arguments("audio", world, tmp_path, eval_strategy="no", **values))
        assert len(everyone - seen["train"]) == held_out
        assert not seen["train"] & (seen["validation"] or set())


def test_the_loss_falls_where_there_is_something_to_learn(world, tmp_path):
    values = {"picture_clips": 0, "model_overrides": {"dead_code_threshold": 0.2}, "frames_per_clip": 4}
    arguments = make_arguments("visual", world, tmp_path, per_device_train_batch_size=4, **values)
    result = train_visual_tokenizer.run(replace(arguments, max_steps=60, eval_strategy="no", save_strategy="no"))
    training = [entry for entry in result.log_history if "loss" in entry]
    assert training[-1]["reconstruction_loss"] < training[0]["reconstruction_loss"] / 2
    assert training[-1]["perplexity"] > 3
    assert not (tmp_path / "pictures").exists()


def test_a_codebook_can_start_from_cluster_centres(world, tmp_path, monkeypatch):
    methods = []

    def capture(model, batch, seed, method):
        methods.append(method)
        raise KeyboardInterrupt

    for kind, (program, _, _) in PROGRAMS.items():
        monkeypatch.setattr(program, "start_codebook", capture)
        with pytest.raises(KeyboardInterrupt):
            program.run(make_arguments(kind, world, tmp_path / kind, codebook_start="kmeans"))
    assert methods == ["kmeans", "kmeans"]
