"""Damaged media files, seeded: each ends in a clip or in a typed error, in time, and without growth of memory.

    python tests/data/damaged_media.py --count 1000

Files are read in a child process, so that a crash or a hang of FFmpeg is seen and counted, and does not end the program.
Prints the outcomes, writes them as JSON, and keeps the files that ended otherwise. About two minutes on one core.
"""

import argparse
import ctypes
import gc
import json
import logging
import multiprocessing
import platform
import resource
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np
from media_mutations import KINDS, base_files, mutated
from peak_memory import peak_megabytes

from vqmae_hf.data.clips import Clip, ClipError, load_clip

PATIENCE_SECONDS = 60.0  # a hang, not a slow machine
# Longer than any file may take by itself: the process has to start, and machines are shared.
START_SECONDS = 120.0
LENIENT = {
    "on_missing_face": "center",
    "on_missing_audio": "visual_only",
    "on_missing_video": "audio_only",
    "on_silence": "keep",
    "face_size": 32,
}
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass
class Report:
    """What became of the files.

    Attributes:
        outcomes: file -> "Clip", the name of an error, "hang" or "crash".
        failures: (file, outcome, detail) of those that ended neither in a clip nor in a `ClipError`, or that ended otherwise
            when they were read again.
        slowest_seconds, slowest_file: of one file.
        peak_megabytes: the most memory that a reading process ever held.
        growth_megabytes: what a process held after reading all files twice less what it held after reading them once; None
            where no process lived so long.
        seconds: altogether.
    """

    outcomes: dict[str, str] = field(default_factory=dict)
    failures: list[tuple[str, str, str]] = field(default_factory=list)
    slowest_seconds: float = 0.0
    slowest_file: str = ""
    peak_megabytes: float = 0.0
    growth_megabytes: float | None = None
    seconds: float = 0.0

    def note(self, name: str, outcome: str, detail: str) -> None:
        """Take down how reading a file ended."""
        before = self.outcomes.setdefault(name, outcome)
        if before != outcome:
            detail = f"the first reading ended as {before}"
        if detail:
            self.failures.append((name, outcome, detail))


def write_damaged_files(folder: Path, count: int, seed: int, extra: dict[str, bytes] | None = None) -> list[Path]:
    """Write `count` damaged files, going round base files (and `extra` ones by suffix) and kinds of damage."""
    bases = {**base_files(), **(extra or {})}
    paths = []
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        suffix = sorted(bases)[index % len(bases)]
        kind = KINDS[(index // len(bases) + index) % len(KINDS)]
        path = folder / f"{index:05d}_{kind}.{suffix.rpartition('_')[2]}"
        path.write_bytes(mutated(bases[suffix], suffix, kind, rng))
        paths.append(path)
    return paths


def read_all(paths: list[Path]) -> Report:
    """Read files twice in a child process, and in a new one after each crash or hang."""
    report, began = Report(), time.perf_counter()
    remaining = [*paths, *paths]
    while remaining:
        remaining = _read_until_death(remaining, report, len(paths))
    report.seconds = time.perf_counter() - began
    return report


def check(clip: Clip) -> None:
    """Raise an AssertionError for a clip that a processor could not take."""
    assert clip.frames is not None or clip.waveform is not None
    if clip.frames is not None:
        assert clip.frames.shape == (len(clip.face_boxes), 32, 32, 3), clip.frames.shape
        assert len(clip.frames) > 0
        assert np.isfinite(clip.face_boxes).all()
    if clip.waveform is not None:
        assert len(clip.waveform) > 0
        assert np.abs(clip.waveform).max() <= 1.0, "also false for NaN"
    if clip.frames is not None and clip.waveform is not None:
        assert len(clip.waveform) == round(len(clip.frames) * clip.sampling_rate / clip.frames_per_second)


def _read_until_death(queue: list[Path], report: Report, once: int) -> list[Path]:
    """Read files in one child process until it dies; returns what is left to read."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_serve, args=(there,), daemon=True)
    child.start()
    there.close()
    try:
        if not here.poll(START_SECONDS):
            raise RuntimeError(f"the reading process did not start within {START_SECONDS:.0f} seconds")
        here.recv()
        return _feed(here, queue, report, once)
    except (EOFError, ConnectionResetError):
        child.join()
        report.note(queue[0].name, "crash", f"exit code {child.exitcode}")
        return [path for path in queue if path != queue[0]]
    finally:
        child.kill()
        child.join()
        here.close()


def _feed(child: Connection, queue: list[Path], report: Report, once: int) -> list[Path]:
    """Have a process read the files of the queue, which shrinks; `once` is how many files there are."""
    held_after_once, whole = 0.0, len(queue) == 2 * once
    while queue:
        path = queue[0]
        child.send(str(path))
        if not child.poll(PATIENCE_SECONDS):
            report.note(path.name, "hang", f"no answer within {PATIENCE_SECONDS:.0f} seconds")
            return [other for other in queue if other != path]
        outcome, detail, seconds, peak = child.recv()
        report.note(path.name, outcome, detail)
        report.slowest_seconds, report.slowest_file = max(
            (report.slowest_seconds, report.slowest_file), (seconds, path.name)
        )
        report.peak_megabytes = max(report.peak_megabytes, peak)
        queue.pop(0)
        if len(queue) == once:
            held_after_once = _ask_for_held_megabytes(child)
    if whole:
        report.growth_megabytes = _ask_for_held_megabytes(child) - held_after_once
    return queue


def _ask_for_held_megabytes(child: Connection) -> float:
    child.send("")
    return child.recv()


def _serve(parent: Connection) -> None:
    """Read the files that the parent names, and say what came of each; in the child process."""
    logging.disable()  # every other file is reported as damaged, which is the point
    load_clip(base_files()["wav"], modalities=("audio",))  # imports and first calls are no time of a file
    parent.send("ready")
    while True:
        path = parent.recv()
        if not path:
            parent.send(_held_megabytes())
            continue
        began = time.perf_counter()
        outcome, detail = _outcome(path)
        parent.send((outcome, detail, time.perf_counter() - began, peak_megabytes()))


def _outcome(path: str) -> tuple[str, str]:
    """("Clip", "") or (name of the error, "" if it is a ClipError, else what it says)."""
    try:
        check(load_clip(path, **LENIENT))
    except ClipError as error:
        named = str(error).startswith(f"{path}: found ") and "; accepted is " in str(error)
        return type(error).__name__, "" if named else f"the message names no file: {error}"
    except Exception as error:
        return type(error).__name__, repr(error)
    return "Clip", ""


def _held_megabytes() -> float:
    """Resident memory of this process without what it has freed; its peak where neither can be told."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc, which keeps freed memory for later
    if trim is not None:
        trim(0)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_megabytes()
    return pages * resource.getpagesize() / 1e6


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=REPOSITORY / "benchmarks" / "results" / "damaged_media.json")
    parser.add_argument("--failures", type=Path, default=None, help="folder to keep the files that ended otherwise in")
    return parser.parse_args()


def main() -> int:
    arguments = _parse_arguments()
    recordings = sorted((REPOSITORY.parent / "shared" / "data" / "grid").glob("*.mpg"))[:1]
    extra = {f"grid_{path.suffix[1:]}": path.read_bytes() for path in recordings}
    with tempfile.TemporaryDirectory() as name:
        paths = write_damaged_files(Path(name), arguments.count, arguments.seed, extra)
        report = read_all(paths)
        for file, *_ in report.failures if arguments.failures else ():
            arguments.failures.mkdir(parents=True, exist_ok=True)
            (arguments.failures / file).write_bytes((Path(name) / file).read_bytes())
    result = {
        "count": arguments.count,
        "seed": arguments.seed,
        "base_files": sorted({*base_files(), *extra}),
        **vars(report),
        "outcomes": Counter(report.outcomes.values()),
        "av": av.__version__,
        "ffmpeg": av.ffmpeg_version_info,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
