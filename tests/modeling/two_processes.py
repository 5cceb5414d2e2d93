"""
Functions that run in two gloo processes. The processes import this module and what their function needs, not the test
module and not all of `vqmae_hf`, which would take most of their time.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing

WORLD_SIZE = 2


def run_in_two_processes(job: Callable[[int], Any], folder: Path) -> list[Any]:
    """`job(rank)` of both processes; `job` is a function of this module, its result anything that torch can save."""
    multiprocessing.spawn(_process, args=(job, str(folder)), nprocs=WORLD_SIZE)
    return [torch.load(folder / f"result_{rank}.pt", weights_only=True) for rank in range(WORLD_SIZE)]


def _process(rank: int, job: Callable[[int], Any], folder: str) -> None:
    torch.set_num_threads(1)
    _import_files_alone()
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORLD_SIZE)
    torch.save({"world_size": dist.get_world_size(), "result": job(rank)}, f"{folder}/result_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    # Without the interpreter's own end, in which a thread of gloo's once aborted a process on a busy machine.
    os._exit(0)


def _import_files_alone() -> None:
    """Makes `vqmae_hf` importable file by file, without running its `__init__`, which imports all of transformers."""
    package = ModuleType("vqmae_hf")
    package.__path__ = [str(Path(__file__).resolve().parents[2] / "src" / "vqmae_hf")]
    sys.modules["vqmae_hf"] = package


# ---- quantizer ----


def quantizer_batches() -> list[list[torch.Tensor]]:
    """Latents (rows, d) of each step and, therein, of each process, of which one has fewer."""
    latents = torch.randn(4, 47, 3, generator=torch.Generator().manual_seed(1))
    return [list(step.split([30, 17])) for step in latents]


def seeded_quantizer(dead_code_threshold: float = 0.0) -> Any:
    from vqmae_hf.modeling.vector_quantizer import VectorQuantizer

    torch.manual_seed(0)
    return VectorQuantizer(12, 3, ema_decay=0.5, dead_code_threshold=dead_code_threshold)


def train_quantizers(rank: int) -> dict[str, dict[str, torch.Tensor]]:
    """The state of a plain and of a reviving quantizer after this process's half of every batch."""
    states = {}
    for name, threshold in (("plain", 0.0), ("reviving", 0.5)):
        quantizer = seeded_quantizer(threshold)
        torch.manual_seed(100 + rank)  # processes draw different numbers; their codebooks must agree all the same
        for batch in quantizer_batches():
            quantizer(batch[rank])
        states[name] = dict(quantizer.state_dict())
    return states


# ---- contrastive loss ----


def contrastive_clips() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Global vectors (visual and audio, clips, D) and which clips are real (clips,), by process; one has more of both."""
    vectors = torch.randn(2, 7, 6, generator=torch.Generator().manual_seed(2))
    real = torch.tensor([True, True, False, True, True, False, False])
    return list(vectors.split([4, 3], dim=1)), list(real.split([4, 3]))


def contrast_clips(rank: int) -> dict[str, torch.Tensor]:
    """Loss and gradients of this process's clips, as DistributedDataParallel would see them, with and without a mask."""
    from vqmae_hf.modeling.losses import info_nce

    all_vectors, all_real = contrastive_clips()
    results = {}
    for name, real in (("all", None), ("real", all_real[rank])):
        vectors = all_vectors[rank].clone().requires_grad_()
        loss = info_nce(vectors[0], vectors[1], 0.5, real)
        loss.backward()
        results[f"{name}_loss"], results[f"{name}_gradient"] = loss.detach(), vectors.grad
    return results


# ---- batch normalisation, shares, draws ----


def spectrum_rows() -> list[torch.Tensor]:
    """Rows (R, h, length) of each process."""
    return list(torch.randn(9, 4, 5, generator=torch.Generator().manual_seed(3)).split([5, 4]))


def normalize_rows(rank: int) -> dict[str, torch.Tensor]:
    """Normalised rows of this process, the gradient that comes back to them, and the running statistics."""
    from vqmae_hf.modeling.modeling_audio_vqvae import SpectrumBatchNorm

    norm = SpectrumBatchNorm(4)
    rows = spectrum_rows()[rank].requires_grad_()
    normalized = norm(rows, torch.nn.Identity(), "batch", None)
    (normalized.pow(3).sum() * WORLD_SIZE).backward()  # the average over the processes is the sum over all rows
    return {
        "normalized": normalized.detach(),
        "gradient": rows.grad / WORLD_SIZE,
        "mean": norm.running_mean,
        "var": norm.running_var,
    }


def share_a_batch(rank: int) -> dict[str, torch.Tensor]:
    """Shares of counts, and the rows of a draw."""
    from vqmae_hf.modeling.across_processes import BatchRowsGenerator, batch_share, draw_rows

    generator = BatchRowsGenerator(start=3 * rank, num_rows=5)
    generator.manual_seed(7)
    return {
        "shares": batch_share(torch.tensor([[3, 2], [4, 0]][rank]), torch.device("cpu")),
        "nobody": batch_share(0, torch.device("cpu")),
        "draw": draw_rows(torch.randn, (3 - rank, 4), generator, "cpu"),
    }
