"""`report.html`: what the quickstart did, to look at."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from jinja2 import Environment, PackageLoader, StrictUndefined

from vqmae_hf.data.prepared_clips import clip_arrays, load_prepared_clips
from vqmae_hf.data.shards import atomic_path
from vqmae_hf.quickstart import figures
from vqmae_hf.quickstart.chain import Quickstart, choose_classifier
from vqmae_hf.quickstart.real_clips import RealClips
from vqmae_hf.training.assembly import processor_for_tokenizers
from vqmae_hf.training.finetune import FinetuneResult
from vqmae_hf.training.stages import StageResult
from vqmae_hf.version import __version__

MASK_RATIOS = ((0.25, 0.25), (0.5, 0.5), (0.75, 0.75), (0.95, 0.05), (0.05, 0.95))


@dataclass
class Findings:
    """Everything that the steps returned, for the report; see `Quickstart`."""

    corpus: Dataset
    tokenizers: dict[str, StageResult]
    store: Dataset
    pretrained: StageResult
    results: dict[tuple[str, str], FinetuneResult]
    table: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    real: RealClips | None


def write_report(quickstart: Quickstart, findings: Findings) -> Path:
    """Draw the pictures and write the page, one file but for the videos of the real part."""
    environment = Environment(
        loader=PackageLoader("vqmae_hf.quickstart", "."), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("report.html.jinja").render(
        version=__version__,
        table=findings.table,
        seconds=quickstart.seconds,
        size=quickstart.size,
        speakers={part: len(names) for part, names in _final(findings).results["speakers"].items()},
        corpus_picture=_corpus_picture(findings.corpus),
        tokenizers={name: result.metrics["validation"] for name, result in findings.tokenizers.items()},
        tokenized_picture=_tokenized_picture(quickstart, findings),
        masked_pictures=_masked_pictures(findings),
        pretraining_curves=figures.as_address(figures.pretraining_curves(findings.pretrained.log_history)),
        validation_curves=figures.as_address(
            figures.validation_curves({", ".join(key): r.log_history for key, r in findings.results.items()})
        ),
        confusions=_confusions(findings.results),
        chosen=choose_classifier(findings.results)[1],
        alone=_modalities_alone(_final(findings)),
        answers=[
            {
                "picture": figures.as_address(figures.prediction_strip(answer["path"])),
                "name": Path(answer["path"]).name,
                "emotion": answer["emotion"],
                "bars": figures.bars(answer["answer"]),
            }
            for answer in findings.answers
        ],
        real=_real(findings.real, quickstart.output_dir) if findings.real is not None else None,
    )
    path = quickstart.output_dir / "report.html"
    with atomic_path(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return path


def write_results(quickstart: Quickstart, findings: Findings) -> Path:
    """The numbers of the page as JSON."""
    path = quickstart.output_dir / "results.json"
    content = {
        "version": __version__,
        "table": findings.table,
        "seconds": quickstart.seconds,
        "tokenizers": {name: result.metrics["validation"] for name, result in findings.tokenizers.items()},
        "pretraining": findings.pretrained.metrics,
    }
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return path


def _final(findings: Findings) -> FinetuneResult:
    return findings.results[choose_classifier(findings.results)]


def _corpus_picture(corpus: Dataset) -> str:
    """One clip of each emotion, each of another speaker."""
    names = corpus.features["emotion"].names
    labels, speakers = np.asarray(corpus["emotion"][:]), sorted(set(corpus["speaker"][:]))
    chosen = []
    for label in range(len(names)):
        rows = np.flatnonzero(labels == label)
        speaker = speakers[label % len(speakers)]
        of_speaker = [row for row in rows if corpus[int(row)]["speaker"] == speaker]
        chosen.append(int(of_speaker[0] if of_speaker else rows[0]))
    paths = [corpus[row]["video"]["path"] for row in chosen]
    return figures.as_address(figures.corpus_sheet(paths, names))


@torch.no_grad()
def _tokenized_picture(quickstart: Quickstart, findings: Findings) -> str:
    """A clip of a test speaker before and after the tokenizers."""
    clips = load_prepared_clips(quickstart.work / "clips")
    unseen = set(_final(findings).results["speakers"]["test"])
    row = next(index for index, speaker in enumerate(clips["speaker"]) if speaker in unseen)
    arrays = clip_arrays(clips, row)
    models = {name: result.model for name, result in findings.tokenizers.items()}
    inputs = processor_for_tokenizers(models)(videos=arrays.frames, audio=arrays.waveform)
    pixels, spectra = inputs["pixel_values_videos"][0], inputs["audio_values"][0]
    decoded = models["visual"].decode(models["visual"].encode(pixels))
    decoded_spectra = models["audio"].decode(models["audio"].encode(spectra))
    return figures.as_address(figures.tokenized_sheet(pixels, decoded, spectra, decoded_spectra))


def _masked_pictures(findings: Findings) -> list[dict[str, Any]]:
    """One clip of a test speaker, masked more and more, and one modality from the other."""
    model, config = findings.pretrained.model, findings.pretrained.model.config
    unseen = set(_final(findings).results["speakers"]["test"])
    row = next(row for row in findings.store if row["speaker"] in unseen)
    side, codes = config.visual_codes_per_side, config.audio_codes_per_spectrum
    window = {
        "audio": torch.as_tensor(np.asarray(row["audio_codes"], dtype=np.int64)).view(-1, codes),
        "visual": torch.as_tensor(np.asarray(row["visual_codes"], dtype=np.int64)).view(-1, side, side),
    }
    window = {
        "audio": window["audio"][None, : config.audio_num_spectra],
        "visual": window["visual"][None, : config.visual_num_frames],
    }
    return [
        {
            "visual": round(100 * visual),
            "audio": round(100 * audio),
            "picture": figures.as_address(figures.masked_sheet(model, window, (visual, audio))),
        }
        for visual, audio in MASK_RATIOS
    ]


def _confusions(results: Mapping[tuple[str, str], FinetuneResult]) -> list[str]:
    """Confusions on the test speakers, of the start that validation prefers."""
    pictures = []
    for (name, start), result in results.items():
        if start != choose_classifier(results)[1]:
            continue
        report = result.results["test"][next(iter(result.results["test"]))]
        figure = figures.confusion_figure(report["confusion_matrix"], result.results["classes"], name)
        pictures.append(figures.as_address(figure))
    return pictures


def _modalities_alone(final: FinetuneResult) -> list[dict[str, Any]]:
    """The one audiovisual model, asked with both modalities and with each alone."""
    return [
        {"input": name.replace("+", " + "), "accuracy": report["metrics"]["accuracy"]}
        for name, report in final.results["test"].items()
    ]


def _real(real: RealClips, output_dir: Path) -> dict[str, Any]:
    return {
        "folder": str(real.folder),
        "num_clips": real.num_clips,
        "num_frames": real.num_frames,
        "failures": real.failures,
        "clips": [
            {
                "name": clip.path.name,
                "video": clip.mp4.relative_to(output_dir).as_posix(),
                "psnr": clip.psnr_db,
                "distance": clip.log_spectral_distance_db,
                "picture": figures.as_address(figures.real_sheet(clip)),
            }
            for clip in real.held_out
        ],
    }


def closing_lines(findings: Findings, page: Path, lines: Sequence[str]) -> str:
    """What the program prints last: where things are, then the table."""
    usage = ", ".join(
        f"{name} {100 * result.metrics['validation']['codebook_usage']:.0f} %"
        for name, result in findings.tokenizers.items()
    )
    return "\n".join(["", f"codes used by the tokenizers: {usage}", f"report: {page}", "", *lines])
