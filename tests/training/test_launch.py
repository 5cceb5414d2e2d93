"""The programs from the command line, in processes of their own."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from vqmae_hf.training import train_visual_tokenizer


def launch(launcher, program, flags):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", *launcher, f"vqmae_hf.training.{program}", *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture
def _one_thread():
    """As in the launched processes: an untrained tokenizer's codes hang on the last bit, hence on the order of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
@pytest.mark.slow
def test_any_launcher_and_any_number_of_processes_train_the_same_tokenizer(world, tmp_path):
    """Twice the processes with half the batch each see the same clips; codebook statistics are over all of them."""
    common = ["--recipe", "debug", "--disable_tqdm", "True", "--picture_clips", "0", "--eval_strategy", "no"]
    common += ["--clips_dir", world.clips_dir, "--optim", "sgd", "--learning_rate", "0.01", "--max_steps", "2"]
    common += ["--save_strategy", "no", "--train_sampling_strategy", "sequential"]

    def flags(name, batch):
        return [*common, "--output_dir", str(tmp_path / name), "--per_device_train_batch_size", str(batch)]

    train_visual_tokenizer.main(flags("plain", 4))
    launch(["accelerate.commands.launch", "--cpu", "-m"], "train_visual_tokenizer", flags("accelerate", 4))
    launch(["torch.distributed.run", "--nproc_per_node", "2", "-m"], "train_visual_tokenizer", flags("two", 2))
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    for name in ("accelerate", "two"):
        weights = load_file(tmp_path / name / "model.safetensors")
        for key, tensor in plain.items():
            torch.testing.assert_close(
                weights[key].float(), tensor.float(), rtol=1e-4, atol=1e-5, msg=f"{name}: {key}"
            )
    metrics = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("plain", "two")]
    assert metrics[0]["train"]["loss"] == pytest.approx(metrics[1]["train"]["loss"], rel=1e-4)
    # Half the clips per process and step: had the two not shared the work, two would have seen two epochs' share.
    assert metrics[0]["train"]["epoch"] == pytest.approx(metrics[1]["train"]["epoch"])
