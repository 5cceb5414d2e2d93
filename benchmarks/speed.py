"""How fast everything runs, how much memory it takes, and how near to the machine's own matrix products it comes.

    python -m benchmarks.speed                                  # every case; `make bench`
    python -m benchmarks.speed --only 'pretrain/*/batch-16/*'   # some
    python -m benchmarks.speed --compare benchmarks/results/speed-OTHER.json

Each case runs in a process of its own. Results are kept in benchmarks/results/speed-MACHINE.json, from which cases that were
not run are taken over; before it is written, the new figures are compared with those that were there. Seconds depend on the
machine and on what else it does: compare the ratios to the plain form, both of one run, and those to the reference's figures
(../shared/BASELINE.md, a machine of the same kind as the first here) only from an idle machine.
"""

import argparse
import fnmatch
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.cases import ROOT, all_cases
from benchmarks.harness import describe_machine, machine_slug, measure
from vqmae_hf.data.shards import write_json

RESULTS = ROOT / "benchmarks" / "results"
REGRESSION = 1.15  # times as slow or as large as before: more than the same case differs by on an idle machine
Results = dict[str, dict[str, Any]]


def measure_in_own_process(name: str, threads: int, seconds: float) -> dict[str, Any]:
    """What `measure` finds in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.speed", "--case", name]
    command += ["--threads", str(threads), "--seconds", str(seconds)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    if finished.returncode:
        raise RuntimeError(f"case {name} failed:\n{finished.stderr[-3000:]}")
    return json.loads(finished.stdout.splitlines()[-1])


def cells(result: dict[str, Any]) -> list[str]:
    """A row of the table: times, memory, arithmetic, ratios."""
    plain = result.get("times_faster_than_plain", {})
    reference = result.get("reference_seconds")
    return [
        f"{1e3 * result['median_seconds']:.1f}",
        f"{1e3 * result['processor_seconds']:.1f}",
        f"{result['peak_gigabytes']:.2f}",
        f"{100 * result['share_of_matmul_peak']:.0f}" if result["gflop"] else "",
        f"{plain['median_seconds']:.2f}" if plain else "",
        f"{plain['processor_seconds']:.2f}" if plain else "",
        f"{reference / result['median_seconds']:.2f}" if reference else "",
    ]


def print_results(console: Console, results: Results) -> None:
    """One row per case."""
    table = Table("case", *("ms", "cpu ms", "GB", "% of matmul"), *("x plain", "x plain, cpu", "x reference"))
    for name, result in results.items():
        table.add_row(name, *cells(result))
    console.print(table)
    console.print(
        "ms: median wall clock. cpu: of all threads, shortest. GB: peak above the process's base. % of matmul: arithmetic "
        "per second over this machine's own matrix product of that precision. x: times faster than the plain form (same "
        "run) and than the reference's fp32 figure of BASELINE.md."
    )


def regressions(before: Results, after: Results) -> list[str]:
    """Cases that are slower (by the median and by the processor) or take more memory than before, one sentence each."""
    found = []
    for name in sorted(set(before) & set(after)):
        old, new = before[name], after[name]
        slower = min(new[key] / old[key] for key in ("median_seconds", "processor_seconds"))
        if slower > REGRESSION:
            found.append(f"{name}: {slower:.2f} times as slow")
        larger = (new["peak_gigabytes"] + 0.05) / (old["peak_gigabytes"] + 0.05)
        if larger > REGRESSION:
            found.append(f"{name}: {larger:.2f} times the memory")
    return found


def print_comparison(console: Console, before: Results, after: Results) -> list[str]:
    """How many times faster each case became, and what got worse."""
    table = Table("case", "before, ms", "after, ms", "times faster", "before, GB", "after, GB")
    for name in [name for name in after if name in before]:
        old, new = before[name], after[name]
        times = [1e3 * result["median_seconds"] for result in (old, new)]
        memory = [result["peak_gigabytes"] for result in (old, new)]
        table.add_row(name, *(f"{t:.1f}" for t in times), f"{times[0] / times[1]:.2f}", *(f"{m:.2f}" for m in memory))
    console.print(table)
    worse = regressions(before, after)
    console.print("\n".join(["worse than before:", *worse]) if worse else "no case is worse than before.")
    return worse


def run_cases(names: list[str], threads: int, seconds: float, console: Console) -> Results:
    results: Results = {}
    for place, name in enumerate(names, 1):
        results[name] = measure_in_own_process(name, threads, seconds)
        console.print(f"{place}/{len(names)} {name}: {1e3 * results[name]['median_seconds']:.1f} ms", highlight=False)
    return results


def load_results(path: Path) -> Results:
    return json.loads(path.read_text(encoding="utf-8"))["cases"] if path.exists() else {}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["*"], help="patterns of the names of cases")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1), help="threads of torch")
    parser.add_argument("--seconds", type=float, default=8.0, help="time to spend on each case, in seconds")
    parser.add_argument("--compare", type=Path, help="results to compare with instead of this machine's last ones")
    parser.add_argument("--output", type=Path, help="file of the results; by default one of this machine")
    parser.add_argument("--fail-on-regression", action="store_true", help="exit with 1 where a case got worse")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # measure one case in this process, print JSON
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    cases, console = all_cases(), Console(width=140)  # whole names of cases, in a log too
    if arguments.case is not None:
        print(json.dumps(measure(cases[arguments.case], arguments.seconds)))
        return
    names = [name for name in cases if any(fnmatch.fnmatch(name, pattern) for pattern in arguments.only)]
    if not names:
        raise SystemExit(f"no case is called {' or '.join(arguments.only)}; there are:\n" + "\n".join(cases))
    machine = describe_machine(arguments.threads)
    output = arguments.output or RESULTS / f"speed-{machine_slug(machine)}.json"
    before = load_results(arguments.compare or output)
    after = run_cases(names, arguments.threads, arguments.seconds, console)
    print_results(console, after)
    worse = print_comparison(console, before, after) if before else []
    kept = {**load_results(output), **after}
    ordered = {name: kept[name] for name in cases if name in kept}
    write_json(output, {"machine": machine, "load": os.getloadavg(), "cases": ordered})
    if worse and arguments.fail_on_regression:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
