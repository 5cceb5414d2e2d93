"""Tables from aggregated results alone: between two markers of a page, so that a test can say whether they are up to date.

What stands outside the markers is written by people and stays.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN = "<!-- begin of what `{command}` made from {name}.json -->"
END = "<!-- end of what was made from {name}.json -->"
COMMAND = "python -m vqmae_hf.experiments tables"
MAIN_METRICS = {"accuracy": "WAR", "uar": "UAR", "macro_f1": "macro-F1", "weighted_f1": "weighted F1"}


def is_results(path: Path) -> bool:
    """Whether a JSON file is one of `aggregation.aggregate`, and not what another program has measured."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return isinstance(content, dict) and {"experiment", "rows", "clips"} <= set(content)


def update_page(results_path: Path) -> Path:
    """Write the tables of `<name>.json` into `<name>.md` beside it, which is begun if it is not there."""
    results = json.loads(results_path.read_text(encoding="utf-8"))
    page = results_path.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.exists() else f"# {results['title']}\n"
    page.write_text(replace_generated(text, results_path.stem, render(results)), encoding="utf-8")
    return page


def replace_generated(text: str, name: str, generated: str, command: str = COMMAND) -> str:
    """`text` with `generated`, which `command` makes, between the markers of `name`, which come to stand at the end if there
    are none.

    Raises:
        ValueError: one marker without the other.
    """
    begin, end = BEGIN.format(name=name, command=command), END.format(name=name)
    block = f"{begin}\n\n{generated}\n{end}"
    if (begin in text) != (end in text):
        raise ValueError(
            f"the page of {name} has one of its two markers; delete it, and the tables come to stand anew."
        )
    if begin not in text:
        return f"{text.rstrip()}\n\n{block}\n"
    before, rest = text.split(begin, 1)
    return before + block + rest.split(end, 1)[1]


def render(results: dict[str, Any]) -> str:
    """All tables of an experiment as Markdown."""
    parts = [_protocol(results), _main_table(results), f"![{results['title']}]({results['experiment']}.png)"]
    if any(not row["is_main"] for row in results["rows"].values()):
        parts.append(_missing_modality_table(results))
    parts.append(_fold_table(results))
    if results["comparisons"]:
        parts.append(_comparison_table(results))
    parts += [_confusion_table(results), _origin(results)]
    return "\n\n".join(parts) + "\n"


def best_row(results: dict[str, Any]) -> str:
    """The row with the highest pooled WAR, of those that were given all they were trained on."""
    rows = {name: row for name, row in results["rows"].items() if row["is_main"]}
    return max(rows, key=lambda name: rows[name]["pooled"]["accuracy"]["mean"])


def _protocol(results: dict[str, Any]) -> str:
    clips = len(results["clips"]["clip_id"])
    speakers = sum(map(len, results["folds"]))
    debug = "**Size debug: these numbers only show that everything runs.** " if results["size"] == "debug" else ""
    given = [
        f"the {name} tokenizer is {path}" for name, path in results["tokenizers"].items() if path != "of each fold"
    ]
    unseen = "on nothing that a system has been trained or chosen on" + (f" ({'; '.join(given)})" if given else "")
    return (
        f"{debug}{clips} clips of {speakers} speakers in {len(results['classes'])} classes, {_folds_text(results)}, "
        f"{unseen}. {_validation_text(results)}{_labels_text(results)}"
        "In percent: metrics of the answers of all folds together, mean ± standard deviation over seeds "
        "(none where a seed would change nothing). "
        f"Guessing: {_percent(results['chance'])}."
    )


def _labels_text(results: dict[str, Any]) -> str:
    if not results.get("labelled_speakers"):
        return ""
    of_all = " or ".join(map(str, sorted(set(results["train_speakers"]))))
    return f"Of {of_all} speakers to train on, {results['labelled_speakers']} have labels. "


def _validation_text(results: dict[str, Any]) -> str:
    if not results.get("train_on_validation"):
        return ""
    return "Once hyperparameters were chosen on validation speakers, these were trained on too; no epoch was chosen. "


def _folds_text(results: dict[str, Any]) -> str:
    run, dealt = len(results["folds"]), results.get("folds_dealt", len(results["folds"]))
    if run == dealt:
        return f"{run} folds that test every speaker once"
    return f"the first {run} of {dealt} folds, whose test speakers these are" if run > 1 else f"one of {dealt} folds"


def _main_table(results: dict[str, Any]) -> str:
    lines = []
    for row in results["rows"].values():
        if row["is_main"]:
            values = [_mean_std(row["pooled"][metric]) for metric in MAIN_METRICS]
            lines.append([row["title"], row["view"], *values, str(len(row["seeds"]))])
    table = markdown_table(["system", "is given", *MAIN_METRICS.values(), "seeds"], lines)
    missing = [f"`{name}` ({count} cells missing)" for name, count in results["incomplete"].items()]
    if missing:
        table += f"\n\nNot run to the end, and not in the tables: {', '.join(missing)}."
    return table + (f"\n\n{_unfinished_table(results)}" if results.get("unfinished") else "")


def _unfinished_table(results: dict[str, Any]) -> str:
    """What is done of systems that were not run to the end: each fold as far as it has come."""
    lines = []
    for cells in results["unfinished"].values():
        by_fold: dict[int, list[float]] = {}
        for cell in cells.values():
            first_view = next(iter(cell["test"].values()))
            by_fold.setdefault(cell["fold"], []).append(first_view["metrics"]["accuracy"])
        title = next(iter(cells.values()))["system"]["title"]
        lines.append([title, *(_values(by_fold.get(fold, [])) for fold in range(len(results["folds"])))])
    numbers = [f"fold {fold}" for fold in range(len(results["folds"]))]
    return "Of these, WAR of the folds and seeds that are done:\n\n" + markdown_table(["system", *numbers], lines)


def _values(shares: Sequence[float]) -> str:
    return ", ".join(map(_percent, shares)) or "-"


def _missing_modality_table(results: dict[str, Any]) -> str:
    lines = []
    for name, row in results["rows"].items():
        if not row["is_main"]:
            whole = results["rows"][name.partition("@")[0]]["pooled"]["accuracy"]["mean"]
            part, chance = row["pooled"]["accuracy"]["mean"], results["chance"]
            kept = "-" if whole <= chance else _percent((part - chance) / (whole - chance))
            lines.append([row["title"], _mean_std(row["pooled"]["accuracy"]), _percent(whole), kept])
    heading = "What systems of both modalities say when one is missing at test time:\n\n"
    return heading + markdown_table(["system", "WAR", "WAR with both", "of the gain over guessing"], lines)


def _fold_table(results: dict[str, Any]) -> str:
    numbers = [f"fold {fold}" for fold in range(len(results["folds"]))]
    lines = []
    for row in results["rows"].values():
        if row["is_main"]:
            folds = [_mean_std(fold["accuracy"]) for fold in row["folds"]]
            lines.append([row["title"], *folds, _mean_std(row["over_folds"]["accuracy"])])
    return "WAR of each fold, and mean ± standard deviation over folds:\n\n" + markdown_table(
        ["system", *numbers, "over folds"], lines
    )


def _comparison_table(results: dict[str, Any]) -> str:
    lines = []
    for pair in results["comparisons"]:
        low, high = pair["interval"]
        lines.append(
            [
                " − ".join(results["rows"][pair[side]]["title"] for side in ("first", "second")),
                f"{100 * pair['difference']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})",
                *(_p_value(pair[name]) for name in ("p_speakers", "p_clips", "p_t", "p_wilcoxon")),
                str(pair["num_runs"]),
            ]
        )
    heading = (
        "Differences in WAR, in points (95 % bootstrap interval over speakers), and paired tests: permutation of the "
        "answers speaker by speaker (the one to quote) and clip by clip; t and Wilcoxon over the runs (folds x seeds):\n\n"
    )
    return heading + markdown_table(
        ["difference", "points", "p speakers", "p clips", "p t", "p Wilcoxon", "runs"], lines
    )


def _confusion_table(results: dict[str, Any]) -> str:
    best = results["rows"][best_row(results)]
    lines = []
    for name, counts in zip(results["classes"], best["confusion_matrix"], strict=True):
        total = max(1, sum(counts))
        lines.append([name, *(_percent(count / total) for count in counts)])
    heading = f"Confusions of {best['title']}, in percent of the true class (rows), all folds and seeds:\n\n"
    return heading + markdown_table(["", *results["classes"]], lines)


def _origin(results: dict[str, Any]) -> str:
    commits = sorted({environment["commit"] or "unknown" for environment in results["environments"]})
    devices = sorted({environment["device"] for environment in results["environments"]})
    command = f"python -m vqmae_hf.experiments run {results['experiment']} --only '{best_row(results)}/*/*'"
    return (
        f"Seeds {', '.join(map(str, results['seeds']))}; commit {', '.join(commits)}; {', '.join(devices)}; "
        f"{results['seconds'] / 60:.1f} minutes. Any row anew, by its name, in an empty `--work_dir`: `{command}`; "
        f"the names: {', '.join(f'`{name}`' for name, row in results['rows'].items() if row['is_main'])}."
    )


def markdown_table(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *lines))


def _mean_std(value: dict[str, Any]) -> str:
    return _percent(value["mean"]) + ("" if value["std"] is None else f" ± {100 * value['std']:.1f}")


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
