"""A function over many items in processes of their own: results in order, a few items under way, no item takes all down.

Media libraries can do worse than raise: a hostile file may crash the process that opens it or keep it busy for ever. What
happens to one item is then the outcome of that item alone, and a new process takes over the next.
"""

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from multiprocessing import forkserver, get_all_start_methods, get_context
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

import cv2
import torch
from pebble import ProcessExpired, ProcessFuture, ProcessPool

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

UNDER_WAY_PER_PROCESS = 4
# What every process needs and takes seconds to import: one server imports it, and the processes are forked from that.
PRELOADED = ["vqmae_hf.data.tokenization"]

_function: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class WorkerLoss:
    """An item whose process died or ran out of time; `reason` is for people."""

    reason: str


def map_in_order(
    function: Callable[[Item], Outcome],
    items: Iterable[Item],
    num_processes: int,
    *,
    seconds_per_item: float | None = None,
) -> Iterator[Outcome | WorkerLoss]:
    """Apply a function to items, by `num_processes` new processes, or in this one where it is 1.

    Args:
        function: picklable; sent to each process once. What it raises is raised here, and ends the iteration.
        items: picklable; taken as they are needed, `UNDER_WAY_PER_PROCESS` per process ahead.
        num_processes: they take some seconds to start and compute on one thread each. With 1 there is neither a time
            limit nor protection against crashes.
        seconds_per_item: an item that takes longer is given up, its process killed; None waits for ever.

    Yields:
        One outcome per item, in the order of the items; `WorkerLoss` for items whose process was lost.
    """
    if num_processes == 1:
        yield from map(function, items)
        return
    # Plain pickling: multiprocessing would send the tensors of a model as shared memory, whose handles new processes refuse.
    initargs = (pickle.dumps(function),)
    pool = ProcessPool(num_processes, context=_process_context(), initializer=_begin, initargs=initargs)
    under_way: deque[ProcessFuture] = deque()
    try:
        for item in items:
            under_way.append(pool.schedule(_work, args=(item,), timeout=seconds_per_item))
            if len(under_way) >= UNDER_WAY_PER_PROCESS * num_processes:
                yield _outcome(under_way.popleft(), seconds_per_item)
        while under_way:
            yield _outcome(under_way.popleft(), seconds_per_item)
        pool.close()
    finally:
        # After an error, and when whoever iterates stops early, what is still under way is of no use.
        pool.stop()
        pool.join()


def prepare_to_start(num_processes: int) -> None:
    """Have the imports of later processes begin now, beside whatever else is to be done before `map_in_order`."""
    if num_processes > 1 and _process_context().get_start_method() == "forkserver":
        forkserver.ensure_running()


def _process_context() -> BaseContext:
    """How processes are made: by a server without threads of its own where there is one. Forking this one is unsafe."""
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _begin(function: bytes) -> None:
    """Unpickle the function of this process, and compute on one thread: the processes share the cores already."""
    global _function
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    _function = pickle.loads(function)


def _work(item: Any) -> Any:
    return _function(item)


def _outcome(future: ProcessFuture, seconds_per_item: float | None) -> Any:
    try:
        return future.result()
    except FutureTimeoutError:
        return WorkerLoss(f"gave up after {seconds_per_item:g} seconds")
    except ProcessExpired as error:
        return WorkerLoss(f"the process that worked on it died (exit code {error.exitcode})")
