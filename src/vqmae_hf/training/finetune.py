"""Fine-tune a VQ-MAE to name emotions: `python -m vqmae_hf.training.finetune --pretrained ... --token_store ...`

The epoch is chosen on the validation speakers, or, with `train_on_validation`, they are trained on too and the last epoch is
taken; the test speakers are asked once, at the end, for `results.json`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, concatenate_datasets
from torch.nn import functional as F
from transformers import EarlyStoppingCallback, set_seed

from vqmae_hf.data.shards import write_json
from vqmae_hf.data.speaker_deals import labelled_speakers
from vqmae_hf.data.splits import select_speakers
from vqmae_hf.data.token_store import check_token_store, load_speed_copies, load_token_store, read_token_store_info
from vqmae_hf.evaluation.clip_reports import clip_report
from vqmae_hf.evaluation.metrics import make_compute_metrics, pool_windows
from vqmae_hf.modeling.across_processes import batch_share
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.losses import asymmetric_single_label_loss
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEModel
from vqmae_hf.training.arguments import FinetuneArguments
from vqmae_hf.training.assembly import build_vqmae, inner_tokenizers, load_tokenizers, processor_for_store
from vqmae_hf.training.optimizers import make_optimizer
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.stage_trainer import StageTrainer
from vqmae_hf.training.stages import StageResult, run_stage, split_speakers_of
from vqmae_hf.training.token_batches import ClassificationCollator, TokenWindows
from vqmae_hf.training.transfer import add_lora, freeze_layers

RESULTS_NAME = "results.json"


@dataclass
class FinetuneResult(StageResult):
    """A `StageResult` with `results`, the content of `results.json`; see `report_test`."""

    results: dict[str, Any]


def run(args: FinetuneArguments) -> FinetuneResult:
    """Train a `VQMAEForAudioVisualClassification`, choose its epoch, report on test speakers, save it for the pipeline."""
    set_seed(args.seed)
    store = load_token_store(args.token_store)
    class_names = emotion_names(store, args.token_store)
    model = build_classifier(args, class_names)
    expected = {f"{name}_tokenizer": tokenizer for name, tokenizer in inner_tokenizers(model).items()}
    check_token_store(args.token_store, **expected)
    parts = split_speakers_of(store, args)
    if args.train_on_validation:
        parts["train"] = concatenate_datasets([parts["train"], parts["validation"]])
        parts["validation"] = parts["validation"].select([])
    if args.labelled_speakers:
        parts["train"] = keep_speakers(parts["train"], args.labelled_speakers, args.split_seed)
    parts["train"] = keep_labels(parts["train"], args.label_share, args.seed)
    copies = load_speed_copies(args.token_store)
    train_data = TokenWindows(parts["train"], model.config, modalities=args.modalities, seed=args.seed, copies=copies)
    validation_data = None
    if not args.train_on_validation:
        validation_data = TokenWindows(parts["validation"], model.config, modalities=args.modalities, windows="all")
    freeze_layers(model, args.frozen_layers)
    merge_lora = add_lora(model, args.lora_rank) if args.lora_rank else None
    trainer, result = run_stage(
        args,
        model,
        processor_for_store(model.config, read_token_store_info(args.token_store)),
        train_data=train_data,
        validation_data=validation_data,
        collator=ClassificationCollator(
            model.config,
            modality_dropout=args.modality_dropout,
            time_masking=args.time_masking,
            tube_masking=args.tube_masking,
            mixup_alpha=args.mixup_alpha,
            seed=args.seed,
        ),
        callbacks=[EarlyStoppingCallback(args.early_stopping_patience)] if args.early_stopping_patience else [],
        after_training=merge_lora,
        optimizers=(make_optimizer(model, args, layer_decay=args.layer_decay, muon=args.muon), None),
        compute_metrics=None if validation_data is None else make_compute_metrics(validation_data.clip_index),
        loss_function=choose_loss(args, model, train_data.store["emotion"][:]),
    )
    results = report_test(trainer, parts, args.modalities, class_names)
    if trainer.is_world_process_zero():
        write_json(Path(args.output_dir) / RESULTS_NAME, results)
    return FinetuneResult(**vars(result), results=results)


def keep_speakers(clips: Dataset, number: int, seed: int) -> Dataset:
    """The clips of the speakers that `labelled_speakers` draws; rows keep their order.

    Raises:
        ValueError: fewer speakers than that.
    """
    return select_speakers(clips, {"labelled": labelled_speakers(clips["speaker"][:], number, seed)})["labelled"]


def keep_labels(clips: Dataset, share: float, seed: int) -> Dataset:
    """A share of the clips of each class, at least one, drawn by the seed; rows keep their order."""
    if share == 1:
        return clips
    emotions, draw = np.asarray(clips["emotion"]), np.random.default_rng(seed)
    kept = []
    for emotion in np.unique(emotions):
        rows = np.flatnonzero(emotions == emotion)
        kept.extend(draw.choice(rows, max(1, round(share * len(rows))), replace=False).tolist())
    return clips.select(sorted(kept))


def emotion_names(store: Dataset, folder: str) -> list[str]:
    """Class names of the store's emotions.

    Raises:
        ValueError: the store has none.
    """
    feature = store.features.get("emotion")
    if not isinstance(feature, ClassLabel):
        raise ValueError(
            f"{folder} has no emotions (its columns: {store.column_names}); tokenize a corpus whose loader gives a "
            "column emotion."
        )
    return feature.names


def build_classifier(args: FinetuneArguments, class_names: Sequence[str]) -> VQMAEForAudioVisualClassification:
    """The classifier on a pre-trained encoder, or from scratch.

    Raises:
        ValueError: a modality to train on that the model does not have, or sizes that do not fit.
    """
    fields: dict[str, Any] = {
        **(args.model_overrides or {}),
        "id2label": dict(enumerate(class_names)),
        "label2id": {name: i for i, name in enumerate(class_names)},
    }
    for name in ("classifier_pooling", "classifier_loss"):
        if getattr(args, name) is not None:
            fields[name] = getattr(args, name)
    if args.pretrained is not None:
        model = load_pretrained(args.pretrained, **fields)
    else:
        tokenizers = load_tokenizers(args.audio_tokenizer, args.visual_tokenizer)
        model = build_vqmae(VQMAEForAudioVisualClassification, args.model_preset, tokenizers, **fields)
    absent = sorted(set(args.modalities) - set(model.config.modalities))
    if absent:
        raise ValueError(
            f"modalities={args.modalities}: the model has {list(model.config.modalities)} and no {absent}."
        )
    return model


def load_pretrained(pretrained: str, **fields: Any) -> VQMAEForAudioVisualClassification:
    """A classifier on the encoder of a checkpoint; what a checkpoint knew of other classes than these is forgotten."""
    model_class = VQMAEForAudioVisualClassification
    before = VQMAEConfig.from_pretrained(pretrained)
    if model_class.__name__ not in (before.architectures or []) or before.id2label == fields["id2label"]:
        return model_class.from_pretrained(pretrained, **fields)
    model = model_class(VQMAEConfig.from_pretrained(pretrained, **fields))
    model.model.load_state_dict(VQMAEModel.from_pretrained(pretrained, **fields).state_dict())
    return model


def choose_loss(
    args: FinetuneArguments, model: VQMAEForAudioVisualClassification, labels: Sequence[int]
) -> Callable[[Any, dict[str, Any]], torch.Tensor] | None:
    """None for the model's own loss; the same with a weight per class where classes shall count alike."""
    if args.class_weights == "none":
        return None
    counts = np.bincount(labels, minlength=model.config.num_labels)
    weights = torch.tensor(len(labels) / (model.config.num_labels * np.maximum(counts, 1)), dtype=torch.float32)
    return ClassWeightedLoss(model.config.classifier_loss, weights.to(args.device))


class ClassWeightedLoss:
    """The classifier's loss as a weighted mean over the batch (in training, that of all processes): clip i counts
    `weights[labels[i]]`.

    Args:
        name: "asymmetric" or "cross_entropy".
        weights: (C,).
    """

    def __init__(self, name: str, weights: torch.Tensor):
        self.name = name
        self.weights = weights

    def __call__(self, outputs: Any, inputs: dict[str, Any]) -> torch.Tensor:
        logits, labels = outputs["logits"].float(), inputs["labels"]
        weights = labels @ self.weights if labels.is_floating_point() else self.weights[labels]
        share = batch_share(weights.sum(), weights.device) if logits.requires_grad else 1.0
        if self.name == "cross_entropy" and not labels.is_floating_point():
            return share * F.cross_entropy(logits, labels, self.weights)
        # The loss is a mean over clips; over batches of one clip each, it is the loss of every clip.
        loss = F.cross_entropy if self.name == "cross_entropy" else asymmetric_single_label_loss
        losses = torch.vmap(loss)(logits.unsqueeze(1), labels.unsqueeze(1))
        return share * (losses * weights).sum() / weights.sum()


def report_test(
    trainer: StageTrainer, parts: DatasetDict, modalities: Sequence[str], class_names: Sequence[str]
) -> dict[str, Any]:
    """Ask the test speakers, with all modalities and, where there are two, with each alone.

    Returns:
        `classes`, `chance` (accuracy of guessing), `speakers` of the three parts, `best_validation` (value of the metric
        that chose the epoch, None where none was chosen), and `test`: by modalities ("audio+visual", "audio", "visual")
        `metrics`, `confusion_matrix` (rows: true classes) and `predictions` of each clip (`clip_id`, `speaker`, `emotion`,
        `predicted`, `probabilities` in the order of `classes`).
    """
    subsets = [list(modalities), *([[name] for name in modalities] if len(modalities) > 1 else [])]
    return {
        "classes": list(class_names),
        "chance": 1 / len(class_names),
        "speakers": {name: sorted(set(part["speaker"])) for name, part in parts.items()},
        "best_validation": trainer.state.best_metric,
        "test": {"+".join(subset): _ask(trainer, parts["test"], subset) for subset in subsets},
    }


def _ask(trainer: StageTrainer, test: Dataset, modalities: Sequence[str]) -> dict[str, Any]:
    data = TokenWindows(test, trainer.model.config, modalities=modalities, windows="all")
    trainer.compute_metrics = None  # that one pools the validation windows
    logits = trainer.predict(data).predictions
    return clip_report(data.store, pool_windows(logits, data.clip_index))


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    result = run(parse_arguments(FinetuneArguments, argv))
    for modalities, report in result.results["test"].items():
        scores = "  ".join(f"{name} {value:.3f}" for name, value in report["metrics"].items())
        print(f"test speakers, {modalities}: {scores}  (chance {result.results['chance']:.3f})")


if __name__ == "__main__":
    main()
