"""The steps of the quickstart, in order; each is a call of a public function with what the size says."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import pipeline

import vqmae_hf
from vqmae_hf.data.shards import write_json
from vqmae_hf.data.synthetic import load_synthetic_corpus, write_synthetic_corpus
from vqmae_hf.data.token_store import load_token_store
from vqmae_hf.quickstart.sizes import SIZES, QuickstartSize
from vqmae_hf.training import finetune, pretrain, tokenize_corpus, train_audio_tokenizer, train_visual_tokenizer
from vqmae_hf.training.arguments import (
    AudioTokenizerArguments,
    FinetuneArguments,
    PretrainArguments,
    TokenizeArguments,
    VisualTokenizerArguments,
)
from vqmae_hf.training.finetune import FinetuneResult
from vqmae_hf.training.recipes import build_arguments
from vqmae_hf.training.stages import StageResult

logger = logging.getLogger(__name__)

FACE_SIZE = 64
MODALITIES = {"audio + video": ["audio", "visual"], "audio only": ["audio"], "video only": ["visual"]}
STARTS = ("from scratch", "pre-trained")
CLASSIFIED_CLIPS = 6


@dataclass
class Quickstart:
    """
    A run: where it writes, how large it is, and what it found.

    Args:
        output_dir: everything is written below it; the corpus, clips and tokens in `work`, the final model in `model`.
        size: see `QuickstartSize`.
        seed: of the corpus, the split and the training.
        seconds: wall-clock time of each step that has run.
    """

    output_dir: Path
    size: QuickstartSize
    seed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        return self.output_dir / "work"

    @property
    def model_dir(self) -> Path:
        return self.output_dir / "model"

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce and time a step."""
        print(f"\n== {name}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start

    def corpus_arguments(self) -> dict[str, Any]:
        return {
            "corpus": "synthetic",
            "corpus_root": str(self.work / "corpus"),
            "clips_dir": str(self.work / "clips"),
            "face_size": FACE_SIZE,
            "preparation_processes": self.size.preparation_processes,
        }

    def split_arguments(self) -> dict[str, Any]:
        return {
            "validation_share": self.size.validation_share,
            "test_share": self.size.test_share,
            "split_seed": self.seed,
            "seed": self.seed,
        }

    def make_corpus(self) -> Dataset:
        """Talking faces with known factors, as mp4 files."""
        write_synthetic_corpus(
            self.work / "corpus",
            num_speakers=self.size.num_speakers,
            clips_per_emotion=self.size.clips_per_emotion,
            seed=self.seed,
        )
        return load_synthetic_corpus(self.work / "corpus")

    def train_tokenizers(self) -> dict[str, StageResult]:
        """Both VQ-VAEs, on the training speakers alone."""
        shared = {**self.corpus_arguments(), **self.split_arguments(), **self.tokenizer_arguments()}
        audio = build_arguments(AudioTokenizerArguments, output_dir=str(self.work / "audio_tokenizer"), **shared)
        visual = build_arguments(VisualTokenizerArguments, output_dir=str(self.work / "visual_tokenizer"), **shared)
        return {"audio": train_audio_tokenizer.run(audio), "visual": train_visual_tokenizer.run(visual)}

    def tokenizer_arguments(self) -> dict[str, Any]:
        steps = {} if self.size.tokenizer_steps is None else {"max_steps": self.size.tokenizer_steps}
        return {"recipe": "quickstart", **steps}

    def tokenize(self) -> Dataset:
        """Every clip as codes, once."""
        tokenize_corpus.run(
            build_arguments(TokenizeArguments, use_cpu=True, **self.corpus_arguments(), **self.token_arguments())
        )
        return load_token_store(self.work / "tokens")

    def token_arguments(self) -> dict[str, str]:
        return {
            "token_store": str(self.work / "tokens"),
            "audio_tokenizer": str(self.work / "audio_tokenizer"),
            "visual_tokenizer": str(self.work / "visual_tokenizer"),
        }

    def model_arguments(self) -> dict[str, Any]:
        return {} if self.size.model_overrides is None else {"model_overrides": self.size.model_overrides}

    def pretrain(self) -> StageResult:
        """Masked codes of the training speakers, no labels."""
        return pretrain.run(
            build_arguments(
                PretrainArguments,
                recipe="quickstart",
                output_dir=str(self.work / "pretrained"),
                num_train_epochs=self.size.pretrain_epochs,
                **self.model_arguments(),
                **self.token_arguments(),
                **self.split_arguments(),
            )
        )

    def finetune_all(self) -> dict[tuple[str, str], FinetuneResult]:
        """The same classifier on both modalities and on each alone, from scratch and pre-trained; by (modalities, start)."""
        results = {}
        for start in STARTS:
            for name, modalities in MODALITIES.items():
                print(f"\n-- {name}, {start}", flush=True)
                results[name, start] = finetune.run(
                    build_arguments(
                        FinetuneArguments,
                        recipe="quickstart",
                        output_dir=str(self.work / f"{'-'.join(modalities)}-{start.replace(' ', '-')}"),
                        modalities=modalities,
                        pretrained=str(self.work / "pretrained") if start == "pre-trained" else None,
                        **(self.model_arguments() if start == "from scratch" else {}),
                        num_train_epochs=self.size.finetune_epochs,
                        **self.token_arguments(),
                        **self.split_arguments(),
                    )
                )
        return results

    def publish(self, results: dict[tuple[str, str], FinetuneResult]) -> None:
        """The audiovisual classifier that validation prefers, with its tokenizers and processor, as one folder."""
        chosen = results[choose_classifier(results)]
        chosen.model.save_pretrained(self.model_dir)
        vqmae_hf.VQMAEProcessor.from_pretrained(chosen.output_dir).save_pretrained(self.model_dir)
        write_json(self.model_dir / "results.json", chosen.results)

    def classify_held_out(
        self, corpus: Dataset, results: dict[tuple[str, str], FinetuneResult]
    ) -> list[dict[str, Any]]:
        """What a user would do: the saved folder, the pipeline, mp4 files of speakers that no step has seen."""
        report = results[choose_classifier(results)].results
        unseen = set(report["speakers"]["test"])
        rows = [row for row in corpus if row["speaker"] in unseen]
        rows = rows[:: max(1, len(rows) // CLASSIFIED_CLIPS)][:CLASSIFIED_CLIPS]
        classify = pipeline("audiovisual-classification", model=str(self.model_dir), device="cpu")
        names = corpus.features["emotion"].names
        answers = classify([row["video"]["path"] for row in rows], top_k=None)
        return [
            {"path": row["video"]["path"], "emotion": names[row["emotion"]], "answer": answer}
            for row, answer in zip(rows, answers, strict=True)
        ]


def choose_classifier(results: dict[tuple[str, str], FinetuneResult]) -> tuple[str, str]:
    """Which audiovisual classifier to keep: the one that was best on the validation speakers. Test speakers have no say."""
    return max((("audio + video", start) for start in STARTS), key=lambda key: results[key].results["best_validation"])


def results_table(results: dict[tuple[str, str], FinetuneResult]) -> list[dict[str, Any]]:
    """Accuracy and macro-F1 on the test speakers of each classifier, and of guessing."""
    rows = []
    for (name, start), result in results.items():
        modalities = "+".join(MODALITIES[name])
        metrics = result.results["test"][modalities]["metrics"]
        rows.append({"input": name, "start": start, "accuracy": metrics["accuracy"], "macro_f1": metrics["macro_f1"]})
    chance = next(iter(results.values())).results["chance"]
    return [*rows, {"input": "chance", "start": "", "accuracy": chance, "macro_f1": chance}]


def format_table(rows: list[dict[str, Any]]) -> str:
    """The table as text, for the last lines of the program."""
    lines = [f"{'input':<14} {'start':<13} {'accuracy':>8} {'macro-F1':>8}"]
    lines += [f"{row['input']:<14} {row['start']:<13} {row['accuracy']:>8.3f} {row['macro_f1']:>8.3f}" for row in rows]
    return "\n".join(lines)


def new_quickstart(output_dir: str | Path, size: str = "full", seed: int = 0) -> Quickstart:
    """
    A run that has not started.

    Raises:
        ValueError: for an unknown size, or a folder that a run of another size or seed has begun.
    """
    if size not in SIZES:
        raise ValueError(f"size={size!r} is unknown; {sorted(SIZES)} are accepted.")
    output_dir = Path(output_dir)
    settings = {"size": size, "seed": seed}
    record = output_dir / "quickstart.json"
    if record.exists():
        begun = json.loads(record.read_text(encoding="utf-8"))
        if begun != settings:
            raise ValueError(
                f"{output_dir} holds a quickstart of {begun}, not {settings}; choose another --output_dir."
            )
    output_dir.mkdir(parents=True, exist_ok=True)
    write_json(record, settings)
    torch.manual_seed(seed)
    return Quickstart(output_dir, SIZES[size], seed)
