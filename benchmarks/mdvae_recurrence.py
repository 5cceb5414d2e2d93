"""How much faster MDVAE's inference is for computing ahead whatever does not depend on the sample before.

    python benchmarks/mdvae_recurrence.py --threads 2

Compares the model with the plain form of tests/modeling/plain_mdvae.py, every network at every frame, which gives the same
numbers: `encode` of one clip, and a training step (forward, backward, Adam) of a batch. Both take turns, so that whatever
else the machine does meets both; the shortest of all runs counts, the median is written beside it, and the processor time of
all threads. Then the time of `encode` and of a training step, and what the step keeps for the backward pass, over the number
of frames: both should be lines. Prints tables and writes benchmarks/results/mdvae_recurrence.json.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from vqmae_hf import MDVAEConfig, MDVAEModel
from vqmae_hf.modeling.mdvae_features import FrameFeatures
from vqmae_hf.modeling.mdvae_generation import draw_noise
from vqmae_hf.modeling.modeling_outputs_mdvae import MDVAEOutput

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "modeling"))
from plain_mdvae import plain_encode  # noqa: E402

Timings = dict[str, dict[str, float]]


def random_features(config: MDVAEConfig, clips: int, frames: int) -> dict[str, torch.Tensor]:
    return {
        "audio_features": torch.randn(clips, frames, config.audio_feature_size),
        "visual_features": torch.randn(clips, frames, config.visual_feature_size),
    }


def take_turns(programs: dict[str, Callable[[], None]], repeats: int) -> Timings:
    """Milliseconds of each program, of `repeats` runs after one that is not counted: wall clock, and processor time."""
    wall: dict[str, list[float]] = {name: [] for name in programs}
    processor: dict[str, list[float]] = {name: [] for name in programs}
    for repeat in range(repeats + 1):
        for name, program in programs.items():
            start, processor_start = time.perf_counter(), time.process_time()
            program()
            if repeat:
                wall[name].append(1e3 * (time.perf_counter() - start))
                processor[name].append(1e3 * (time.process_time() - processor_start))
    return {
        name: {
            "shortest_ms": min(wall[name]),
            "median_ms": statistics.median(wall[name]),
            "processor_ms": min(processor[name]),
        }
        for name in programs
    }


def training_step(model: MDVAEModel, features: dict[str, torch.Tensor], plain: bool) -> Callable[[], None]:
    """One step of Adam on the whole objective, with the model's inference or the plain one; nothing else differs."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-6)

    def step() -> None:
        optimizer.zero_grad()
        training_loss(model, features, plain).backward()
        optimizer.step()

    return step


def training_loss(model: MDVAEModel, features: dict[str, torch.Tensor], plain: bool = False) -> torch.Tensor:
    if not plain:
        return model(**features, sample=True).loss
    shapes = model.noise_shapes(*features["audio_features"].shape[:2])
    encoding = plain_encode(model, **features, noise=draw_noise(shapes, None, torch.device("cpu")))
    inputs = FrameFeatures({name.removesuffix("_features"): value for name, value in features.items()}, None)
    output = MDVAEOutput()
    model.add_losses(output, inputs, encoding, model.decode_features(encoding))
    return output["loss"]


@contextmanager
def count_kept_bytes() -> Iterator[list[int]]:
    """A list of one number: bytes of the tensors that autograd keeps for the backward pass, each storage once."""
    storages: dict[int, int] = {}
    kept = [0]

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        kept[0] = sum(storages.values())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def compare_encoding(model: MDVAEModel, clips: int, frames: int, repeats: int) -> Timings:
    features = random_features(model.config, clips, frames)
    with torch.inference_mode():
        return take_turns(
            {"ahead": lambda: model.encode(**features), "plain": lambda: plain_encode(model, **features)}, repeats
        )


def compare_training(model: MDVAEModel, clips: int, frames: int, repeats: int) -> Timings:
    features = random_features(model.config, clips, frames)
    steps = {name: training_step(model, features, plain=name == "plain") for name in ("ahead", "plain")}
    return take_turns(steps, repeats)


def over_frames(model: MDVAEModel, lengths: list[int], repeats: int) -> list[dict[str, float]]:
    """Time of encoding one clip and of a training step of four, and what the step keeps, for each length."""
    rows = []
    for frames in lengths:
        one, four = (random_features(model.config, clips, frames) for clips in (1, 4))
        with torch.inference_mode():
            encoding = take_turns({"encode": lambda one=one: model.encode(**one)}, repeats)["encode"]
        step = take_turns({"step": training_step(model, four, plain=False)}, max(2, repeats // 4))["step"]
        with count_kept_bytes() as kept:
            training_loss(model, four)
        rows.append(
            {
                "frames": frames,
                "encode_ms": encoding["shortest_ms"],
                "training_step_ms": step["shortest_ms"],
                "kept_megabytes": kept[0] / 2**20,
            }
        )
    return rows


def print_comparison(console: Console, title: str, timings: Timings) -> dict[str, float]:
    """A table of both forms; returns how many times faster computing ahead is, by each measure."""
    table = Table("form", "shortest, ms", "median, ms", "processor, ms", title=title)
    for name, values in timings.items():
        table.add_row(name, *(f"{value:.1f}" for value in values.values()))
    console.print(table)
    ratios = {measure: timings["plain"][measure] / timings["ahead"][measure] for measure in timings["plain"]}
    console.print("times faster: " + ", ".join(f"{name} {ratio:.2f}" for name, ratio in ratios.items()) + "\n")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    parser.add_argument("--repeats", type=int, default=40, help="runs of encode; a quarter as many of training steps")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results" / "mdvae_recurrence.json")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model, console = MDVAEModel(MDVAEConfig.from_preset("mdvae")).eval(), Console()

    encoding = compare_encoding(model, 1, 60, arguments.repeats)
    training = compare_training(model.train(), 32, 30, max(2, arguments.repeats // 4))
    rows = over_frames(model.eval(), [15, 30, 60, 120, 240], arguments.repeats // 2)
    faster = {
        "encode": print_comparison(console, "encode, 1 clip of 60 frames", encoding),
        "training_step": print_comparison(console, "training step, 32 clips of 30 frames", training),
    }
    table = Table("frames", "encode 1 clip, ms", "training step of 4, ms", "kept for it, MB")
    for row in rows:
        table.add_row(str(row["frames"]), *(f"{row[name]:.1f}" for name in list(row)[1:]))
    console.print(table)

    result = {
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg(), "threads": arguments.threads},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "encode_1_clip_60_frames": encoding,
        "training_step_32_clips_30_frames": training,
        "times_faster": faster,
        "over_frames": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
