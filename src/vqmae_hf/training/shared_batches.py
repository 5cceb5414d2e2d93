"""The batches of a training in several processes: those that one process would have seen, each dealt to all.

Accelerate deals other batches than one process would have: it fills up the last one of an epoch with clips that were there
before. Here every process knows the whole batch, takes its part, and draws (masks, noise, what is mixed) as the whole batch
says. With the losses of `modeling`, whose means are over the clips of all processes, any number of processes trains
the same model.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import Dataset, default_collate

from vqmae_hf.modeling.across_processes import BatchRowsGenerator
from vqmae_hf.training.token_batches import ClassificationCollator, Item


class BatchPart(NamedTuple):
    """Items of a batch, and which of its rows this process takes: `start` to `stop` of `num_rows`."""

    items: list[Item]
    start: int
    stop: int
    num_rows: int
    visit: Any  # of the first item of the whole batch, which its draws depend on


class SharedBatches(Dataset):
    """What a loader of whole batches reads from in each of several processes.

    Parts differ by one clip at most. Where a batch has fewer clips than there are processes, some come twice.

    Args:
        data: the training data.
        collator: items -> batch; None: torch's own.
        rank, num_ranks: this process among those that train together.
    """

    def __init__(self, data: Any, collator: Callable | None, rank: int, num_ranks: int):
        self.data = data
        self.collator = default_collate if collator is None else collator
        self.rank = rank
        self.num_ranks = num_ranks
        # Its draws mix clips or look at all of them; the others' look at the first alone.
        self.whole = isinstance(collator, ClassificationCollator)

    def __len__(self) -> int:
        return len(self.data)

    def __getitems__(self, indices: Sequence[int]) -> BatchPart:
        """This process's part of the batch of these indices."""
        num_rows = len(indices)
        start = self.rank * num_rows // self.num_ranks
        stop = max(start + 1, (self.rank + 1) * num_rows // self.num_ranks)
        items = self._fetch(indices if self.whole else indices[start:stop])
        visit = self._fetch(indices[:1])[0]["visit"] if "visit" in items[0] else None
        return BatchPart(items, start, stop, num_rows, visit)

    def collate(self, part: BatchPart) -> dict[str, Any]:
        """The inputs of a model for the rows of this process."""
        if self.whole:
            batch = self.collator(part.items)
            rows = slice(part.start, part.stop)
            return {name: value[rows] if isinstance(value, torch.Tensor) else value for name, value in batch.items()}
        first, *others = part.items
        batch = self.collator([first if part.visit is None else {**first, "visit": part.visit}, *others])
        if isinstance(batch.get("generator"), torch.Generator):
            generator = BatchRowsGenerator(part.start, part.num_rows)
            generator.set_state(batch["generator"].get_state())
            batch["generator"] = generator
        return batch

    def _fetch(self, indices: Sequence[int]) -> list[Item]:
        if hasattr(self.data, "__getitems__"):
            return self.data.__getitems__(indices)
        return [self.data[i] for i in indices]
