"""The page of a study of pre-training, from its JSON alone."""

import json
from pathlib import Path
from typing import Any

from vqmae_hf.evaluation.masked_prediction_chart import CODE_NAMES, OTHER_NAMES
from vqmae_hf.experiments.tables import markdown_table, replace_generated

PREDICTORS = {
    "model": "the network",
    "copy_nearest": "copy of the nearest visible",
    "position_unigram": "unigram of the position",
    "unigram": "unigram",
}
CONTEXTS = {
    "visible": "all of it",
    "stranger": "all of another clip's",
    "hidden": "all tubes masked",
    "absent": "not given",
}


def update_study_page(results_path: Path) -> tuple[Path, dict[str, Any]]:
    """Write the tables of `<name>.json` into `<name>.md` beside it; returns the page and the results."""
    results = json.loads(results_path.read_text(encoding="utf-8"))
    page = results_path.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.exists() else f"# {results['title']}\n"
    page.write_text(replace_generated(text, results_path.stem, render_study(results)), encoding="utf-8")
    return page, results


def is_study(path: Path) -> bool:
    """Whether a JSON file is one of `masked_study.run_study`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(content, dict) and {"study", "masked"} <= set(content)


def render_study(results: dict[str, Any]) -> str:
    """All tables of a study as Markdown."""
    parts = [_protocol(results), _masked_table(results), f"![{results['title']}]({results['study']}.png)"]
    if results.get("gain"):
        parts += [_context_table(results), _gain_table(results), _fold_table(results)]
    commits = sorted({environment["commit"] or "unknown" for environment in results["environments"]})
    devices = sorted({environment["device"] for environment in results["environments"]})
    command = f"python -m vqmae_hf.experiments masked {results['study']} --results docs/results"
    parts.append(f"Commit {', '.join(commits)}; {', '.join(devices)}. Anew: `{command}`.")
    return "\n\n".join(parts) + "\n"


def _protocol(results: dict[str, Any]) -> str:
    debug = "**Size debug: these numbers only show that everything runs.** " if results["size"] == "debug" else ""
    clips, folds = results["clips"], results["folds"]
    return (
        f"{debug}Asked about {results['clips_asked']} clips, {folds['run']} of {folds['dealt']} folds, each held out from "
        f"every step of its fold; tokenizers were trained on about {clips['train']} clips, the network on these and "
        f"{clips['validation']} more, without labels. Cross-entropy in nats per masked code, over all masked codes of all "
        "held-out clips."
    )


def _masked_table(results: dict[str, Any]) -> str:
    lines = []
    for modality, by_ratio in results["masked"].items():
        for ratio in sorted(by_ratio, key=float):
            found = by_ratio[ratio]
            scores = [f"{found[name]['cross_entropy']:.3f}" for name in PREDICTORS]
            lines.append([CODE_NAMES[modality], f"{100 * float(ratio):.0f} %", *scores])
            lines.append(["", "top-1", *(f"{100 * found[name]['top1']:.1f} %" for name in PREDICTORS)])
    heading = "Of the other modality as large a share is visible as of this one is masked:\n\n"
    return heading + markdown_table(["predicted", "masked", *PREDICTORS.values()], lines)


def _context_table(results: dict[str, Any]) -> str:
    lines = []
    for modality, gain in results["gain"].items():
        scores = [f"{gain['contexts'][context]['cross_entropy']:.4f}" for context in CONTEXTS]
        lines.append([CODE_NAMES[modality], f"{100 * gain['masked_share']:.0f} %", OTHER_NAMES[modality], *scores])
    heading = "With the other modality of the clip, and without it (cross-entropy in nats per masked code):\n\n"
    return heading + markdown_table(["predicted", "masked", "the other", *CONTEXTS.values()], lines)


def _gain_table(results: dict[str, Any]) -> str:
    lines = []
    for modality, gain in results["gain"].items():
        for context, values in gain["gain_over"].items():
            low, high = values["interval"]
            lines.append(
                [
                    f"{CODE_NAMES[modality]}, over {CONTEXTS[context]}",
                    f"{1000 * values['mean']:+.1f} ({1000 * low:+.1f} to {1000 * high:+.1f})",
                    f"{100 * values['share']:.0f} %",
                    str(values["clips"]),
                ]
            )
    heading = (
        "What the other modality is worth, in thousandths of a nat per masked code (mean over clips, 95 % bootstrap "
        "interval over clips):\n\n"
    )
    return heading + markdown_table(["gain", "mnat", "clips that gain", "clips"], lines)


def _fold_table(results: dict[str, Any]) -> str:
    folds = results["by_fold"]
    lines = [
        [
            f"{CODE_NAMES[modality]}, over {CONTEXTS[context]}",
            *(f"{1000 * fold['gain_over'][modality][context]:+.1f}" for fold in folds),
        ]
        for modality, gain in results["gain"].items()
        for context in gain["gain_over"]
    ]
    heading = "The same gains fold by fold, each of another network and other tokenizers (mnat, mean over clips):\n\n"
    return heading + markdown_table(["gain", *(f"fold {fold['fold']}" for fold in folds)], lines)
