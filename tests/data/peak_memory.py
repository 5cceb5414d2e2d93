"""The most memory that a process held, of itself alone."""

import resource
import sys
from pathlib import Path


def peak_megabytes() -> float:
    """The most resident memory this process has held so far.

    On Linux `ru_maxrss` of a started process begins at what its parent held when it started it, which is another test's
    memory; the high-water mark of its own address space does not.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3
