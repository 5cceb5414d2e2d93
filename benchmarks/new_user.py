"""How long a new user waits: from the repository to the emotion of a clip, command by command as the README has them.

    python benchmarks/new_user.py clip.mp4

Clones this repository into an empty folder, installs it in a new environment, draws a corpus, trains a classifier on it and
asks for the emotion of the clip. Run it on an idle machine. Writes benchmarks/results/new_user.json.
"""

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results" / "new_user.json"
SPEAKERS = 12


def commands(clip: Path) -> dict[str, str]:
    """What is typed, in the folder of the clone, by what it is for."""
    activated = ". .venv/bin/activate && vqmae-hf"
    return {
        "install": "make install",
        "draw clips": f"{activated} synth corpus --speakers {SPEAKERS} --clips-per-emotion 1 --quiet",
        "train": f"{activated} train finetune corpus/clips -o my_model",
        "predict": f"{activated} predict '{clip}' --model my_model --json",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path, help="a video with a face and a voice")
    clip = parser.parse_args().clip.resolve(strict=True)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "vqmae-hf"
        seconds = {"clone": _seconds(f"git clone --quiet {REPOSITORY} {home}", Path(folder))}
        for name, command in commands(clip).items():
            seconds[name] = _seconds(command, home)
            print(f"{name:12} {seconds[name]:7.1f} s", flush=True)
    result = {
        "seconds": seconds,
        "to_an_emotion_seconds": sum(seconds.values()),
        "own_folder_to_model_seconds": seconds["train"],
        "clips": 6 * SPEAKERS,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def _seconds(command: str, folder: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command}: ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
