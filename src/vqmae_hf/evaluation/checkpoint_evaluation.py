"""How right a published classifier is on somebody's clips: one call, from clips to metrics, failures and a picture.

Letters: W windows of one clip, S spectra, T frames, C classes.
"""

import difflib
import os
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import ClassLabel, Dataset
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_fscore_support
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForVideoClassification, AutoProcessor, PreTrainedModel

from vqmae_hf.data.corpora import load_corpus
from vqmae_hf.data.corpora.hub import load_hub_corpus
from vqmae_hf.data.corpora.tree import VIDEO_SUFFIXES, walk_files
from vqmae_hf.data.shards import write_json
from vqmae_hf.data.token_store import KIND as TOKEN_STORE
from vqmae_hf.data.token_store import check_token_store, load_token_store
from vqmae_hf.evaluation.clip_reports import clip_report
from vqmae_hf.evaluation.confusion_chart import draw_evaluation
from vqmae_hf.modeling.clip_windows import gather_windows, plan_windows
from vqmae_hf.modeling.modeling_mdvae import MDVAEForAudioVisualClassification
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification
from vqmae_hf.modeling.pipeline_audiovisual_classification import SCORE_FUNCTIONS, AudioVisualClassificationPipeline
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor

RESULTS_NAME, PICTURE_NAME = "evaluation.json", "evaluation.png"
CODE_COLUMNS = ("audio_codes", "visual_codes")
# Names under which datasets keep what is called `emotion` here.
LABEL_COLUMNS = ("emotion", "label", "labels")


class LabelMismatchError(ValueError):
    """Labels of clips that the model does not have; the message says how to map them."""


@dataclass(frozen=True)
class Evaluation:
    """
    What `evaluate_checkpoint` found.

    Attributes:
        results: what `evaluation.json` holds: `checkpoint`, `clips`, `classes` (the model's), `num_clips` evaluated,
            `metrics` (accuracy = WAR, uar, macro_f1, weighted_f1), `per_class` (`recall`, `precision`, `f1`, `num_clips`),
            `majority_accuracy` (of naming the commonest class always), `confusion_matrix` (rows: true classes),
            `predictions` of each clip, `failed` (`clip_id`, `reason`), `left_out` (label -> clips without one of the
            model's).
        figure: confusion matrix, and recall per class.
        output_dir: where both were written, or None.
    """

    results: dict[str, Any]
    figure: Figure
    output_dir: Path | None

    @property
    def metrics(self) -> dict[str, float]:
        """Of the clips that were evaluated."""
        return self.results["metrics"]


def evaluate_checkpoint(
    checkpoint: PreTrainedModel | str | os.PathLike,
    clips: Dataset | str | os.PathLike,
    *,
    output_dir: str | os.PathLike | None = None,
    label_map: Mapping[str, str | None] | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    processor: Any = None,
    batch_size: int = 8,
    device: str | torch.device | None = None,
    progress: bool = True,
    **clip_options: Any,
) -> Evaluation:
    """
    Ask a classifier about every clip, and compare with the labels.

    Args:
        checkpoint: a classifier, or a folder or name of one.
        clips: a folder of clips (in folders named after their label, or with `metadata.csv`), a token store, a
            `datasets.Dataset` with labels and video, audio or codes, or the name of one on the Hub.
        output_dir: for `evaluation.json` and `evaluation.png`; existing ones are replaced.
        label_map: label of the clips -> label of the model, where names differ; None leaves such clips out.
        columns: names of the columns that play the parts `video`, `audio`, `emotion`, `speaker`, `clip_id`; `label` is
            taken for `emotion` where there is no other.
        split: of a dataset that has several.
        processor: of a model that comes as an object, where the standard one of its configuration does not fit.
        batch_size: windows of a clip that pass the model together.
        device: for the model; where it is, or the CPU, by default.
        progress: whether to show a bar.
        **clip_options: for opening clips, such as `on_missing_face="center"`, see `vqmae_hf.data.clips.load_clip`.

    Raises:
        LabelMismatchError: labels that the model does not have and `label_map` does not mention.
        StaleStoreError: codes of other tokenizers than the model's.
        ValueError: no classifier, no labels, nothing to evaluate, or every clip failed. A clip that cannot be opened never
            stops the evaluation: it is listed under `failed`.
    """
    model = load_classifier(checkpoint).eval()
    model = model if device is None else model.to(device)
    data = open_labelled_clips(clips, model, columns, split)
    known, left_out = match_labels(data, model, label_map)
    if is_codes(data):
        ask = code_predictor(model, batch_size)
    else:
        ask = clip_predictor(model, processor or processor_of(checkpoint, model), batch_size, clip_options)
    rows, probabilities, failed = [], [], []
    with torch.inference_mode():
        for row in tqdm(range(len(known)), desc="clips", disable=not progress):
            clip = known[row]
            try:
                probabilities.append(ask(clip))
                rows.append(row)
            except (ValueError, OSError) as error:
                failed.append({"clip_id": clip["clip_id"], "reason": str(error)})
    if not rows:
        raise ValueError(
            f"none of {len(known)} clips could be evaluated; the first failed with: {failed[0]['reason']}"
        )
    evaluated = known.select(rows)
    results = {
        "checkpoint": _name(checkpoint),
        "clips": _name(clips),
        "classes": evaluated.features["emotion"].names,
        "num_clips": len(rows),
        **summarize(evaluated, np.stack(probabilities)),
        "failed": failed,
        "left_out": left_out,
    }
    return _keep(results, output_dir)


def summarize(clips: Dataset, probabilities: np.ndarray) -> dict[str, Any]:
    """The report of clips (N,) and probabilities (N, C), with the scores of every class that occurs."""
    report = clip_report(clips, probabilities)
    names, labels = clips.features["emotion"].names, np.asarray(clips["emotion"][:])
    scores = precision_recall_fscore_support(
        labels, probabilities.argmax(axis=1), labels=np.arange(len(names)), zero_division=0
    )
    per_class = {
        name: {"recall": float(recall), "precision": float(precision), "f1": float(f1), "num_clips": int(count)}
        for name, precision, recall, f1, count in zip(names, *scores, strict=True)
        if count
    }
    majority = float(np.bincount(labels).max() / len(labels))
    return {"metrics": report.pop("metrics"), "per_class": per_class, "majority_accuracy": majority, **report}


def load_classifier(checkpoint: PreTrainedModel | str | os.PathLike) -> Any:
    """
    A classifier of single labels, of whatever stands for it.

    Raises:
        ValueError: another model. Its weights would be loaded without complaint, below a head of random numbers.
    """
    if isinstance(checkpoint, PreTrainedModel):
        model, found = checkpoint, type(checkpoint).__name__
    else:
        found = ", ".join(AutoConfig.from_pretrained(checkpoint).architectures or ["no model"])
        model = None
    if not found.endswith("ForAudioVisualClassification"):
        raise ValueError(
            f"checkpoint={_name(checkpoint)} is {found}; VQMAEForAudioVisualClassification and "
            "MDVAEForAudioVisualClassification can be evaluated. Fine-tune it first: vqmae-hf train finetune."
        )
    model = AutoModelForVideoClassification.from_pretrained(checkpoint) if model is None else model
    if model.config.problem_type in ("regression", "multi_label_classification"):
        raise ValueError(
            f"checkpoint={_name(checkpoint)} has problem_type={model.config.problem_type!r}; models that choose one label "
            "can be evaluated."
        )
    return model


def processor_of(checkpoint: Any, model: Any) -> Any:
    """The processor saved with a checkpoint, or the one that fits the configuration of a model."""
    if not isinstance(checkpoint, PreTrainedModel):
        return AutoProcessor.from_pretrained(checkpoint)
    is_mdvae = isinstance(model, MDVAEForAudioVisualClassification)
    return (MDVAEProcessor if is_mdvae else VQMAEProcessor).from_model_config(model.config)


# ---- clips and their labels ----


def is_codes(data: Dataset) -> bool:
    """Whether rows hold codes instead of media."""
    return any(name in data.column_names for name in CODE_COLUMNS)


def open_labelled_clips(
    clips: Dataset | str | os.PathLike, model: Any, columns: Mapping[str, str] | None, split: str | None
) -> Dataset:
    """Clips of any accepted kind, with `clip_id`, `speaker`, `emotion` (`ClassLabel`), and their media or codes."""
    if isinstance(clips, Dataset):
        data = clips if is_codes(clips) else load_hub_corpus(clips, columns=_with_label(clips, columns), split=split)
    elif (Path(clips) / f"{TOKEN_STORE}.json").is_file():
        base = model.base_model
        tokenizers = {f"{m}_tokenizer": getattr(base, f"{m}_tokenizer") for m in ("audio", "visual")}
        check_token_store(str(clips), **tokenizers)
        data = load_token_store(str(clips))
    elif Path(clips).is_dir() and not _is_dataset_folder(Path(clips)):
        files = walk_files(Path(clips))
        kind = "videofolder" if any(Path(f).suffix.lower() in VIDEO_SUFFIXES for f in files) else "audiofolder"
        data = load_corpus(kind, clips, columns=columns)
    else:
        data = load_hub_corpus(str(clips), columns=columns, split=split)
    if not isinstance(data.features.get("emotion"), ClassLabel):
        raise ValueError(
            f"clips={_name(clips)} have no labels (columns: {data.column_names}). Put clips into folders named after their "
            'label, or name the column of labels: columns={"emotion": "..."}.'
        )
    return data


def _is_dataset_folder(folder: Path) -> bool:
    """Whether a folder holds a dataset in files, not clips."""
    return any(folder.glob("*.parquet")) or any(folder.glob("*.arrow")) or (folder / "dataset_dict.json").is_file()


def _with_label(data: Dataset, columns: Mapping[str, str] | None) -> dict[str, str]:
    """`columns`, with the one that datasets use to call `label` for `emotion` where nothing else is said."""
    columns = dict(columns or {})
    found = next((name for name in LABEL_COLUMNS if name in data.column_names), None)
    if "emotion" not in columns and found is not None:
        columns["emotion"] = found
    return columns


def match_labels(
    data: Dataset, model: Any, label_map: Mapping[str, str | None] | None
) -> tuple[Dataset, dict[str, int]]:
    """
    The clips whose label the model has, numbered as the model does, and how many were left out, by label.

    Names are compared without regard to case and spaces around them.

    Raises:
        LabelMismatchError: a label that neither is the model's nor mapped, or mapped to what the model does not have.
    """
    classes = [model.config.id2label[number] for number in range(model.config.num_labels)]
    number_of = {_plain(name): number for number, name in enumerate(classes)}
    given = data.features["emotion"].names
    mapping = {_plain(name): target for name, target in (label_map or {}).items()}
    present = Counter(given[label] for label in data["emotion"][:])
    numbers: dict[str, int | None] = {}
    problems = []
    for name in present:
        target = mapping.get(_plain(name), name)
        numbers[name] = None if target is None else number_of.get(_plain(target))
        if target is not None and numbers[name] is None:
            problems.append((name, target))
    if problems:
        raise LabelMismatchError(_describe_mismatch(problems, present, classes))
    kept = [row for row, label in enumerate(data["emotion"][:]) if numbers[given[label]] is not None]
    if not kept:
        raise ValueError(f"all {len(data)} clips are left out by label_map={dict(label_map or {})}.")
    chosen = data.select(kept)
    labels = [numbers[given[label]] for label in chosen["emotion"][:]]
    chosen = chosen.remove_columns("emotion").add_column("emotion", labels, feature=ClassLabel(names=classes))
    return chosen, {name: count for name, count in present.items() if numbers[name] is None}


def _describe_mismatch(problems: list[tuple[str, str]], present: Counter, classes: list[str]) -> str:
    suggestions: dict[str, str | None] = {}
    for name, target in problems:
        near = difflib.get_close_matches(_plain(target), [_plain(c) for c in classes], n=1, cutoff=0.5)
        suggestions[name] = next((c for c in classes if near and _plain(c) == near[0]), None)
    found = ", ".join(f"{name!r} ({present[name]} clips)" for name, _ in problems)
    named = "" if classes[0] != "LABEL_0" else " It was saved without names: set id2label in its configuration."
    return (
        f"the model has no label {found}; it has {classes}.{named} Say which of its labels they are, or None to leave such "
        f"clips out: label_map={suggestions}."
    )


def _plain(name: str) -> str:
    return str(name).strip().casefold()


# ---- answers ----

Predictor = Callable[[Mapping[str, Any]], np.ndarray]  # a row -> probabilities (C,)


def clip_predictor(model: Any, processor: Any, batch_size: int, clip_options: Mapping[str, Any]) -> Predictor:
    """Probabilities of a row with `video`, `audio` or both, by the pipeline that users call."""
    classify = AudioVisualClassificationPipeline(model=model, processor=processor, device=model.device)
    number_of = {name: number for number, name in model.config.id2label.items()}

    def predict(clip: Mapping[str, Any]) -> np.ndarray:
        media = {name: clip[name] for name in ("video", "audio") if clip.get(name) is not None}
        if not media:
            raise ValueError("the row has neither video nor audio.")
        probabilities = np.zeros(len(number_of))
        for answer in classify(media, top_k=None, batch_size=batch_size, clip_loader_options=dict(clip_options)):
            probabilities[number_of[answer["label"]]] = answer["score"]
        return probabilities

    return predict


def code_predictor(model: Any, batch_size: int) -> Predictor:
    """
    Probabilities of a row of a token store, mean over its windows.

    Raises:
        ValueError: a model that does not take codes.
    """
    if not isinstance(model, VQMAEForAudioVisualClassification):
        raise ValueError(
            f"{type(model).__name__} does not take the codes of a token store; pass the clips themselves."
        )
    config = model.config

    def predict(clip: Mapping[str, Any]) -> np.ndarray:
        windows = code_windows(clip, config)
        pieces = zip(*(values.split(batch_size) for values in windows.values()), strict=True)
        logits = torch.cat(
            [
                model(**{name: part.to(model.device) for name, part in zip(windows, piece, strict=True)}).logits
                for piece in pieces
            ]
        )
        return SCORE_FUNCTIONS["softmax"](logits.float()).mean(dim=0).cpu().double().numpy()

    return predict


def code_windows(clip: Mapping[str, Any], config: Any) -> dict[str, torch.Tensor]:
    """Codes and masks of the windows of a clip, (W, ...), of the modalities that both it and the model have."""
    both = {"audio", "visual"} <= set(config.modalities)
    spectra_per_frame = config.audio_num_spectra // config.visual_num_frames if both else 1
    window = config.visual_num_frames if "visual" in config.modalities else config.audio_num_spectra
    shapes = {"audio": (config.audio_codes_per_spectrum,), "visual": (config.visual_codes_per_side,) * 2}
    steps_per_unit = {"audio": spectra_per_frame, "visual": 1}
    codes = {
        m: torch.as_tensor(np.asarray(clip[f"{m}_codes"], dtype=np.int64)).view(1, -1, *shapes[m])
        for m in config.modalities
        if clip.get(f"{m}_codes") is not None and len(clip[f"{m}_codes"])
    }
    if not codes:
        raise ValueError(f"the row has no codes of {' or '.join(config.modalities)}.")
    # Frames lead; the spectra of a clip without pictures count in begun frames.
    length = codes["visual"].shape[1] if "visual" in codes else -(-codes["audio"].shape[1] // spectra_per_frame)
    plan = plan_windows([length], window, window)
    windows = {}
    for modality, values in codes.items():
        values = values[:, : length * steps_per_unit[modality]]
        real = torch.ones(values.shape[:2], dtype=torch.long)
        windows[f"{modality}_codes"] = gather_windows(values, plan, window, steps_per_unit[modality])
        windows[f"{modality}_attention_mask"] = gather_windows(real, plan, window, steps_per_unit[modality])
    return windows


def _keep(results: dict[str, Any], output_dir: str | os.PathLike | None) -> Evaluation:
    figure = draw_evaluation(results)
    folder = None if output_dir is None else Path(output_dir)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RESULTS_NAME, results)
        figure.savefig(folder / PICTURE_NAME, dpi=110, metadata={"Software": None})
    return Evaluation(results, figure, folder)


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else f"<{type(source).__name__}>"
