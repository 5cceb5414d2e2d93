"""`report.html`: how well the classifier does, on whom, and what to beware of."""

from collections import defaultdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from vqmae_hf.data.shards import atomic_path
from vqmae_hf.own_corpus.chain import OwnCorpusResult
from vqmae_hf.quickstart.figures import as_address, confusion_figure
from vqmae_hf.version import __version__

MOST_FAILURES_SHOWN = 50
MODALITY_NAMES = {"audio+visual": "voice and face", "audio": "voice alone", "visual": "face alone"}


def write_report(result: OwnCorpusResult) -> Path:
    """Write the page, one file without anything beside it."""
    environment = Environment(
        loader=PackageLoader("vqmae_hf.own_corpus", "."), autoescape=True, undefined=StrictUndefined
    )
    results = result.results
    first = next(iter(results["test"].values()))
    page = environment.get_template("report.html.jinja").render(
        version=__version__,
        results=results,
        rows=[(MODALITY_NAMES[name], part["metrics"]) for name, part in results["test"].items()],
        confusion=as_address(confusion_figure(first["confusion_matrix"], results["classes"], "")),
        recalls=_recalls(first["confusion_matrix"], results["classes"]),
        speakers=_by_speaker(first["predictions"]) if results["split_by"] == "speakers" else [],
        failures=result.failures[:MOST_FAILURES_SHOWN],
        folder=result.output_dir,
    )
    path = result.output_dir / "report.html"
    with atomic_path(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return path


def _recalls(matrix: list[list[int]], classes: list[str]) -> list[dict[str, Any]]:
    """Of each emotion, clips tested and the share that was recognised; None where none was tested."""
    return [
        {"name": name, "clips": sum(row), "share": row[i] / sum(row) if sum(row) else None}
        for i, (name, row) in enumerate(zip(classes, matrix, strict=True))
    ]


def _by_speaker(predictions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each tested speaker, clips and the share that was recognised, the worst first."""
    right: dict[str, list[bool]] = defaultdict(list)
    for row in predictions:
        right[row["speaker"]].append(row["emotion"] == row["predicted"])
    rows = [{"name": name, "clips": len(hits), "share": sum(hits) / len(hits)} for name, hits in right.items()]
    return sorted(rows, key=lambda row: (row["share"], row["name"]))
