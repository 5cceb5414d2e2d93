"""Runs training programs that are killed (kill -9) in the middle of writing a checkpoint: `killed_programs.py jobs.json`.

Each program runs in a fork of this process, which imports what they need once. Prints how each ended.
"""

import importlib
import io
import json
import os
import signal
import sys
from pathlib import Path

import torch

KILLED_AT = "checkpoint-4"


def die_half_way(content: object, file: str | os.PathLike[str], **options: object) -> None:
    """As `torch.save`, up to the middle of the optimizer's state of one checkpoint."""
    name = str(file)
    if not (KILLED_AT in name and name.endswith("optimizer.pt")):
        save(content, file, **options)
        return
    whole = io.BytesIO()
    save(content, whole, **options)
    with open(name, "wb") as half:
        half.write(whole.getvalue()[: len(whole.getvalue()) // 2])
        half.flush()
        os.kill(os.getpid(), signal.SIGKILL)


save = torch.save


def main() -> None:
    """Run the jobs, [program, flags] each."""
    torch.set_num_threads(1)
    jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    programs = [importlib.import_module(f"vqmae_hf.training.{program}") for program, _ in jobs]
    endings = {}
    for program, (name, flags) in zip(programs, jobs, strict=True):
        if (child := os.fork()) == 0:
            torch.save = die_half_way
            program.main(flags)
            os._exit(0)
        endings[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(json.dumps(endings))


if __name__ == "__main__":
    main()
