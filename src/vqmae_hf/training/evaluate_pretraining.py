"""What pre-training learned, on unseen speakers:

python -m vqmae_hf.training.evaluate_pretraining --model runs/pretrained --token_store tokens --output_dir runs/masked

Cross-entropy and accuracy of masked codes beside baselines, and what seeing gains from hearing and hearing from seeing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset as TokenStore
from tqdm import tqdm

from vqmae_hf.data.shards import write_json
from vqmae_hf.data.token_store import check_token_store, load_token_store, read_token_store_info
from vqmae_hf.evaluation.code_baselines import CopyBaseline, FrequencyBaseline, count_codes, tube_positions
from vqmae_hf.evaluation.masked_prediction import (
    Baseline,
    WindowBatch,
    fixed_mask,
    gain_of_other_modality,
    score_masked_codes,
)
from vqmae_hf.evaluation.masked_prediction_chart import draw_masked_prediction
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining
from vqmae_hf.training.arguments import SplitArguments
from vqmae_hf.training.assembly import inner_tokenizers
from vqmae_hf.training.evaluation_arguments import (
    EvaluatePretrainingArguments,
    check_same_split,
    evaluated_part,
)
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.token_batches import CodeCollator, TokenWindows, codes_per_step, split_lists
from vqmae_hf.training.tokenize_corpus import encoding_device

RESULTS_NAME = "masked_prediction.json"
CHART_NAME = "masked_prediction.png"


def run(args: EvaluatePretrainingArguments) -> dict[str, Any]:
    """Evaluate a `VQMAEForPreTraining`, and write `masked_prediction.json` and `.png` to the output folder.

    Returns:
        What is in the file: `masked`, by modality and masked share, the scores of "model", "unigram",
        "position_unigram" and "copy_nearest" (with its fitted weights); `gain`, by modality to predict, as of
        `gain_of_other_modality`, for a model and a store of both; the part, the speakers and the split.
    """
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    check_same_split(args.model, args, "token_store")
    model = VQMAEForPreTraining.from_pretrained(args.model).eval().to(encoding_device(args.use_cpu))
    expected = {f"{name}_tokenizer": tokenizer for name, tokenizer in inner_tokenizers(model).items()}
    check_token_store(args.token_store, **expected)
    store = load_token_store(args.token_store)
    part, training = evaluated_part(store, args, args.part), evaluated_part(store, args, "train")
    info = read_token_store_info(args.token_store)
    modalities = [name for name in model.config.modalities if getattr(info, name) is not None]
    results: dict[str, Any] = {
        "model": args.model,
        "token_store": args.token_store,
        "part": args.part,
        "speakers": sorted(set(part["speaker"])),
        "split": {field.name: getattr(args, field.name) for field in fields(SplitArguments)},
        "mask_seed": args.mask_seed,
        "masked": {name: evaluate_masked_codes(model, part, training, name, args) for name in modalities},
    }
    if len(modalities) == 2:
        results["gain"] = evaluate_gains(model, part, args)
    write_json(folder / RESULTS_NAME, results)
    draw_masked_prediction(results).savefig(folder / CHART_NAME, dpi=150)
    return results


def evaluate_masked_codes(
    model: VQMAEForPreTraining,
    part: TokenStore,
    training: TokenStore,
    modality: str,
    args: EvaluatePretrainingArguments,
) -> dict[str, dict[str, Any]]:
    """By masked share: the scores of the model and the baselines on the masked codes of one modality."""
    config, device = model.config, model.device
    batches = EvaluationWindows(part, config, args.batch_size, device)
    fitting = EvaluationWindows(training, config, args.batch_size, device, at_most=args.baseline_windows)
    positions = tube_positions(config, modality)
    counts = count_codes(
        stored_codes(training, modality),
        int(np.prod(codes_per_step(config, modality))),
        getattr(config, f"{modality}_codebook_size"),
    )
    frequencies: dict[str, Baseline] = {
        "unigram": FrequencyBaseline.unigram(counts, positions),
        "position_unigram": (background := FrequencyBaseline.positional(counts, positions)),
    }
    by_ratio: dict[str, dict[str, Any]] = {}
    for ratio in tqdm(args.mask_ratios, desc=f"masked {modality} codes"):
        copying = fit_copying(model, background, fitting, modality, ratio, args.mask_seed)
        baselines = {**frequencies, "copy_nearest": copying}
        tables = score_masked_codes(model, batches, modality, ratio, baselines=baselines, seed=args.mask_seed)
        by_ratio[str(ratio)] = {name: table.summary() for name, table in tables.items()}
        by_ratio[str(ratio)]["copy_nearest"].update(weight=copying.weight, space_weight=copying.space_weight)
    return by_ratio


def fit_copying(
    model: VQMAEForPreTraining,
    background: FrequencyBaseline,
    batches: "EvaluationWindows",
    modality: str,
    ratio: float,
    seed: int,
) -> CopyBaseline:
    """The copying baseline for a masked share, fitted on windows of the training speakers."""

    def masked_windows() -> Iterator[tuple]:
        for batch in batches:
            tubes = model.model.prepare_tubes(**batch.inputs)[modality]
            yield tubes, fixed_mask(tubes, ratio, batch.windows, seed)

    return CopyBaseline.fit(background, masked_windows())


def evaluate_gains(
    model: VQMAEForPreTraining, part: TokenStore, args: EvaluatePretrainingArguments
) -> dict[str, dict[str, Any]]:
    """By modality to predict: the gain of the other one, on clips that have both; clips by their names."""
    lengths = np.asarray(part["num_frames"][:]), np.asarray(part["num_spectra"][:])
    both = part.select(np.flatnonzero((lengths[0] > 0) & (lengths[1] > 0)))
    if not len(both):
        raise ValueError(f"no clip of part={args.part!r} has sound and pictures; evaluate a model of one modality.")
    batches = EvaluationWindows(both, model.config, args.batch_size, model.device, stranger_seed=args.mask_seed)
    names, speakers = batches.data.store["clip_id"][:], dict(enumerate(batches.data.store["speaker"][:]))
    gains = {}
    for modality in tqdm(("visual", "audio"), desc="gain of the other modality"):
        gain = gain_of_other_modality(model, batches, modality, args.gain_mask_ratio, speakers, seed=args.mask_seed)
        gain["clips"] = [
            {"clip_id": names[row["clip"]], "speaker": speakers[row.pop("clip")], **row} for row in gain["clips"]
        ]
        gains[modality] = gain
    return gains


class EvaluationWindows:
    """All windows of the clips of a token store, in batches, as often as they are iterated.

    Args:
        store: as of `load_token_store`.
        config: of the model.
        batch_size: windows at a time.
        device: of the inputs.
        at_most: windows, evenly spread; None: all.
        stranger_seed: pairs each clip with another, for the strangers of `WindowBatch`; None: there are none.
    """

    def __init__(
        self,
        store: TokenStore,
        config: VQMAEConfig,
        batch_size: int,
        device: torch.device,
        *,
        at_most: int | None = None,
        stranger_seed: int | None = None,
    ):
        self.data = TokenWindows(store, config, windows="all")
        self.collate = CodeCollator(config)
        self.batch_size = batch_size
        self.device = device
        count = len(self.data) if at_most is None else min(at_most, len(self.data))
        self.windows = np.linspace(0, len(self.data) - 1, count).round().astype(int).tolist()
        self.stranger_of = None if stranger_seed is None else self._pair(stranger_seed)

    def __iter__(self) -> Iterator[WindowBatch]:
        for start in range(0, len(self.windows), self.batch_size):
            windows = self.windows[start : start + self.batch_size]
            clips = self.data.clip_index[windows]
            strangers = {} if self.stranger_of is None else self._inputs(self.stranger_of[clips].tolist())
            yield WindowBatch(self._inputs(windows), windows, clips.tolist(), strangers)

    def _inputs(self, windows: list[int]) -> dict[str, torch.Tensor]:
        inputs = self.collate(self.data.__getitems__(windows))
        return {name: values.to(self.device) for name, values in inputs.items()}

    def _pair(self, seed: int) -> np.ndarray:
        """The first window of another clip for each clip: of the next one in a random circle.

        Raises:
            ValueError: there is no other clip.
        """
        count = len(self.data.store)
        if count < 2:
            raise ValueError("one clip has no stranger to be compared with; evaluate more clips.")
        circle = np.random.default_rng(seed).permutation(count)
        stranger = np.empty(count, dtype=int)
        stranger[circle] = np.roll(circle, -1)
        first_window = np.unique(self.data.clip_index, return_index=True)[1]
        return first_window[stranger]


def stored_codes(store: TokenStore, modality: str, clips_at_once: int = 256) -> Iterator[np.ndarray]:
    """The flat codes of each clip."""
    for rows in store.with_format("arrow").iter(clips_at_once):
        yield from split_lists(rows[f"{modality}_codes"])


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    results = run(parse_arguments(EvaluatePretrainingArguments, argv))
    for modality, by_ratio in results["masked"].items():
        for ratio, predictors in by_ratio.items():
            for name, scores in predictors.items():
                print(
                    f"{modality}, {ratio} masked, {name}: {scores['cross_entropy']:.3f} nats, "
                    f"top-1 {scores['top1']:.1%}, top-5 {scores['top5']:.1%}"
                )
    for modality, gain in results.get("gain", {}).items():
        for context, values in gain["gain_over"].items():
            print(f"{modality}, gain over {context}: {values['mean']:.4f} nats, 95 % interval {values['interval']}")


if __name__ == "__main__":
    main()
