"""Does a tokenization that is killed, again and again, end in the store of one that was not?

    python benchmarks/kill_and_resume.py --kills 20

Writes a small synthetic corpus, tokenizes it once without interruption, then kills (SIGKILL, the command and all of its
processes) a second tokenization at random moments, resumes it each time, and compares the two stores byte by byte. A shard
holds one clip, which is the hardest case. Prints a line per kill and writes benchmarks/results/kill_and_resume.json.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel, VisualVQVAEConfig, VisualVQVAEModel, write_synthetic_corpus

RESULTS = Path(__file__).parent / "results" / "kill_and_resume.json"


def tokenize_command(work: Path, store: Path) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "vqmae_hf.cli",
        "tokenize",
        str(work / "corpus"),
        str(store),
        "--corpus",
        "synthetic",
    ]
    command += ["--audio-tokenizer", str(work / "audio"), "--visual-tokenizer", str(work / "visual"), "--cpu"]
    return [*command, "--num-proc", "2", "--clips-per-shard", "1"]


def make_inputs(work: Path, num_speakers: int) -> None:
    write_synthetic_corpus(work / "corpus", num_speakers=num_speakers, clips_per_emotion=1, seed=0)
    # A file that fails must be listed once, however often the run is killed.
    sorted((work / "corpus").rglob("*.mp4"))[5].write_bytes(b"no film")
    torch.manual_seed(0)
    AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny")).save_pretrained(work / "audio")
    VisualVQVAEModel(VisualVQVAEConfig.from_preset("tiny")).save_pretrained(work / "visual")


def num_shards(store: Path) -> int:
    return len(list(store.glob("*.parquet")))


def run_and_kill(command: list[str], store: Path, after_shards: float, moment: float) -> bool:
    """Start the command, kill it `moment` seconds after some more shards are there; False if it ended first."""
    before = num_shards(store)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and num_shards(store) - before < after_shards:
        time.sleep(0.002)
    time.sleep(moment)
    ended = process.poll() is not None
    if not ended:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return not ended


def contents(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(store.iterdir())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speakers", type=int, default=24, help="speakers of the corpus, with six clips each")
    arguments = parser.parse_args()
    generator = np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_inputs(work, arguments.speakers)
        straight, killed = work / "straight", work / "killed"
        subprocess.run(tokenize_command(work, straight), check=True, stdout=subprocess.DEVNULL)
        total, kills = num_shards(straight), 0
        while kills < arguments.kills:
            # One kill in four comes while the processes still start; the others spread over the work that is left.
            share = (total - num_shards(killed)) / (arguments.kills - kills)
            shards = 0 if generator.random() < 0.25 else generator.integers(1, max(2, int(1.5 * share)))
            moment = generator.uniform(0, 8) if shards == 0 else generator.uniform(0, 0.3)
            if not run_and_kill(tokenize_command(work, killed), killed, shards, moment):
                break  # the work was done before the last kill
            kills += 1
            print(f"kill {kills}: {num_shards(killed)} of {total} shards were there", flush=True)
        subprocess.run(tokenize_command(work, killed), check=True, stdout=subprocess.DEVNULL)
        found, expected = contents(killed), contents(straight)
    differing = sorted(name for name in {*found, *expected} if found.get(name) != expected.get(name))
    result = {"kills": kills, "seed": arguments.seed, "shards": total, "differing_files": differing}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    sys.exit(bool(differing) or kills < arguments.kills)


if __name__ == "__main__":
    main()
