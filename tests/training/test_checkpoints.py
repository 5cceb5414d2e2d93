"""Checkpoints are whole or not there; what was damaged later is found, and the one before is used to the same end."""

import errno
import importlib
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.conftest import SMALL_VQMAE
from tests.training.test_train_tokenizers import interrupt_after, make_arguments

from vqmae_hf.training import train_audio_tokenizer
from vqmae_hf.training.checkpoints import (
    FILES_NAME,
    UNFINISHED,
    CheckpointNotWrittenError,
    DamagedCheckpointError,
    find_damage,
)

SCHEDULE = {"max_steps": 8, "save_steps": 2, "save_total_limit": 3, "eval_strategy": "no", "picture_clips": 0}


def audio_arguments(world, folder, **values):
    return make_arguments("audio", world, folder, **{**SCHEDULE, **values})


def assert_same_weights(first, second):
    one, two = (load_file(Path(folder) / "model.safetensors") for folder in (first, second))
    assert one.keys() == two.keys()
    differing = [name for name in one if not torch.equal(one[name], two[name])]
    assert not differing, f"{first} and {second}: {differing[:5]} and others, {len(differing)} in all"


@pytest.fixture(scope="module")
def straight(world, tmp_path_factory):
    """Folder of an uninterrupted run."""
    return train_audio_tokenizer.run(audio_arguments(world, tmp_path_factory.mktemp("straight"))).output_dir


@pytest.fixture(scope="module")
def interrupted(world, tmp_path_factory):
    """Folder of a run that ended after seven of its eight steps."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        interrupt_after(patch, 7)
        with pytest.raises(KeyboardInterrupt):
            train_audio_tokenizer.run(audio_arguments(world, folder))
    return folder


@pytest.fixture
def run_folder(interrupted, tmp_path):
    """A copy of it to damage."""
    return Path(shutil.copytree(interrupted, tmp_path / "run"))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:-100])


def garble(path):
    content = bytearray(path.read_bytes())
    content[-20:-10] = b"0123456789"
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", cut_off),
        ("model.safetensors", garble),
        ("optimizer.pt", cut_off),
        ("rng_state.pth", Path.unlink),
        ("trainer_state.json", cut_off),
        (FILES_NAME, cut_off),
    ],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_leads_to_the_same_end(
    name, damage, run_folder, straight, world, caplog
):
    assert find_damage(run_folder / "checkpoint-6") is None
    damage(run_folder / "checkpoint-6" / name)
    with caplog.at_level(logging.WARNING):
        train_audio_tokenizer.run(audio_arguments(world, run_folder))
    warning = next(text for text in caplog.messages if "damaged" in text)
    assert str(run_folder / "checkpoint-6") in warning
    assert name in warning
    assert str(run_folder / "checkpoint-4") in warning
    assert (run_folder / "damaged-checkpoint-6").is_dir()
    assert find_damage(run_folder / "checkpoint-6") is None  # written again
    assert_same_weights(run_folder, straight)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("model.safetensors", cut_off),
        ("optimizer.pt", cut_off),
        ("scheduler.pt", Path.unlink),
        ("optimizer.pt", Path.unlink),
        ("model.safetensors", Path.unlink),
        ("trainer_state.json", cut_off),
        ("rng_state.pth", garble),
    ],
)
def test_damage_is_found_without_a_list_of_files(name, damage, run_folder):
    checkpoint = run_folder / "checkpoint-4"
    (checkpoint / FILES_NAME).unlink()
    assert find_damage(checkpoint) is None
    damage(checkpoint / name)
    assert find_damage(checkpoint) is not None


def test_without_a_whole_checkpoint_the_error_says_what_to_do(run_folder, world):
    for step in (2, 4, 6):
        cut_off(run_folder / f"checkpoint-{step}" / "model.safetensors")
    with pytest.raises(DamagedCheckpointError, match=r"no checkpoint in .* is whole .*checkpoint-6: .* delete these"):
        train_audio_tokenizer.run(audio_arguments(world, run_folder))
    assert (run_folder / "checkpoint-6").is_dir()  # left for whoever wants to see it


def test_a_full_disk_keeps_the_checkpoint_before_and_the_run_goes_on_from_it(world, straight, tmp_path, monkeypatch):
    save = torch.save

    def full(content, file, **options):
        if "checkpoint-4" in str(file) and str(file).endswith("scheduler.pt"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        save(content, file, **options)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        CheckpointNotWrittenError, match=r"checkpoint-4 could not be written .*No space left.*checkpoint-2"
    ):
        train_audio_tokenizer.run(audio_arguments(world, tmp_path))
    monkeypatch.undo()
    assert not (tmp_path / "checkpoint-4").exists()
    assert not (tmp_path / UNFINISHED).exists()
    train_audio_tokenizer.run(audio_arguments(world, tmp_path))
    assert_same_weights(tmp_path, straight)


def test_files_cut_off_by_the_system_leave_no_checkpoint(world, tmp_path):
    """The limit on the size of files stands for a disk that fills up while safetensors itself writes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(CheckpointNotWrittenError, match=r"checkpoint-2 could not be written .*none from before"):
            train_audio_tokenizer.run(audio_arguments(world, tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(tmp_path.glob("checkpoint-*"))
    assert not (tmp_path / UNFINISHED).exists()


def test_the_best_checkpoint_has_its_own_name_and_is_asked_for(world, tmp_path):
    # The commitment loss is greatest near the start.
    values = {
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_commitment_loss",
        "greater_is_better": True,
    }
    values |= {"eval_strategy": "steps", "eval_steps": 2, "save_total_limit": 2}
    train_audio_tokenizer.run(audio_arguments(world, tmp_path, **values))
    state = json.loads((tmp_path / "checkpoint-8" / "trainer_state.json").read_text())
    best = Path(state["best_model_checkpoint"])
    assert best.parent == tmp_path
    assert best.name != "checkpoint-8"
    assert_same_weights(tmp_path, best)
    assert len(list(tmp_path.glob("checkpoint-*"))) <= 2
    cut_off(best / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(DamagedCheckpointError, match=str(best)):
        train_audio_tokenizer.run(audio_arguments(world, tmp_path, **values))


# ---- kill -9 in the middle of writing, every program ----

KILLED = {
    "max_steps": 6,
    "save_steps": 2,
    "eval_steps": 6,
    "picture_clips": 0,
    "recipe": "debug",
    "disable_tqdm": True,
}


def jobs(world, latents, folder):
    """(program, flags) by program."""
    revive = {"clips_dir": world.clips_dir, "model_overrides": {"dead_code_threshold": 0.1}}
    best = {"model_overrides": SMALL_VQMAE, "modality_dropout": 0.3, "mixup_alpha": 0.4, "eval_steps": 2}
    programs = {
        "train_audio_tokenizer": revive,
        "train_visual_tokenizer": revive,
        "pretrain": world.tokens,
        "finetune": {**world.tokens, **best},
        "train_mdvae": {**latents, "kl_warmup_steps": 4},
    }
    return [
        (
            program,
            [word for flag in {**KILLED, **values, "output_dir": folder / program}.items() for word in words(*flag)],
        )
        for program, values in programs.items()
    ]


def words(name, value):
    return f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)


@pytest.mark.slow
def test_after_kill_9_every_program_ends_as_if_it_had_not_been(world, latents, tmp_path, caplog):
    script = Path(__file__).with_name("killed_programs.py")
    (tmp_path / "jobs.json").write_text(json.dumps(jobs(world, latents, tmp_path / "killed")))
    # Libraries in both processes count the same threads, or sums differ in their last bits.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(script), str(tmp_path / "jobs.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    endings = json.loads(done.stdout.splitlines()[-1])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for (program, flags), (_, killed_flags) in zip(
        jobs(world, latents, tmp_path / "straight"), jobs(world, latents, tmp_path / "killed"), strict=True
    ):
        assert endings[program] == -signal.SIGKILL
        folder = tmp_path / "killed" / program
        assert (folder / UNFINISHED / "checkpoint-4" / "optimizer.pt").exists()
        assert [path.name for path in folder.glob("checkpoint-*")] == ["checkpoint-2"]
        module = importlib.import_module(f"vqmae_hf.training.{program}")
        module.main(flags)
        with caplog.at_level(logging.WARNING):
            module.main(killed_flags)
        assert any(str(folder / UNFINISHED) in text for text in caplog.messages)
        assert_same_weights(folder, tmp_path / "straight" / program)
    torch.set_num_threads(threads)
