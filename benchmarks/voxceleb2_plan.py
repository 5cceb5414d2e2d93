"""What VoxCeleb2 (1.1 million clips, 2,400 hours) would take: room, hours, money; and whether the loader carries it.

    python benchmarks/voxceleb2_plan.py --page docs/tutorials/voxceleb2.md

Reads the throughputs that `benchmarks/data.py` has measured on this machine, counts the arithmetic of a pre-training step,
and reads windows from a token store of VoxCeleb2's number of clips. That store is made of a few shards with random
codes under many names (hard links), so it takes little room; the reader cannot tell, but the system's file cache can: what
comes out is what the reader itself can do, not the disk. Speed and price of a GPU are assumptions, named as such in the
output: no GPU was at hand. Writes benchmarks/results/voxceleb2_plan.json and, with `--page`, its tables into a page.
"""

import argparse
import json
import math
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from vqmae_hf import VQMAEConfig, VQMAEForPreTraining
from vqmae_hf.data.shards import ShardPlan, close_folder, open_folder
from vqmae_hf.data.tokenization import TokenFormat
from vqmae_hf.experiments.tables import markdown_table, replace_generated
from vqmae_hf.training.token_batches import CodeCollator
from vqmae_hf.training.token_stream import StreamedTokenWindows

RESULTS = Path(__file__).parent / "results"
CLIPS, HOURS = 1_100_000, 2400
SPEAKERS = 5994
CLIPS_PER_SHARD = 256
SHORTEST_CLIP = 4.0  # seconds
BATCH = 32
COMMAND = "python benchmarks/voxceleb2_plan.py"


def make_store(folder: Path, config: VQMAEConfig, num_files: int) -> int:
    """A token store of VoxCeleb2's size whose shards are `num_files` files under many names; returns their number."""
    tokenizers = {
        "audio": {"codebook_size": config.audio_codebook_size, "codes_per_step": [config.audio_codes_per_spectrum]},
        "visual": {"codebook_size": config.visual_codebook_size, "codes_per_step": [config.visual_codes_per_side] * 2},
    }
    parameters = {
        "tokenizers": {name: {"fingerprint": "random codes", **record} for name, record in tokenizers.items()},
        "sampling_rate": 16000,
        "hop_length": 320,
        "frames_per_second": 25,
        "clip_options": None,
    }
    plan = ShardPlan("token_store", "parquet", CLIPS, CLIPS_PER_SHARD, "random codes", parameters)
    open_folder(folder, plan)
    files = [folder / f".file-{number}" for number in range(num_files)]
    for number, path in enumerate(files):
        write_random_shard(path, config, np.random.default_rng(number))
    for shard in range(plan.num_shards):
        os.link(files[shard % num_files], plan.path(folder, shard))
    num_frames = HOURS * 3600 * 25
    speakers = [f"id{number:05d}" for number in range(SPEAKERS)]
    close_folder(
        folder,
        plan,
        {"num_clips": CLIPS, "num_frames": num_frames, "num_spectra": 2 * num_frames, "speakers": speakers},
    )
    return plan.num_shards


def write_random_shard(path: Path, config: VQMAEConfig, draw: np.random.Generator) -> None:
    """Clips of VoxCeleb2's mean length with codes that are used evenly: none take more room."""
    mean_excess = HOURS * 3600 / CLIPS - SHORTEST_CLIP
    schema = pa.schema(
        {
            "clip_id": pa.string(),
            "speaker": pa.string(),
            "num_spectra": pa.int32(),
            "num_frames": pa.int32(),
            "audio_codes": pa.list_(pa.uint8()),
            "visual_codes": pa.list_(pa.uint16()),
        }
    )
    codes_per_frame = config.visual_codes_per_side**2

    def rows():
        for clip in range(CLIPS_PER_SHARD):
            frames = round(25 * (SHORTEST_CLIP + draw.exponential(mean_excess)))
            audio = draw.integers(config.audio_codebook_size, size=2 * frames * config.audio_codes_per_spectrum)
            visual = draw.integers(config.visual_codebook_size, size=frames * codes_per_frame)
            yield {
                "clip_id": f"clip-{clip}",
                "speaker": f"id{draw.integers(SPEAKERS):05d}",
                "num_spectra": 2 * frames,
                "num_frames": frames,
                "audio_codes": audio.astype(np.uint8),
                "visual_codes": visual.astype(np.uint16),
            }

    TokenFormat().write_shard(path, rows(), schema)


def read_windows(folder: Path, config: VQMAEConfig, workers: int, num_windows: int) -> dict[str, float]:
    """Seconds to the first batch, windows per second after it, and memory of the largest worker."""
    start = time.perf_counter()
    loader = DataLoader(
        StreamedTokenWindows(str(folder), config),
        batch_size=BATCH,
        num_workers=workers,
        collate_fn=CodeCollator(config),
    )
    batches = iter(loader)
    next(batches)
    first = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(num_windows // BATCH):
        next(batches)
    speed = num_windows // BATCH * BATCH / (time.perf_counter() - start)
    del batches
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {
        "workers": workers,
        "seconds_to_first_batch": first,
        "windows_per_second": speed,
        "bytes_per_worker": memory,
    }


def flops_per_window(config: VQMAEConfig, batch: int = 2) -> float:
    """Arithmetic of a pre-training step, forward and backward, for each window."""
    model = VQMAEForPreTraining(config).train()
    audio = torch.zeros(batch, config.audio_num_spectra, config.audio_codes_per_spectrum, dtype=torch.long)
    side = config.visual_codes_per_side
    visual = torch.zeros(batch, config.visual_num_frames, side, side, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(audio_codes=audio, visual_codes=visual, mask_ratio=(0.5, 0.5)).loss.backward()
    return counter.get_total_flops() / batch


def plan(measured: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Room and hours, from what was measured and what is assumed."""
    seconds = HOURS * 3600
    command = measured["tokenize_command"]
    per_window = flops_per_window(VQMAEConfig.from_preset("cross-12"))
    windows_per_gpu_second = arguments.gpu_tflops * 1e12 * arguments.utilization / per_window
    gpu_hours = CLIPS * arguments.epochs / windows_per_gpu_second / 3600
    return {
        "clips": CLIPS,
        "hours": HOURS,
        "assumed": {
            "gpu_tflops": arguments.gpu_tflops,
            "utilization": arguments.utilization,
            "epochs": arguments.epochs,
            "dollars_per_gpu_hour": arguments.dollars_per_gpu_hour,
        },
        "store_bytes": seconds * measured["bytes_per_second_of_speech"],
        "store_bytes_at_most": seconds * measured["bytes_per_second_of_even_codes"],
        "tokenization_core_hours": HOURS * command["num_proc"] / command["times_real_time"],
        "flops_per_window": per_window,
        "windows_per_gpu_second": windows_per_gpu_second,
        "gpu_hours": gpu_hours,
        "dollars": gpu_hours * arguments.dollars_per_gpu_hour,
    }


def page_tables(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    assumed, rows = result["assumed"], []
    rows.append(
        ["token store", f"{result['store_bytes'] / 1e9:.0f} GB; {result['store_bytes_at_most'] / 1e9:.0f} GB at most"]
    )
    rows.append(["tokenization", f"{result['tokenization_core_hours']:.0f} CPU core hours"])
    rows.append(
        [
            "arithmetic of a 2 s window, `cross-12`, forward and backward",
            f"{result['flops_per_window'] / 1e9:.1f} GFLOP",
        ]
    )
    rows.append(
        [
            f"{assumed['epochs']} epochs",
            f"{result['gpu_hours']:.0f} GPU hours, {result['dollars']:.0f} dollars (assumed, see below)",
        ]
    )
    rows.append(
        ["windows that one such GPU takes", f"{result['windows_per_gpu_second']:.0f} per second (assumed, see below)"]
    )
    text = markdown_table(["VoxCeleb2: 1.1 million clips, 2,400 hours", ""], rows)
    text += (
        f"\n\nAssumed: a GPU of {assumed['gpu_tflops']:.0f} TFLOP/s in bf16 matrix products of which training reaches "
        f"{assumed['utilization']:.0%}, and {assumed['dollars_per_gpu_hour']:.2f} dollars an hour. The rest was "
        "measured or counted on a CPU.\n\n"
    )
    readers = [
        [
            str(line["workers"]),
            f"{line['seconds_to_first_batch']:.1f} s",
            f"{line['windows_per_second']:.0f}",
            f"{line['bytes_per_worker'] / 1e6:.0f} MB",
        ]
        for line in result["reading"]
    ]
    text += f"Streaming from a store of that many clips ({result['shards']:,} shards):\n\n"
    text += markdown_table(["workers", "first batch after", "windows per second", "memory of a worker"], readers)
    needed = result["windows_per_gpu_second"] / max(
        line["windows_per_second"] / line["workers"] for line in result["reading"]
    )
    return f"{text}\n\nThat GPU would keep {math.ceil(needed)} such workers busy.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu_tflops", type=float, default=790, help="bf16 matrix products of one GPU")
    parser.add_argument("--utilization", type=float, default=0.3, help="share of it that training reaches")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--dollars_per_gpu_hour", type=float, default=3.0)
    parser.add_argument(
        "--files", type=int, default=4, help="files that the shards of the simulated store are names of"
    )
    parser.add_argument("--windows", type=int, default=6400, help="windows to read")
    parser.add_argument("--page", type=Path, help="page to write the tables into")
    arguments = parser.parse_args()
    result = plan(json.loads((RESULTS / "data.json").read_text(encoding="utf-8")), arguments)
    config = VQMAEConfig.from_preset("cross-12")
    with tempfile.TemporaryDirectory() as folder:
        result["shards"] = make_store(Path(folder) / "store", config, arguments.files)
        result["reading"] = [
            read_windows(Path(folder) / "store", config, workers, arguments.windows) for workers in (1, 2)
        ]
    (RESULTS / "voxceleb2_plan.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    tables = page_tables(result)
    print(tables)
    if arguments.page:
        text = arguments.page.read_text(encoding="utf-8")
        arguments.page.write_text(replace_generated(text, "voxceleb2_plan", tables, COMMAND), encoding="utf-8")


if __name__ == "__main__":
    main()
