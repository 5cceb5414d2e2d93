"""The page of a study, from its JSON alone; what stands outside the markers is written by people and stays."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vqmae_hf.evaluation.disentanglement import ALL_LATENTS
from vqmae_hf.experiments.mdvae.results import Spread, first_seed, over_seeds
from vqmae_hf.experiments.significance import compare_clips
from vqmae_hf.experiments.tables import markdown_table, replace_generated

COMMAND = "python -m vqmae_hf.experiments.mdvae tables"
LATENTS = ("w", "z_av", "z_a", "z_v")
INTERVAL = "in brackets the 95 % bootstrap interval over the test speakers"
# Pairs of methods of restoring a face that the page compares clip by clip.
COMPARED = (
    ("MDVAE with sound", "MDVAE without sound"),
    ("MDVAE with sound", "visual VAE"),
    ("mean moved by the MDVAE with sound", "mean moved by the MDVAE without sound"),
    ("mean moved by the MDVAE with sound", "mean moved by the visual VAE"),
    ("mean moved by the MDVAE with sound", "mean of the undamaged frames"),
    ("MDVAE of the undamaged face", "visual VAE of the undamaged face"),
)


def update_page(path: Path) -> Path:
    """Write the tables of `<name>.json` into `<name>.md` beside it, which is begun if it is not there."""
    results = json.loads(path.read_text(encoding="utf-8"))
    page = path.with_suffix(".md")
    text = page.read_text(encoding="utf-8") if page.exists() else f"# {results['title']}\n"
    page.write_text(replace_generated(text, path.stem, render(results), COMMAND), encoding="utf-8")
    return page


def render(results: dict[str, Any]) -> str:
    """All tables of a study as Markdown."""
    sections = {
        "disentanglement": _disentanglement,
        "swaps": _swaps,
        "denoising": _denoising,
        "few-labels": _few_labels,
    }
    parts = [_head(results)]
    parts += [section(results) for name, section in sections.items() if name in results["measurements"]]
    return "\n\n".join([*parts, _origin(results)]) + "\n"


def _head(results: dict[str, Any]) -> str:
    debug = "**Size debug: these numbers only show that everything runs.** " if results["size"] == "debug" else ""
    missing = f" Not run: {', '.join(results['incomplete'])}." if results["incomplete"] else ""
    return f"{debug}Mean ± standard deviation over the seeds of the model.{missing}"


def _disentanglement(results: dict[str, Any]) -> str:
    first = first_seed(results, "disentanglement")
    lines = []
    for factor, row in first["factors"].items():
        cells = {
            latent: over_seeds(results, "disentanglement", lambda c, f=factor, n=latent: c["factors"][f]["scores"][n])
            for latent in (*LATENTS, ALL_LATENTS)
        }
        best = max(LATENTS, key=lambda latent: cells[latent][0])
        shown = [f"**{_share(s)}**" if latent == best else _share(s) for latent, s in cells.items()]
        gaps = [
            over_seeds(results, "disentanglement", lambda c, f=factor, g=gap: c["factors"][f][g])
            for gap in ("information_gap", "score_gap")
        ]
        lines.append([f"{factor} ({row['home']})", *shown, *map(_share, gaps)])
    emotion = over_seeds(
        results,
        "disentanglement",
        lambda c: c["factors"]["emotion"]["accuracies"]["w"] / c["factors"]["emotion"]["accuracies"][ALL_LATENTS],
    )
    from_w = over_seeds(results, "disentanglement", lambda c: c["factors"]["emotion"]["accuracies"]["w"])
    return "\n\n".join(
        [
            "## Which latent tells which factor",
            f"Probes on {first['speakers'][1]} speakers ({first['clips'][1]} clips) that neither model nor probe has seen, "
            f"fitted to {first['speakers'][0]} others. Numbers: share of variance explained (R²); classes: (accuracy - "
            "chance) / (1 - chance). In brackets the latent that a factor belongs to; bold, the best one. The gaps compare "
            "the best number of the home latent with the best number of any other latent: of mutual information, as a "
            "share of the factor's entropy, and of squared correlation.",
            markdown_table(["factor (home)", *LATENTS, "all", "information gap", "score gap"], lines),
            f"Emotion is right in {_percent(from_w)} % of clips from w, {_share(emotion)} of what it is from all latents.",
            f"![scores]({results['study']}-latents.png)",
        ]
    )


def _swaps(results: dict[str, Any]) -> str:
    first = first_seed(results, "swaps")
    names = ["none", *LATENTS]
    lines = []
    for factor, row in first["factors"].items():
        shown = []
        for name in names:
            source, target = (
                over_seeds(results, "swaps", lambda c, f=factor, n=name, p=parent: c["factors"][f][n][p])
                for parent in ("source", "target")
            )
            shown.append(f"{source[0]:.2f} / {target[0]:.2f}")
        lines.append([f"{factor} ({row['home']})", *shown])
    return "\n\n".join(
        [
            "## What a swap changes",
            f"{first['pairs']} pairs of clips of unseen speakers, of different speaker and emotion: one latent of the "
            "source in place of the target's, decoded, and read by probes of pictures and sound. Agreement with the source "
            "/ with the target: correlation, or of classes (accuracy - chance) / (1 - chance). Where a swapped latent "
            "carries a factor, the first number is high and the second low.",
            markdown_table(["factor (home)", *(f"{name} swapped" for name in names)], lines),
            f"![moved]({results['study']}-swaps.png)",
        ]
    )


def _denoising(results: dict[str, Any]) -> str:
    first = first_seed(results, "denoising")["conditions"]
    lines = []
    for method in next(iter(first.values())):
        shown = []
        for condition in first:
            for metric, digits in (("psnr", 1), ("ssim", 3)):
                value = over_seeds(
                    results, "denoising", lambda c, k=condition, m=method, x=metric: mean_of(c, k, m, x)
                )
                shown.append(_number(value, digits))
        lines.append([method, *shown])
    header = [f"{condition}, {unit}" for condition in first for unit in ("dB", "SSIM")]
    clips = len(next(iter(next(iter(first.values())).values()))["psnr"])
    gains = [[f"{one} - {other}", *(gain_text(results, c, one, other) for c in first)] for one, other in COMPARED]
    return "\n\n".join(
        [
            "## Denoising",
            f"{clips} clips of unseen speakers for each seed, damaged from 20 % to 80 % of their length. PSNR and SSIM "
            'inside the damaged region of the damaged frames. "Without sound" takes all the sound for missing in the same '
            "model and infers it along with the face; the visual VAE is a model of the same sizes, trained without it. A "
            '"mean moved by" a model is that of the undamaged frames plus what the model says has moved.',
            markdown_table(["method", *header], lines),
            f"Differences of PSNR in dB over the clips of all seeds, {INTERVAL}:",
            markdown_table(["difference", *first], gains),
            f"![denoising]({results['study']}-denoising.png)",
        ]
    )


def mean_of(content: dict[str, Any], condition: str, method: str, metric: str) -> float:
    """Mean over clips of a metric."""
    values = content["conditions"][condition][method][metric]
    return sum(values) / len(values)


def gain_text(results: dict[str, Any], condition: str, first: str, second: str) -> str:
    """By how many dB a method is better than another on the same clips, with the interval over speakers."""
    seeds = results["measurements"]["denoising"].values()
    one, other = (
        [value for content in seeds for value in content["conditions"][condition][method]["psnr"]]
        for method in (first, second)
    )
    return _difference(one, other, [speaker for content in seeds for speaker in content["speakers"]])


def _difference(first: Sequence[float], second: Sequence[float], speakers: Sequence[str], digits: int = 2) -> str:
    compared: dict[str, Any] = compare_clips(np.array(first), np.array(second), speakers)
    low, high = (f"{bound:.{digits}f}" for bound in compared["interval"])
    return f"{compared['difference']:.{digits}f} ({low} to {high})"


def _few_labels(results: dict[str, Any]) -> str:
    first = first_seed(results, "few-labels")
    points = next(iter(first["curves"].values()))
    lines = []
    for system in first["curves"]:
        shown = [
            over_seeds(results, "few-labels", lambda c, s=system, i=place: c["curves"][s][i]["mean"])
            for place in range(len(points))
        ]
        lines.append([system, *map(_percent, shown)])
    header = [f"{100 * point['share']:g} % ({point['labels']})" for point in points]
    own = [system for system in first["curves"] if system.startswith("w of the MDVAE")]
    margins = [
        [f"{one} - {other}", *(margin_text(results, one, other, place) for place in range(len(points)))]
        for one in own
        for other in first["curves"]
        if other not in own and other.split(", ")[1:] in ([], one.split(", ")[1:])
    ]
    sizes = ", ".join(f"{name} {count / 1e6:.2f} M" for name, count in first["parameters"].items())
    return "\n\n".join(
        [
            "## Emotion with few labels",
            "Accuracy in percent on unseen speakers, over the share (number) of labelled training clips; mean over draws, ± "
            f"over seeds. Most frequent class: {100 * first['chance']:.1f}. Parameters: {sizes}.",
            markdown_table(["system", *header], lines),
            f"Differences in percentage points, {INTERVAL}:",
            markdown_table(["difference", *header], margins),
            f"![few labels]({results['study']}-few-labels.png)",
        ]
    )


def margin_text(results: dict[str, Any], first: str, second: str, place: int) -> str:
    """By how many points a system is better than another at a share of labels, with the interval over speakers."""
    seeds = list(results["measurements"]["few-labels"].values())
    one, other = (
        100 * np.mean([content["curves"][system][place]["right"] for content in seeds], axis=0)
        for system in (first, second)
    )
    return _difference(one, other, seeds[0]["speakers"], 1)


def _origin(results: dict[str, Any]) -> str:
    commits = sorted({str(each["commit"]) for each in results["environments"]})
    devices = sorted({each["device"] for each in results["environments"]})
    return (
        f"Seeds {', '.join(map(str, results['seeds']))}; commit {', '.join(commits)}; {', '.join(devices)}; "
        f"{results['seconds'] / 60:.0f} minutes. Any row anew, in an empty `--work_dir`: "
        f"`python -m vqmae_hf.experiments.mdvae run {results['study']} --only 'disentanglement/0'`."
    )


def _share(value: Spread) -> str:
    return _number(value, 2)


def _percent(value: Spread) -> str:
    return _number((100 * value[0], None if value[1] is None else 100 * value[1]), 1)


def _number(value: Spread, digits: int) -> str:
    mean, std = value
    return f"{round(mean, digits) + 0:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")
