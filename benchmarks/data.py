"""How fast media become codes, how much room the codes take, and how fast they are read.

    python benchmarks/data.py --root ../shared/data/grid --num_proc 2

Times each step on its own, in one process on one thread (seconds of clip per second of processor time), then a whole
tokenization by `vqmae-hf tokenize` in a process of its own (seconds of clip per second of wall time, start-up and end
included), then the reading of windows from the store it wrote. Tokenizers have the sizes of VQ-MAE-AV. Unless they are
named they are untrained, with codebooks laid over the latents of the first clips: speed does not depend on training, and so
do codes that are used evenly, which are the hardest to compress. Prints a table and writes
benchmarks/results/data.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel, VisualVQVAEConfig, VisualVQVAEModel, VQMAEConfig
from vqmae_hf.data.clips import load_clip
from vqmae_hf.data.corpora import load_corpus
from vqmae_hf.data.media import FrameReader
from vqmae_hf.data.prepared_clips import prepare_row
from vqmae_hf.data.token_store import load_token_store, read_token_store_info
from vqmae_hf.data.tokenization import ClipEncoder, TokenFormat, decoding_options
from vqmae_hf.training.assembly import load_tokenizers, processor_for_tokenizers
from vqmae_hf.training.codebook_start import start_codebook
from vqmae_hf.training.token_batches import CodeCollator, TokenWindows
from vqmae_hf.training.token_stream import StreamedTokenWindows

RESULTS = Path(__file__).parent / "results" / "data.json"
BATCH = 32


def make_tokenizers(work: Path, sources: list[Any]) -> tuple[str, str]:
    """Tokenizers of VQ-MAE-AV's sizes whose codes are used evenly, saved."""
    torch.manual_seed(0)
    tokenizers = {
        "audio": AudioVQVAEModel(AudioVQVAEConfig.from_preset("vqmae")),
        "visual": VisualVQVAEModel(VisualVQVAEConfig.from_preset("vqmae")),
    }
    processor = processor_for_tokenizers(tokenizers)
    clips = [load_clip(source, on_missing_face="center") for source in sources]
    inputs = processor(
        audio=[clip.waveform for clip in clips], videos=[clip.frames[:50] for clip in clips], return_tensors="pt"
    )
    audio = {"audio_values": inputs["audio_values"], "audio_attention_mask": inputs["audio_attention_mask"]}
    visual = {"pixel_values_videos": inputs["pixel_values_videos"][:, ::10]}
    for (name, tokenizer), batch in zip(tokenizers.items(), (audio, visual), strict=True):
        start_codebook(tokenizer, batch)
        tokenizer.eval().save_pretrained(work / name)
    return str(work / "audio"), str(work / "visual")


def time_steps(corpus: Any, tokenizers: dict[str, Any], num_clips: int) -> dict[str, float]:
    """Seconds of clip per second of processor time, step by step, on one thread; medians over clips."""
    torch.set_num_threads(1)
    processor = processor_for_tokenizers(tokenizers)
    options = {**decoding_options(processor, tokenizers), "on_missing_face": "center"}
    encode = ClipEncoder(tokenizers, processor, None, TokenFormat())
    speeds: dict[str, list[float]] = {}

    def measure(name: str, seconds: float, function: Any) -> Any:
        start = time.process_time()
        result = function()
        speeds.setdefault(name, []).append(seconds / (time.process_time() - start))
        return result

    for row in corpus.select(range(num_clips)):
        source = row["video"]
        clip = load_clip(source, **options)  # warms the file cache
        seconds = clip.duration_seconds
        measure("decode", seconds, lambda source=source: sum(1 for _ in FrameReader(source)))
        measure(
            "decode + crop + sound, no face search",
            seconds,
            lambda source=source: load_clip(source, **{**options, "crop_faces": False}),
        )
        prepared = measure("decode + follow face + crop + sound", seconds, lambda row=row: prepare_row(row, options))
        measure("spectra (STFT)", seconds, lambda clip=clip: processor(audio=clip.waveform, return_tensors="pt"))
        measure("pixels to tensors", seconds, lambda clip=clip: processor(videos=[clip.frames], return_tensors="pt"))
        measure("tensors + tokenizers", seconds, lambda prepared=prepared: encode(prepared))
    return {name: float(np.median(values)) for name, values in speeds.items()}


def time_command(arguments: argparse.Namespace, store: Path, audio: str, visual: str) -> float:
    """Wall-clock seconds of the command."""
    command = [sys.executable, "-m", "vqmae_hf.cli", "tokenize", str(arguments.root), str(store), "--cpu"]
    command += ["--corpus", arguments.corpus, "--audio-tokenizer", audio, "--visual-tokenizer", visual]
    command += ["--num-proc", str(arguments.num_proc), "--clip-option", "on_missing_face=center"]
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def time_reading(store: Path, work: Path, num_windows: int) -> dict[str, float]:
    """Windows per second that one process reads, in random order, as items and as batches of tensors."""
    info = read_token_store_info(store)
    config = VQMAEConfig.from_preset("cross-12")
    windows = TokenWindows(load_token_store(store, cache_dir=work / "cache"), config)
    collate = CodeCollator(config)
    draw = np.random.default_rng(0)
    batches = draw.integers(len(windows), size=(num_windows // BATCH, BATCH)).tolist()
    speeds = {}
    for name, finish in (("items", lambda items: items), ("batches", collate)):
        finish(windows.__getitems__(batches[0]))
        start = time.perf_counter()
        for indices in batches:
            finish(windows.__getitems__(indices))
        speeds[f"memory-mapped, {name}"] = len(batches) * BATCH / (time.perf_counter() - start)
    stream = iter(DataLoader(StreamedTokenWindows(str(store), config), batch_size=BATCH, collate_fn=collate))
    start = time.perf_counter()
    for _ in batches:
        next(stream)
    speeds["streamed from Parquet, batches"] = len(batches) * BATCH / (time.perf_counter() - start)
    assert info.num_clips == len(windows)
    return speeds


def bytes_of_even_codes(seconds: int = 60) -> float:
    """Bytes per second of speech where every code is as likely as any other: no codes take more room."""
    import pyarrow as pa

    from vqmae_hf.data.tokenization import _write_shard  # the writer itself, not a copy of its settings

    draw = np.random.default_rng(0)
    row = {
        "audio_codes": draw.integers(256, size=seconds * 50 * 64).astype(np.uint8),
        "visual_codes": draw.integers(512, size=seconds * 25 * 576).astype(np.uint16),
    }
    schema = pa.schema({"audio_codes": pa.list_(pa.uint8()), "visual_codes": pa.list_(pa.uint16())})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "codes.parquet"
        _write_shard(path, iter([row]), schema)
        return path.stat().st_size / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data/grid"))
    parser.add_argument("--corpus", default="videofolder")
    parser.add_argument("--audio_tokenizer")
    parser.add_argument("--visual_tokenizer")
    parser.add_argument("--num_proc", type=int, default=2)
    parser.add_argument("--timed_clips", type=int, default=16, help="clips that the single steps are timed on")
    parser.add_argument("--windows", type=int, default=6400, help="windows to read")
    arguments = parser.parse_args()
    corpus = load_corpus(arguments.corpus, arguments.root)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        audio, visual = arguments.audio_tokenizer, arguments.visual_tokenizer
        if audio is None or visual is None:
            audio, visual = make_tokenizers(work, corpus[:4]["video"])
        steps = time_steps(corpus, load_tokenizers(audio, visual), min(arguments.timed_clips, len(corpus)))
        wall = time_command(arguments, work / "store", audio, visual)
        info = read_token_store_info(work / "store")
        seconds = info.num_frames / info.frames_per_second
        stored = sum(path.stat().st_size for path in (work / "store").glob("*.parquet"))
        result = {
            "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
            "torch": torch.__version__,
            "clips": info.num_clips,
            "seconds_of_clips": seconds,
            "times_real_time_per_core": steps,
            "tokenize_command": {
                "num_proc": arguments.num_proc,
                "wall_seconds": wall,
                "times_real_time": seconds / wall,
            },
            "bytes_per_second_of_speech": stored / seconds,
            "bytes_per_second_of_even_codes": bytes_of_even_codes(),
            "windows_per_second": time_reading(work / "store", work, arguments.windows),
        }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_table(result)


def print_table(result: dict[str, Any]) -> None:
    table = Table(title=f"{result['clips']} clips, {result['seconds_of_clips']:.0f} s")
    table.add_column("what")
    table.add_column("figure", justify="right")
    for name, value in result["times_real_time_per_core"].items():
        table.add_row(name, f"{value:.1f} x real time per core")
    command = result["tokenize_command"]
    table.add_row(
        f"vqmae-hf tokenize --num-proc {command['num_proc']}", f"{command['times_real_time']:.2f} x real time"
    )
    table.add_row("store", f"{result['bytes_per_second_of_speech'] / 1000:.1f} kB per second of speech")
    table.add_row("store, evenly used codes", f"{result['bytes_per_second_of_even_codes'] / 1000:.1f} kB per second")
    for name, value in result["windows_per_second"].items():
        table.add_row(f"windows of 2 s, {name}", f"{value:.0f} per second")
    Console().print(table)


if __name__ == "__main__":
    main()
