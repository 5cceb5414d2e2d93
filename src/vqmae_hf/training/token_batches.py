"""What the masked autoencoder and the classifier train on: windows of a token store.

Every draw (copy, window, mask, dropped modality) depends on the seed, the epoch and the clips of the batch and on nothing
else, so that a resumed run equals an uninterrupted one and validation always asks the same.

Letters: B windows of a batch, T frames, S spectra, C codes per spectrum, G x G codes per frame.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset as TokenStore
from datasets import concatenate_datasets
from torch.utils.data import Dataset

from vqmae_hf.modeling.clip_windows import plan_windows
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.training.hidden_tubes import draw_hidden_tubes

Item = dict[str, Any]
# Tells the draw of a copy from that of a window, whose seed is otherwise the same.
COPY_DRAW = 1


class WindowCutter:
    """Cuts the window that a model takes out of the codes of a clip.

    Args:
        config: of the model; its window and code shapes.
        modalities: those that items hold; those that the model does not have are left out.
    """

    content = "codes"  # of the columns that windows are cut from

    def __init__(self, config: Any, modalities: Sequence[str]):
        self.config = config
        self.modalities = [name for name in modalities if name in config.modalities]

    @property
    def spectra_per_frame(self) -> int:
        """Spectra that belong to one frame; an audio-only model counts in spectra."""
        both = {"audio", "visual"} <= set(self.config.modalities)
        return self.config.audio_num_spectra // self.config.visual_num_frames if both else 1

    @property
    def window_frames(self) -> int:
        """Frames of a window; spectra, in an audio-only model."""
        return self.config.visual_num_frames if "visual" in self.config.modalities else self.config.audio_num_spectra

    def length(self, num_frames: np.ndarray | int, num_spectra: np.ndarray | int) -> np.ndarray:
        """Frames of clips, or, without pictures, those that their spectra (the last begun one included) would fill."""
        lengths = -(-np.asarray(num_spectra) // self.spectra_per_frame) if "audio" in self.modalities else np.int64(0)
        if "visual" in self.modalities:
            frames = np.asarray(num_frames)
            lengths = np.where(frames > 0, frames, lengths)
        return lengths

    def random_start(self, length: int, seed: Sequence[int]) -> int:
        """First frame of a window within a clip of `length` frames."""
        room = int(length) - self.window_frames
        return 0 if room <= 0 else int(np.random.default_rng(seed).integers(room + 1))

    def cut(self, clip: Mapping[str, Any], start: int) -> Item:
        """The window from frame `start` on of a clip's flat codes, None where it has none there; `label` if it has one."""
        columns = {name: f"{name}_{self.content}" for name in self.modalities}
        item: Item = {column: self._cut(name, clip[column], start) for name, column in columns.items()}
        return {**item, "label": clip["emotion"]} if "emotion" in clip else item

    def step_shape(self, modality: str) -> tuple[int, ...]:
        """Shape of what a clip has of one spectrum or one frame."""
        return codes_per_step(self.config, modality)

    def _cut(self, modality: str, values: np.ndarray, start: int) -> np.ndarray | None:
        per_frame = self.spectra_per_frame if modality == "audio" else 1
        window = values.reshape(-1, *self.step_shape(modality))[
            start * per_frame : (start + self.window_frames) * per_frame
        ]
        return window if len(window) else None


class TokenWindows(Dataset):
    """Windows of the model's length (2 s in VQ-MAE) cut from the clips of a token store.

    Items: `audio_codes` (S, C) and `visual_codes` (T, G, G), those that are asked for, views of the store's integers,
    shorter than the window where the clip is, and None where the clip lacks the modality; `label` (int, where the store
    has emotions); `visit` (epoch, item), the seed of whatever a collator draws; `training`, whether it may draw.

    Args:
        store: as of `load_token_store`; clips without any of the modalities are left out.
        config: of the model; its window and code shapes.
        modalities: those that items hold.
        windows: "random" draws one window per clip and epoch, for training; "all" yields every window, side by side,
            the last one ending with its clip.
        seed: of the draws.
        copies: as of `load_speed_copies`, for random windows: in each epoch one of a clip and its copies is drawn. Those
            of clips that are not in `store` are left out.

    Attributes:
        store: the rows that are used, in order, without copies.
        clip_index: (number of items,) the row of `store` that each item is cut from.
    """

    cutter_class: type[WindowCutter] = WindowCutter

    def __init__(
        self,
        store: TokenStore,
        config: Any,
        *,
        modalities: Sequence[str] = ("audio", "visual"),
        windows: Literal["random", "all"] = "random",
        seed: int = 0,
        copies: TokenStore | None = None,
    ):
        self.cutter = self.cutter_class(config, modalities)
        self.seed = seed
        self.epoch = 0
        lengths = self._lengths_of(store)
        present = np.flatnonzero(lengths)
        if not len(present):
            wanted = " and ".join(self.cutter.modalities)
            raise ValueError(f"no clip of the store has the {self.cutter.content} of {wanted} that the model takes.")
        self.store = store.select(present)
        self.lengths = lengths[present]
        self._rows = self.store.with_format("arrow")
        self._starts: np.ndarray | None = None
        self.clip_index = np.arange(len(present))
        self._row_lengths = self.lengths
        self._copy_places: np.ndarray | None = None
        if copies is not None:
            if windows == "all":
                raise ValueError(
                    'copies: found some beside windows="all", which asks of clips as they are; leave them out.'
                )
            self._add_copies(copies)
        if windows == "all":
            window = self.cutter.window_frames
            plan = plan_windows(self.lengths.tolist(), window, window)
            self.clip_index, self._starts = plan.clip_index.numpy(), plan.starts.numpy()

    def _lengths_of(self, store: TokenStore) -> np.ndarray:
        return self.cutter.length(np.asarray(store["num_frames"][:]), np.asarray(store["num_spectra"][:]))

    def _add_copies(self, copies: TokenStore) -> None:
        """Put the copies of clip i behind all clips, as rows `_copy_places[i]` to `_copy_places[i + 1]`."""
        clip_of = {clip_id: i for i, clip_id in enumerate(self.store["clip_id"][:])}
        owners = np.array([clip_of.get(clip_id, -1) for clip_id in copies["clip_id"][:]], dtype=np.int64)
        order = np.argsort(owners, kind="stable")[np.count_nonzero(owners < 0) :]
        copies = copies.select(order)
        self._rows = concatenate_datasets([self.store, copies]).with_format("arrow")
        self._row_lengths = np.concatenate([self.lengths, self._lengths_of(copies)])
        self._copy_places = len(self.store) + np.searchsorted(owners[order], np.arange(len(self.store) + 1))

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's draws."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.clip_index)

    def __getitem__(self, i: int) -> Item:
        return self.__getitems__([i])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Item]:
        """Items of a whole batch from one look-up in the store."""
        clips = self.clip_index[np.asarray(indices)].tolist()
        places = [self._draw_row(i, clip) for i, clip in zip(indices, clips, strict=True)]
        rows = self._rows[places]
        names = [f"{name}_{self.cutter.content}" for name in self.cutter.modalities]
        columns = {name: split_lists(rows[name]) for name in names}
        if "emotion" in rows.column_names:
            columns["emotion"] = rows["emotion"].to_pylist()
        items = []
        for at, (i, place) in enumerate(zip(indices, places, strict=True)):
            row = {name: values[at] for name, values in columns.items()}
            item = self.cutter.cut(row, self._start(i, place))
            items.append({**item, "visit": (self.epoch, int(i)), "training": self._starts is None})
        return items

    def _draw_row(self, i: int, clip: int) -> int:
        """The row that item i is cut from: its clip, or one of the clip's copies, each as often."""
        if self._copy_places is None:
            return clip
        first, end = self._copy_places[clip : clip + 2].tolist()
        draw = np.random.default_rng((self.seed, self.epoch, i, COPY_DRAW))
        return [clip, *range(first, end)][int(draw.integers(1 + end - first))]

    def _start(self, i: int, row: int) -> int:
        """First frame of item i."""
        if self._starts is not None:
            return int(self._starts[i])
        return self.cutter.random_start(self._row_lengths[row], (self.seed, self.epoch, i))


class CodeCollator:
    """Items of `TokenWindows` as model inputs.

    | key | shape | when |
    |---|---|---|
    | `audio_codes` | (B, S, C) int64, zeros where the mask is | items have the key |
    | `audio_attention_mask` | (B, S) int64, 1 real, 0 padding or missing | some clip does not fill the window |
    | `visual_codes` | (B, T, G, G) int64, zeros where the mask is | items have the key |
    | `visual_attention_mask` | (B, T) int64 | some clip does not fill the window |

    Full windows get no mask, which spares the attention one. A modality that every clip lacks is still there, all
    padding: in a distributed run every process must take part in the same exchanges.
    """

    def __init__(self, config: VQMAEConfig):
        self.config = config

    def __call__(self, items: list[Item]) -> dict[str, Any]:
        """The table above."""
        batch = {}
        for modality in _modalities(items):
            steps = self.config.audio_num_spectra if modality == "audio" else self.config.visual_num_frames
            codes = np.zeros((len(items), steps, *codes_per_step(self.config, modality)), dtype=np.int64)
            mask = np.zeros((len(items), steps), dtype=np.int64)
            for row, item in enumerate(items):
                window = item[f"{modality}_codes"]
                if window is not None:
                    codes[row, : len(window)] = window
                    mask[row, : len(window)] = 1
            batch[f"{modality}_codes"] = torch.from_numpy(codes)
            if not mask.all():
                batch[f"{modality}_attention_mask"] = torch.from_numpy(mask)
        return batch


class PretrainingCollator(CodeCollator):
    """Adds `generator`, from which the model draws the batch's masks: the same whenever the same batch comes again.

    It stands last, since accelerate reads the batch size off the first entry.
    """

    def __init__(self, config: VQMAEConfig, seed: int = 0):
        super().__init__(config)
        self.seed = seed

    def __call__(self, items: list[Item]) -> dict[str, Any]:
        draw = batch_generator(self.seed, items)
        generator = torch.Generator().manual_seed(int(draw.integers(2**63)))
        return {**super().__call__(items), "generator": generator}


class ClassificationCollator(CodeCollator):
    """Adds `labels` (B,) int64, and leaves things out of what is drawn for training.

    Args:
        config: of the model.
        modality_dropout: share of the batches that lack one of two modalities, each as often.
        time_masking: share of each clip's time steps of tubes whose attention mask becomes 0, per modality; one real
            step is always left.
        tube_masking: share of each clip's tubes that `audio_mask` and `visual_mask`, (B, L) bool, hide from the encoder;
            see `draw_hidden_tubes`.
        mixup_alpha: above 0, each clip of a training batch gets random tubes of another one, a share of
            1 - Beta(mixup_alpha, mixup_alpha), and `labels` are (B, C) float32 shares of the classes in what is visible.
        seed: of the draws.
    """

    def __init__(
        self,
        config: VQMAEConfig,
        *,
        modality_dropout: float = 0.0,
        time_masking: float = 0.0,
        tube_masking: float = 0.0,
        mixup_alpha: float = 0.0,
        seed: int = 0,
    ):
        super().__init__(config)
        self.modality_dropout = modality_dropout
        self.time_masking = time_masking
        self.tube_masking = tube_masking
        self.mixup_alpha = mixup_alpha
        self.seed = seed

    def __call__(self, items: list[Item]) -> dict[str, Any]:
        training = items[0]["training"]
        draw = batch_generator(self.seed, items)
        batch = super().__call__(self._drop_modality(items, draw) if training else items)
        if training and self.time_masking:
            for modality in _modalities(items):
                self._mask_times(batch, modality, draw)
        if training and self.tube_masking:
            for modality in _modalities(items):
                self._hide_tubes(batch, modality, draw)
        batch["labels"] = torch.tensor([item["label"] for item in items])
        if training and self.mixup_alpha:
            self._mix_tubes(batch, draw)
        return batch

    def _mix_tubes(self, batch: dict[str, torch.Tensor], draw: np.random.Generator) -> None:
        """Replace random tubes of each clip by those of another, where both have real ones; labels become shares."""
        B = len(batch["labels"])
        partner = torch.from_numpy(draw.permutation(B))
        kept_share = float(draw.beta(self.mixup_alpha, self.mixup_alpha))
        kept, real = torch.zeros(B), torch.zeros(B)
        for modality in ("audio", "visual"):
            codes = batch.get(f"{modality}_codes")
            if codes is None:
                continue
            keep = torch.from_numpy(draw.random(self._tube_grid(modality, B)) < kept_share)
            keep = self._over_codes(keep, modality)  # (B, steps, codes...)
            mask = batch.get(f"{modality}_attention_mask", torch.ones(codes.shape[:2], dtype=torch.long)).bool()
            both = (mask & mask[partner]).view(*mask.shape, *[1] * (codes.dim() - 2))
            keep = keep | ~both
            batch[f"{modality}_codes"] = torch.where(keep, codes, codes[partner])
            seen = self._visible_codes(batch, modality)
            # Every modality counts alike, however many codes it has.
            there = mask.any(dim=1).float()
            own, all_seen = ((part.flatten(2).float().mean(dim=2) * mask).sum(dim=1) for part in (keep & seen, seen))
            kept += there * own / torch.where(there > 0, all_seen, 1)
            real += there
        share = (kept / real.clamp(min=1)).unsqueeze(1)  # (B, 1)
        labels = torch.nn.functional.one_hot(batch["labels"], self.config.num_labels).float()
        batch["labels"] = share * labels + (1 - share) * labels[partner]

    def _visible_codes(self, batch: dict[str, torch.Tensor], modality: str) -> torch.Tensor:
        """Which codes lie in tubes that are not hidden: (B, steps, ...) bool."""
        hidden = batch.get(f"{modality}_mask")
        if hidden is None:
            return torch.ones_like(batch[f"{modality}_codes"], dtype=torch.bool)
        return self._over_codes(~hidden.view(self._tube_grid(modality, len(hidden))), modality)

    def _hide_tubes(self, batch: dict[str, torch.Tensor], modality: str, draw: np.random.Generator) -> None:
        codes = batch.get(f"{modality}_codes")
        if codes is None:
            return
        B, num_times, *places = self._tube_grid(modality, len(codes))
        mask = batch.get(f"{modality}_attention_mask", torch.ones(codes.shape[:2], dtype=torch.long))
        real_times = mask.view(B, num_times, -1).any(dim=2).numpy()
        real = real_times.repeat(prod(places), axis=1)  # (B, L), places running fastest
        batch[f"{modality}_mask"] = torch.from_numpy(draw_hidden_tubes(real, self.tube_masking, draw))

    def _tube_grid(self, modality: str, B: int) -> tuple[int, ...]:
        """Numbers of tubes along time and place."""
        size = self._tube_size(modality)
        steps = self.config.audio_num_spectra if modality == "audio" else self.config.visual_num_frames
        sides = (steps, *codes_per_step(self.config, modality))
        return (B, *(side // part for side, part in zip(sides, size, strict=True)))

    def _over_codes(self, tubes: torch.Tensor, modality: str) -> torch.Tensor:
        """A value per tube as a value per code: (B, steps of tubes, ...) -> (B, steps, ...)."""
        for axis, part in enumerate(self._tube_size(modality), start=1):
            tubes = tubes.repeat_interleave(part, dim=axis)
        return tubes

    def _tube_size(self, modality: str) -> tuple[int, ...]:
        return tuple(self.config.audio_tube_size if modality == "audio" else self.config.visual_tube_size)

    def _drop_modality(self, items: list[Item], draw: np.random.Generator) -> list[Item]:
        """Now and then, the items without one of their modalities; only where every clip has the other."""
        modalities = _modalities(items)
        kept = modalities[int(draw.integers(len(modalities)))]
        if draw.random() >= self.modality_dropout or any(item[f"{kept}_codes"] is None for item in items):
            return items
        dropped = {f"{name}_codes" for name in modalities} - {f"{kept}_codes"}
        return [{name: value for name, value in item.items() if name not in dropped} for item in items]

    def _mask_times(self, batch: dict[str, torch.Tensor], modality: str, draw: np.random.Generator) -> None:
        if f"{modality}_codes" not in batch:
            return
        name = f"{modality}_attention_mask"
        B, steps = batch[f"{modality}_codes"].shape[:2]
        mask = batch.get(name, torch.ones(B, steps, dtype=torch.long))
        tube_steps = self._tube_size(modality)[0]
        noise = draw.random((B, steps // tube_steps))
        keep = noise >= self.time_masking
        # The first tube of a clip is always real; it may not be the only one that is left out.
        real = mask[:, ::tube_steps].numpy() == 1
        noise[~real] = -1
        keep |= noise == noise.max(axis=1, keepdims=True)
        batch[name] = mask * torch.from_numpy(keep.repeat(tube_steps, axis=1).astype(np.int64))


def batch_generator(seed: int, items: list[Item]) -> np.random.Generator:
    """The generator of a batch: no clip comes twice in an epoch, so the first item tells the batch from all others."""
    return np.random.default_rng((seed, *items[0]["visit"]))


def _modalities(items: list[Item]) -> list[str]:
    return [name for name in ("audio", "visual") if f"{name}_codes" in items[0]]


def codes_per_step(config: VQMAEConfig, modality: str) -> tuple[int, ...]:
    """Shape of the codes of one spectrum, (C,), or of one frame, (G, G)."""
    if modality == "audio":
        return (config.audio_codes_per_spectrum,)
    return (config.visual_codes_per_side,) * 2


def split_lists(column: Any) -> list[np.ndarray]:
    """A pyarrow list column as views of its numbers."""
    return [row.values.to_numpy() for row in column]
