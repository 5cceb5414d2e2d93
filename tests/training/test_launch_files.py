"""The packaged configurations for `accelerate launch`: shards on two machines train what one process trains."""

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from vqmae_hf.training import pretrain
from vqmae_hf.training.launch_files import launch_file, launch_names


@pytest.mark.parametrize("name", launch_names())
def test_accelerate_reads_every_file_and_its_head_says_how_to_use_it(name):
    path = launch_file(name)
    config = load_config_from_file(str(path))
    assert config.num_processes >= 2
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"launch_files {name})" in line for line in head)
    # What a machine lacks is refused by launching, not by falling back to one process.
    assert config.use_cpu is False


def test_an_unknown_name_is_refused_and_the_known_ones_are_said():
    with pytest.raises(ValueError, match=re.escape(str(launch_names()))):
        launch_file("tpu")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_shards_on_two_machines_train_what_one_process_trains(world, tmp_path):
    def flags(name, batch):
        values = {
            **world.tokens,
            "recipe": "debug",
            "output_dir": tmp_path / name,
            "per_device_train_batch_size": batch,
        }
        values |= {"max_steps": 4, "save_steps": 2, "eval_strategy": "no", "picture_clips": 0, "disable_tqdm": True}
        values |= {"validation_share": 0.34, "test_share": 0.16, "base_learning_rate": 0.5, "optim": "sgd"}
        return [word for flag, value in values.items() for word in (f"--{flag}", str(value))]

    tokenizer = ["--recipe", "debug", "--clips_dir", world.clips_dir, "--output_dir", str(tmp_path / "tokenizer")]
    (tmp_path / "pretrain.json").write_text(json.dumps(flags("sharded", 3)))
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer))
    script = [str(Path(__file__).with_name("launched_sharded.py")), str(tmp_path / "report.json")]
    script += [str(tmp_path / "pretrain.json"), str(tmp_path / "tokenizer.json")]
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(launch_file("fsdp"))]
    launcher += ["--mixed_precision", "no", "--num_machines", "2", "--num_processes", "2"]
    launcher += ["--main_process_ip", "127.0.0.1", "--main_process_port", str(free_port())]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    machines = [
        subprocess.Popen(
            [*launcher, "--machine_rank", str(rank), *script],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pretrain.main(flags("one", 6))
    torch.set_num_threads(threads)
    for machine in machines:
        printed, _ = machine.communicate(timeout=250)
        assert machine.returncode == 0, printed[-3000:]
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["processes"] == 2
    assert report["parameters"] == ["DTensor"]
    assert "FSDP would lose the codebook" in report["refusal"]
    one, sharded = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "sharded"))
    assert one.keys() == sharded.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(
            sharded[name], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
