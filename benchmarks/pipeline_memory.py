"""Does the memory of a process grow with the calls of its pipeline?

    python benchmarks/pipeline_memory.py --calls 10000

Calls `pipeline("audiovisual-classification")` of a small untrained classifier with clips of changing lengths and missing
modalities, reads the resident memory of the process at intervals, and writes benchmarks/results/pipeline_memory.json: the
readings, and the growth per 1,000 calls of a line through those after the warm-up.
"""

import argparse
import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from transformers import pipeline

import vqmae_hf
from vqmae_hf import (
    AudioVQVAEConfig,
    VisualVQVAEConfig,
    VQMAEConfig,
    VQMAEForAudioVisualClassification,
    VQMAEProcessor,
)

RESULTS = Path(__file__).parent / "results" / "pipeline_memory.json"
SIDE = 16
LENGTHS = (7, 50, 60, 130, 20)  # frames; the window has 50


def small_pipeline() -> Any:
    """A pipeline whose calls take milliseconds."""
    torch.manual_seed(0)
    config = VQMAEConfig.from_preset(
        "tiny",
        num_hidden_layers=1,
        audio_tokenizer_config=AudioVQVAEConfig.from_preset("tiny", hidden_size=8),
        visual_tokenizer_config=VisualVQVAEConfig.from_preset(
            "tiny", image_size=SIDE, num_downsampling_layers=1, hidden_size=8
        ),
        num_labels=6,
    )
    model = VQMAEForAudioVisualClassification(config).eval()
    processor = VQMAEProcessor.from_model_config(config)
    return pipeline("audiovisual-classification", model=model, processor=processor, device="cpu")


def clips(seed: int = 0) -> Iterator[dict[str, Any]]:
    """Clips without end: all lengths, every third without sound, every fourth without picture."""
    draw, number = np.random.default_rng(seed), 0
    while True:
        number += 1
        frames = LENGTHS[number % len(LENGTHS)]
        clip: dict[str, Any] = {}
        if number % 4 or not number % 3:
            clip["frames"] = draw.integers(0, 256, (frames, SIDE, SIDE, 3), dtype=np.uint8)
        if number % 3:
            clip["waveform"] = draw.standard_normal(frames * 640).astype(np.float32)
        yield clip


def read_memory(classify: Callable[[Any], Any], calls: int, every: int) -> list[dict[str, float]]:
    """Resident megabytes after each `every` calls, garbage collected."""
    process, readings = psutil.Process(), []
    for number, clip in zip(range(1, calls + 1), clips(), strict=False):
        classify(clip)
        if number % every == 0:
            gc.collect()
            readings.append({"calls": number, "resident_megabytes": process.memory_info().rss / 2**20})
    return readings


def growth_per_thousand_calls(readings: list[dict[str, float]], warm_up_share: float = 0.2) -> float:
    """Slope, in megabytes, of a line through the readings after the warm-up."""
    kept = readings[int(warm_up_share * len(readings)) :]
    numbers, memory = (np.array([r[name] for r in kept]) for name in ("calls", "resident_megabytes"))
    return float(1000 * np.polyfit(numbers, memory, 1)[0])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=250, help="calls between two readings")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    start = time.perf_counter()
    readings = read_memory(small_pipeline(), args.calls, args.every)
    report = {
        "calls": args.calls,
        "megabytes_per_1000_calls": growth_per_thousand_calls(readings),
        "seconds": time.perf_counter() - start,
        "threads": int(os.environ.get("OMP_NUM_THREADS", torch.get_num_threads())),
        "versions": {"torch": torch.__version__, "vqmae_hf": vqmae_hf.__version__},
        "readings": readings,
    }
    args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print({name: value for name, value in report.items() if name != "readings"})


if __name__ == "__main__":
    main()
