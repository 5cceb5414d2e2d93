"""Runs training programs one after the other in one process group, for tests: `python launched_programs.py jobs.json`.

A process takes seconds to import what the programs need; every launcher starts it once for all of them.
"""

import importlib
import json
import os
import sys
from pathlib import Path

import torch
from accelerate import PartialState


def main() -> None:
    """Run the jobs, [program, flags] each, and leave word of how many processes there were."""
    torch.set_num_threads(1)
    report, jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for program, flags in jobs:
        importlib.import_module(f"vqmae_hf.training.{program}").main(flags)
    if PartialState().is_main_process:
        Path(report).write_text(str(PartialState().num_processes), encoding="utf-8")
    PartialState().wait_for_everyone()
    # Without the interpreter's own end, in which a thread of gloo's once aborted a process on a busy machine.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
