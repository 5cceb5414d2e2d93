"""Windows of a token store that is larger than the disk: read shard by shard, from any address, by many readers."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset as TokenStore
from pyarrow import parquet
from torch.utils.data import IterableDataset, get_worker_info

from vqmae_hf.data.token_store import read_token_store_info, shard_addresses
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.training.token_batches import Item, WindowCutter, split_lists


class StreamedTokenWindows(IterableDataset):
    """Random windows of the clips of a token store, without end, without a copy on disk.

    Items are those of `TokenWindows`. Every epoch deals the shards anew to the readers (the workers of all ranks), and
    each reader mixes the clips of a few shards at a time. Where it is in an epoch, and what it draws, depends on the seed
    and its place among the readers alone: `state_dict` of a dataset in its worker (as torchdata's `StatefulDataLoader`
    asks for it) is three numbers, and a loader that is resumed by skipping batches yields what it would have.

    Args:
        folder: of the store, local or any address that fsspec opens.
        config: of the model; its window and code shapes.
        modalities: those that items hold; clips without any of them are left out.
        speakers: whose clips to read; None: everyone's.
        seed: of the deal, the mixing and the draws.
        shards_at_once: shards of which a reader mixes the clips; their codes are in its memory.
        rank, num_ranks: this process among those that train together.

    Raises:
        ValueError: a store with copies at other speeds; fewer shards than readers (when iterated).
        FileNotFoundError, IncompleteStoreError: no store there, or not a whole one.
    """

    def __init__(
        self,
        folder: str,
        config: VQMAEConfig,
        *,
        modalities: Sequence[str] = ("audio", "visual"),
        speakers: Collection[str] | None = None,
        seed: int = 0,
        shards_at_once: int = 4,
        rank: int = 0,
        num_ranks: int = 1,
    ):
        self.shards = streamed_addresses(folder)
        self.cutter = WindowCutter(config, modalities)
        self.speakers = speakers
        self.seed = seed
        self.shards_at_once = shards_at_once
        self.rank = rank
        self.num_ranks = num_ranks
        # Where this reader is: its epoch, the first of the shards at hand, how many of their clips it has yielded.
        self.epoch, self.group, self.offset = 0, 0, 0

    def set_epoch(self, epoch: int) -> None:
        """A loop's epochs are none of the stream's, which counts its own."""

    def state_dict(self) -> dict[str, int]:
        """Where this reader is."""
        return {"epoch": self.epoch, "group": self.group, "offset": self.offset}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there at the next `iter`."""
        self.epoch, self.group, self.offset = state["epoch"], state["group"], state["offset"]

    def __iter__(self) -> Iterator[Item]:
        reader, num_readers = self._place()
        while True:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.shards))[reader::num_readers]
            while self.group < len(order):
                yield from self._mixed(order[self.group : self.group + self.shards_at_once])
                self.group, self.offset = self.group + self.shards_at_once, 0
            self.epoch, self.group = self.epoch + 1, 0

    def _place(self) -> tuple[int, int]:
        """This reader's number among all readers."""
        worker = get_worker_info()
        number, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        num_readers = self.num_ranks * workers
        if num_readers > len(self.shards):
            raise ValueError(
                f"{len(self.shards)} shards cannot be dealt to {num_readers} readers ({self.num_ranks} processes with "
                f"{workers} loader workers each); use fewer workers, or tokenize with fewer clips_per_shard."
            )
        return self.rank * workers + number, num_readers

    def _mixed(self, shards: Sequence[int]) -> Iterator[Item]:
        """Windows of the clips of some shards in random order, from `offset` on."""
        clips = [clip for shard in shards for clip in self._clips(int(shard))]
        order = np.random.default_rng((self.seed, self.epoch, int(shards[0]))).permutation(len(clips))
        for place in order[self.offset :]:
            self.offset += 1
            shard, row, clip = clips[place]
            visit = (self.epoch, shard, row)
            length = int(self.cutter.length(clip["num_frames"], clip["num_spectra"]))
            start = self.cutter.random_start(length, (self.seed, *visit))
            yield {**self.cutter.cut(clip, start), "visit": visit, "training": True}

    def _clips(self, shard: int) -> Iterator[tuple[int, int, dict[str, Any]]]:
        """(shard, row, columns) of the clips of a shard that are wanted; codes are views of its memory."""
        table, rows = read_shard(self.shards[shard], self.cutter.modalities, self.speakers)
        columns = {name: table[name].to_pylist() for name in table.column_names if not name.endswith("_codes")}
        codes = {f"{name}_codes": split_lists(table[f"{name}_codes"]) for name in self.cutter.modalities}
        for i, row in enumerate(rows.tolist()):
            clip = {name: values[i] for name, values in {**columns, **codes}.items()}
            if self.cutter.length(clip["num_frames"], clip["num_spectra"]):
                yield shard, row, clip


def streamed_addresses(folder: str) -> list[str]:
    """Addresses of the shards of a store that can be streamed.

    Raises:
        ValueError: it holds copies at other speeds, of which a stream would take each for a clip.
    """
    speeds = read_token_store_info(folder).speed_factors
    if len(speeds) > 1:
        raise ValueError(
            f"{folder} holds copies of its clips at the speeds {list(speeds)}, which cannot be streamed; train without "
            "--stream, or tokenize the corpus without speed_factors."
        )
    return shard_addresses(folder)


def read_shard(
    address: str, modalities: Sequence[str], speakers: Collection[str] | None = None
) -> tuple[pa.Table, np.ndarray]:
    """What training needs of a shard.

    Args:
        address: of the Parquet file, any that fsspec opens.
        modalities: whose codes to read.
        speakers: whose clips to keep; None: everyone's.

    Returns:
        The columns of lengths, codes, and speaker and emotion where there are any, of the clips that are kept; and the
        numbers of their rows in the shard.
    """
    names = ["speaker", "emotion", "num_frames", "num_spectra", *(f"{name}_codes" for name in modalities)]
    with fsspec.open(address, "rb") as file:
        source = parquet.ParquetFile(file)
        table = source.read([name for name in names if name in source.schema_arrow.names], use_threads=False)
    rows = np.arange(len(table))
    if speakers is not None:
        rows = np.flatnonzero(pc.is_in(table["speaker"], pa.array(sorted(speakers))).to_numpy())
        table = table.take(rows)
    return table, rows


def read_some_clips(folder: str, speakers: Collection[str], modalities: Sequence[str], at_most: int) -> TokenStore:
    """The first clips of some speakers, in memory, in the order of the store: what a streaming run validates on."""
    tables, found = [], 0
    for address in streamed_addresses(folder):
        table, _ = read_shard(address, modalities, speakers)
        tables.append(table[: at_most - found])
        found += len(tables[-1])
        if found >= at_most:
            break
    return TokenStore(pa.concat_tables(tables))
