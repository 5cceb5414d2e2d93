"""What every benchmark shares: timing programs in turns, the peak memory of a fresh process, the machine's own matrix
products, and results that are kept per machine.

A *case* is measured in a process of its own (`measure`), so that its peak memory is its own. Where a case has a *plain*
form, the equations as they stand, both take turns in one run, so that whatever else the machine does meets both.
"""

import gc
import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_backward_flop_count, sdpa_flop_count

Program = Callable[[], Any]
PLAIN_SHARE = 0.5  # the plain form runs half as often: it is slow


@dataclass
class Work:
    """What a case runs: `run` once is what is timed; `plain`, if any, computes the same."""

    run: Program
    plain: Program | None = None


@register_flop_formula(torch.ops.mkldnn._linear_pointwise)
def onednn_linear_flop(inputs: torch.Size, weight: torch.Size, *_: Any, **__: Any) -> int:
    """Arithmetic of `modeling/linear_products.py`, which torch does not count."""
    return 2 * inputs.numel() * weight[0]


class CountedFlops(TorchDispatchMode):
    """Arithmetic of matrix products, convolutions and attention, in FLOP.

    torch's `FlopCounterMode` does not know the attention of CPUs, and follows modules in a way that fails where a model
    switches gradients on and off.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._overloadpacket.__name__
        if func._overloadpacket not in flop_registry and "flash_attention_for_cpu" not in name:
            with self:  # what is made of other operations is counted as these
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        result = func(*args, **kwargs)
        if name == "_scaled_dot_product_flash_attention_for_cpu":
            self.total += sdpa_flop_count(*(x.shape for x in args[:3]))
        elif name == "_scaled_dot_product_flash_attention_for_cpu_backward":
            self.total += sdpa_backward_flop_count(*(x.shape for x in args[:4]))
        elif func._overloadpacket in flop_registry:
            self.total += flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
        return result


@dataclass(frozen=True)
class Case:
    """One benchmark.

    Args:
        build: makes the work, models and inputs included.
        bfloat16: whether the arithmetic is meant to be in bfloat16, for the comparison with the machine's products.
        reference_seconds: of the authors' implementation at the same sizes, from ../shared/BASELINE.md, where there is one:
            another machine of the same kind, in fp32.
        reference_gigabytes: its peak memory above the base, likewise.
    """

    build: Callable[[], Work]
    bfloat16: bool = False
    reference_seconds: float | None = None
    reference_gigabytes: float | None = None


def peak_gigabytes() -> float:
    """Largest resident memory this process has had so far; of the GPU's, where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e9
    raise OSError("/proc/self/status has no VmHWM; peak memory is measured on Linux.")


def run_once(program: Program) -> tuple[float, float]:
    """Wall-clock seconds, and processor seconds of all threads."""
    _synchronize()
    start, processor_start = time.perf_counter(), time.process_time()
    program()
    _synchronize()
    return time.perf_counter() - start, time.process_time() - processor_start


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def summarize(runs: list[tuple[float, float]]) -> dict[str, float]:
    """Median and shortest wall clock, shortest processor time, in seconds."""
    wall, processor = zip(*runs, strict=True)
    return {
        "median_seconds": statistics.median(wall),
        "shortest_seconds": min(wall),
        "processor_seconds": min(processor),
    }


def measure(case: Case, seconds: float) -> dict[str, Any]:
    """Time, memory and arithmetic of a case; runs it for about `seconds` (three times at least, after two to warm up)."""
    products = {name: matmul_gflops(dtype) for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    work = case.build()
    gc.collect()
    base = peak_gigabytes()
    run_once(work.run)
    once = run_once(work.run)[0]
    repeats = max(3, min(100, int(seconds / once)))
    runs = [run_once(work.run) for _ in range(repeats)]
    result: dict[str, Any] = {**summarize(runs), "repeats": repeats, "peak_gigabytes": peak_gigabytes() - base}
    with CountedFlops() as counted:
        work.run()
    result["gflop"] = counted.total / 1e9
    # The peak is the machine's of today, not the processor's on paper.
    peak = max(products["bf16" if case.bfloat16 else "fp32"], 1e-9)
    result["share_of_matmul_peak"] = result["gflop"] / result["median_seconds"] / peak
    if work.plain is not None:
        result.update(take_turns(work, repeats))
        result["plain_peak_gigabytes"] = peak_gigabytes() - base
    if case.reference_seconds is not None:
        result["reference_seconds"] = case.reference_seconds
    if case.reference_gigabytes is not None:
        result["reference_gigabytes"] = case.reference_gigabytes
    return {**result, "matmul_gflops": products, "base_gigabytes": base}


def take_turns(work: Work, repeats: int) -> dict[str, Any]:
    """Both forms one after the other, again and again; how many times faster ours is, by the median and by the processor."""
    assert work.plain is not None
    run_once(work.plain)
    ours, plain = [], []
    for _ in range(max(3, int(PLAIN_SHARE * repeats))):
        ours.append(run_once(work.run))
        plain.append(run_once(work.plain))
    ours_summary, plain_summary = summarize(ours), summarize(plain)
    ratios = {name: plain_summary[name] / ours_summary[name] for name in ours_summary}
    return {"plain": plain_summary, "times_faster_than_plain": ratios}


def matmul_gflops(dtype: torch.dtype, size: int = 2048, repeats: int = 5) -> float:
    """The best rate at which this machine multiplies square matrices, in GFLOP/s."""
    size = 4 * size if torch.cuda.is_available() else size
    device = "cuda" if torch.cuda.is_available() else "cpu"
    first, second = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    seconds = min(run_once(lambda: first @ second)[0] for _ in range(repeats))
    return 2 * size**3 / seconds / 1e9


def describe_machine(threads: int) -> dict[str, Any]:
    """What a result depends on besides the code."""
    name = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpu_info.read_text(encoding="utf-8"))
        name = found.group(1).strip() if found else name
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    return {
        "name": name,
        "cores": os.cpu_count(),
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def machine_slug(machine: dict[str, Any]) -> str:
    """The machine as a part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", f"{machine['name']} {machine['threads']} threads".lower()).strip("-")
