"""Two processes train what one trains with the same batch: every program, all its losses, codebooks and final weights.

Nine clips are trained on in batches of 6: the last batch of an epoch has three, one for one process and two for the other.
"""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training.conftest import SMALL_VQMAE

TIMED = {"train_runtime", "train_samples_per_second", "train_steps_per_second"}
TIMED |= {name.replace("train", "eval") for name in TIMED}


@dataclass
class Launched:
    """Folders of the runs of one process and of two, by program below."""

    one: Path
    two: Path
    num_processes: int


def jobs(world, latents, folder, batch):
    """(program, flags) of every training, two epochs long."""
    common = {"recipe": "debug", "disable_tqdm": True, "picture_clips": 0, "max_steps": 4, "logging_steps": 1}
    common |= {"optim": "sgd", "per_device_train_batch_size": batch}
    common |= {"per_device_eval_batch_size": 4, "eval_steps": 4, "save_strategy": "no"}
    # Three speakers train, two validate and one tests.
    common |= {"validation_share": 0.34, "test_share": 0.16}
    programs = {
        "train_audio_tokenizer": {"clips_dir": world.clips_dir, "model_overrides": {"dead_code_threshold": 0.5}},
        # Cluster centres differ from each other, where latents of one colour are told apart by their last bit.
        "train_visual_tokenizer": {
            "clips_dir": world.clips_dir,
            "codebook_start": "kmeans",
            "model_overrides": {"codebook_size": 12, "dead_code_threshold": 0.5},
        },
        "pretrain": {**world.tokens, "base_learning_rate": 0.5},
        "finetune": {
            **world.tokens,
            "model_overrides": SMALL_VQMAE,
            "class_weights": "balanced",
            "modality_dropout": 0.3,
            "time_masking": 0.2,
            "tube_masking": 0.3,
            "mixup_alpha": 0.4,
            "save_strategy": "steps",
            "save_steps": 4,
        },
        "train_mdvae": {**latents, "free_bits": 0.05},
    }
    return [
        (
            program,
            [word for item in {**common, **rate, **values}.items() for word in flag(*item)] + output(folder / program),
        )
        for program, values in programs.items()
        for rate in [{} if "base_learning_rate" in values else {"learning_rate": 0.01}]
    ]


def flag(name, value):
    return f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)


def output(folder):
    return ["--output_dir", str(folder)]


def encoding_jobs(world, folder):
    """(program, flags) of the two that encode a corpus, whose ranks share the shards."""
    tokenizers = ["--audio_tokenizer", world.tokens["audio_tokenizer"]]
    tokenizers += ["--visual_tokenizer", world.tokens["visual_tokenizer"], "--clips_dir", world.clips_dir]
    flags = [*tokenizers, "--clips_per_shard", "5", "--use_cpu", "True"]
    return [
        ("tokenize_corpus", [*flags, "--token_store", str(folder / "tokens")]),
        ("encode_corpus", [*flags, "--latent_store", str(folder / "latents"), "--frames_per_second", "25"]),
    ]


@pytest.fixture(scope="module")
def launched(world, latents, tmp_path_factory):
    """All programs, in this process and under `accelerate launch` in two."""
    root = tmp_path_factory.mktemp("launched")
    script = Path(__file__).with_name("launched_programs.py")
    todo = [*encoding_jobs(world, root / "two"), *jobs(world, latents, root / "two", 3)]
    (root / "jobs.json").write_text(json.dumps([str(root / "processes"), todo]))
    launcher = ["accelerate.commands.launch", "--config_file", str(root / "accelerate.yaml")]
    (root / "accelerate.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 2\nmixed_precision: 'no'\n")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", *launcher, str(script), str(root / "jobs.json")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # As in the launched processes: an untrained tokenizer's codes hang on the last bit, hence on the order of sums.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for program, flags in [*encoding_jobs(world, root / "one"), *jobs(world, latents, root / "one", 6)]:
        importlib.import_module(f"vqmae_hf.training.{program}").main(flags)
    torch.set_num_threads(threads)
    printed, _ = process.communicate(timeout=280)
    assert process.returncode == 0, printed[-3000:]
    return Launched(root / "one", root / "two", int((root / "processes").read_text()))


PROGRAMS = ["train_audio_tokenizer", "train_visual_tokenizer", "pretrain", "finetune", "train_mdvae"]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_two_processes_train_what_one_trains(program, launched):
    assert launched.num_processes == 2
    one, two = (load_file(folder / program / "model.safetensors") for folder in (launched.one, launched.two))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(
            two[name].float(), tensor.float(), rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_two_processes_log_what_one_logs(program, launched):
    histories = []
    for folder in (launched.one, launched.two):
        lines = (folder / program / "log_history.jsonl").read_text().splitlines()
        histories.append([json.loads(line) for line in lines])
    assert len(histories[0]) == len(histories[1])
    for one, two in zip(*histories, strict=True):
        assert one.keys() == two.keys()
        for name in one.keys() - TIMED:
            assert two[name] == pytest.approx(one[name], rel=2e-4, abs=1e-6), (one["step"], name)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["tokens", "latents"])
def test_two_processes_write_the_store_that_one_writes(store, launched):
    one, two = (
        {path.name: path.read_bytes() for path in (root / store).iterdir()} for root in (launched.one, launched.two)
    )
    assert sum(name.startswith("shard-") for name in one) == 4  # of 18 clips, two for each process
    assert one == two
