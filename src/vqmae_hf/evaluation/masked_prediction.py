"""How well a masked autoencoder predicts hidden codes, and what one modality gains from the other ([AV], coupled masking).

Every mask is drawn from a seed and the number of its window alone, so that all models, baselines and conditions are asked
the same, whatever the batches.

Letters: B windows, L tubes, P codes per tube, K codes, M clips.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import torch
from scipy import stats

from vqmae_hf.evaluation.code_baselines import CodeScores, masked_codes
from vqmae_hf.modeling.masking import random_masking
from vqmae_hf.modeling.tube_inputs import TubeInputs

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95

# What is there of the other modality while one is predicted: the rest (masking ratios that sum to 1, as in coupled masking),
# all, all of another clip, its place but no content, nothing.
Context = Literal["coupled", "visible", "stranger", "hidden", "absent"]
GAIN_CONTEXTS: tuple[Context, ...] = ("visible", "stranger", "hidden", "absent")


class WindowBatch(NamedTuple):
    """Windows to ask about."""

    inputs: dict[str, torch.Tensor]  # codes and attention masks, as the model takes them
    windows: list[int]  # number of each window: its masks depend on it
    clips: list[int]  # clip that each window is cut from
    strangers: dict[str, torch.Tensor]  # inputs of a window of another clip for each; empty where not needed


class Baseline(Protocol):
    """Anything that predicts masked codes without a model."""

    def score(self, tubes: TubeInputs, mask: torch.Tensor) -> CodeScores:
        """Scores of the masked codes: `mask` (B, L) bool, True = masked."""


class ScoreTable:
    """Scores of many windows, to be summed over clips.

    Attributes:
        clips: (M,) the clips that have a masked code, sorted.
        sums: (M, 4) codes, cross-entropy, first guesses and first five guesses that were right.
    """

    def __init__(self, scores: Sequence[CodeScores], clips: Sequence[int]):
        values = torch.cat([torch.stack(batch, dim=1) for batch in scores]).numpy()
        found, place = np.unique(np.asarray(clips), return_inverse=True)
        sums = np.zeros((len(found), values.shape[1]))
        np.add.at(sums, place, values)
        asked = sums[:, 0] > 0
        self.clips, self.sums = found[asked], sums[asked]

    def summary(self) -> dict[str, float]:
        """`cross_entropy` (nats), `top1`, `top5`: means over all masked codes; `codes` and `clips`: how many."""
        codes, *totals = self.sums.sum(axis=0)
        means = dict(zip(("cross_entropy", "top1", "top5"), (float(total / codes) for total in totals), strict=True))
        return {**means, "codes": int(codes), "clips": len(self.clips)}

    @property
    def clip_cross_entropy(self) -> np.ndarray:
        """(M,) mean over the masked codes of each clip, in nats."""
        return self.sums[:, 1] / self.sums[:, 0]


def fixed_mask(tubes: TubeInputs, ratio: float, windows: Sequence[int], seed: int) -> torch.Tensor:
    """A random mask (B, L) of each window, drawn from `(seed, window)` alone; what a lower ratio masks, a higher one
    masks too. At least one real tube stays visible."""
    masks = []
    for row, window in enumerate(windows):
        state = np.random.SeedSequence((seed, window)).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
        real = None if tubes.real is None else tubes.real[row : row + 1].cpu()
        masks.append(random_masking(1, tubes.grid, ratio, real=real, generator=generator).mask)
    return torch.cat(masks).to(tubes.codes.device)


@torch.no_grad()
def predict_hidden_tubes(
    model: torch.nn.Module,
    batch: WindowBatch,
    modality: str,
    ratio: float,
    context: Context = "coupled",
    seed: int = 0,
) -> tuple[TubeInputs, torch.Tensor, torch.Tensor]:
    """Hide tubes of one modality and let the model predict them.

    Args:
        model: a `VQMAEForPreTraining` in evaluation mode.
        batch: windows, on the model's device.
        modality: to predict, "audio" or "visual".
        ratio: masked share of its tubes.
        context: what is there of the other modality, see `Context`; a model of one modality has none.
        seed: of the masks.

    Returns:
        The tubes of the modality, their mask (B, L), and logits (B, L, P, K).
    """
    other = {"audio": "visual", "visual": "audio"}[modality]
    inputs = dict(batch.inputs)
    if other not in model.config.modalities or context == "absent":
        inputs = {name: value for name, value in inputs.items() if not name.startswith(other)}
    elif context == "stranger":
        own = {name: value for name, value in inputs.items() if name.startswith(modality)}
        inputs = {**own, **{name: value for name, value in batch.strangers.items() if name.startswith(other)}}
    tubes = model.model.prepare_tubes(**inputs)
    masks = {modality: fixed_mask(tubes[modality], ratio, batch.windows, seed)}
    if other in tubes:
        masks[other] = _other_mask(tubes[other], context, 1 - ratio, batch.windows, seed + 1)
    named = {f"{name}_mask": mask for name, mask in masks.items()}
    output = model(**inputs, **named, output_logits=True, return_loss=False)
    return tubes[modality], masks[modality], output[f"{modality}_logits"]


def _other_mask(
    tubes: TubeInputs, context: Context, coupled_ratio: float, windows: Sequence[int], seed: int
) -> torch.Tensor:
    """Mask (B, L) of the modality that is not asked about."""
    if context == "coupled":
        return fixed_mask(tubes, coupled_ratio, windows, seed)
    hide = context == "hidden"
    return torch.full(tubes.codes.shape[:2], hide, dtype=torch.bool, device=tubes.codes.device)


def score_logits(logits: torch.Tensor, tubes: TubeInputs, mask: torch.Tensor) -> CodeScores:
    """Scores of a model's `logits` (B, L, P, K) at the masked codes; `mask` (B, L). A tie is no right guess."""
    counted, targets = masked_codes(tubes, mask), tubes.targets.clamp(min=0)
    scores = []
    for row in range(
        len(logits)
    ):  # a window at a time: a batch of logits in float32 may be all that there is room for
        values = logits[row].float()
        true = values.gather(2, targets[row].unsqueeze(2))
        log_probability = true.squeeze(2) - values.logsumexp(dim=2)
        rank = (values >= true).sum(dim=2) - 1
        scores.append(CodeScores.of(log_probability[None], rank[None], counted[row : row + 1]))
    return CodeScores(*(torch.cat(parts) for parts in zip(*scores, strict=True)))


def score_masked_codes(
    model: torch.nn.Module,
    batches: Iterable[WindowBatch],
    modality: str,
    ratio: float,
    *,
    baselines: Mapping[str, Baseline] | None = None,
    context: Context = "coupled",
    seed: int = 0,
) -> dict[str, ScoreTable]:
    """The model, as "model", and baselines on the same masked codes of the same windows.

    Args:
        model: a `VQMAEForPreTraining` in evaluation mode.
        batches: windows, on the model's device.
        modality, ratio, context, seed: see `predict_hidden_tubes`.
        baselines: by name.

    Raises:
        ValueError: no window has the modality.
    """
    scores: dict[str, list[CodeScores]] = {name: [] for name in ("model", *(baselines or {}))}
    clips: list[int] = []
    for batch in batches:
        tubes, mask, logits = predict_hidden_tubes(model, batch, modality, ratio, context, seed)
        scores["model"].append(score_logits(logits, tubes, mask))
        for name, baseline in (baselines or {}).items():
            scores[name].append(baseline.score(tubes, mask))
        clips += batch.clips
    if not any(batch.codes.any() for batch in scores["model"]):
        raise ValueError(f"no clip has {modality} codes to predict; evaluate other speakers or another token store.")
    return {name: ScoreTable(found, clips) for name, found in scores.items()}


def gain_of_other_modality(
    model: torch.nn.Module,
    batches: Iterable[WindowBatch],
    modality: str,
    ratio: float,
    speakers: Mapping[int, str],
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """What predicting one modality gains from seeing, or hearing, all of the other.

    Args:
        model: a `VQMAEForPreTraining` of both modalities, in evaluation mode.
        batches: windows of clips that have both, with strangers; iterated once per context.
        modality: to predict.
        ratio: masked share of its tubes.
        speakers: of the clips.
        seed: of the masks and the bootstrap.

    Returns:
        `contexts`: the scores with the other modality "visible", of a "stranger" (another clip), "hidden" (all masked)
        and "absent" (not given). `gain_over`: for the last three, `paired_gain` of "visible". `clips`: the cross-entropy of
        each clip by context.
    """
    tables = {
        context: score_masked_codes(model, batches, modality, ratio, context=context, seed=seed)["model"]
        for context in GAIN_CONTEXTS
    }
    clips = tables["visible"].clips
    names = [speakers[int(clip)] for clip in clips]
    per_clip = {context: table.clip_cross_entropy for context, table in tables.items()}
    return {
        "masked_share": ratio,
        "contexts": {context: table.summary() for context, table in tables.items()},
        "gain_over": {
            context: paired_gain(per_clip[context], per_clip["visible"], names, seed=seed)
            for context in GAIN_CONTEXTS[1:]
        },
        "clips": [
            {"clip": int(clip), **{context: float(values[row]) for context, values in per_clip.items()}}
            for row, clip in enumerate(clips)
        ],
    }


def paired_gain(without: np.ndarray, with_it: np.ndarray, speakers: Sequence[str], *, seed: int = 0) -> dict[str, Any]:
    """How much lower a cross-entropy is with something than without it.

    Args:
        without, with_it: (M,) of the same clips, in nats.
        speakers: of each clip.
        seed: of the bootstrap.

    Returns:
        `mean` over clips of the difference; `interval`: its 95 % bootstrap interval, clips drawn with replacement;
        `speaker_mean` and `speaker_interval`: the same over the means of speakers, which is what the finding holds for
        where clips of a speaker resemble each other; `share`: clips that gain. An interval of one value is None.
    """
    gain = np.asarray(without) - np.asarray(with_it)
    names = np.asarray(speakers)
    by_speaker = np.array([gain[names == name].mean() for name in np.unique(names)])
    return {
        "mean": float(gain.mean()),
        "interval": _interval_of_mean(gain, seed),
        "speaker_mean": float(by_speaker.mean()),
        "speaker_interval": _interval_of_mean(by_speaker, seed),
        "share": float((gain > 0).mean()),
        "clips": len(gain),
        "speakers": len(by_speaker),
    }


def _interval_of_mean(values: np.ndarray, seed: int) -> list[float] | None:
    """Percentile bootstrap interval of the mean of (M,) values."""
    if len(values) < 2:
        return None
    result = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=NUM_RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    return [float(result.confidence_interval.low), float(result.confidence_interval.high)]
