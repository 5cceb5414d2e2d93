"""The pictures of a study: those of its numbers from its JSON alone, those of clips from a model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from vqmae_hf.evaluation.disentanglement import ALL_LATENTS
from vqmae_hf.evaluation.face_corruptions import FaceCorruption
from vqmae_hf.experiments.mdvae.measurements import decode_media, encode_rows, swap_partners
from vqmae_hf.experiments.mdvae.page import LATENTS, mean_of
from vqmae_hf.experiments.mdvae.results import first_seed, over_seeds
from vqmae_hf.experiments.mdvae.study import BOTH, StudyWorkspace
from vqmae_hf.inference import denoise_clip, interpolate_clips, load_talking_face_model, swap_clips

# Okabe and Ito's palette, which everyone can tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
# Agreement of unswapped clips with the truth below which a factor cannot be followed in decoded media.
LEAST_READABLE = 0.15
SHOWN_PAIRS = 8
SHOWN_METHODS = (
    "visual VAE",
    "MDVAE without sound",
    "MDVAE with sound",
    "mean of the undamaged frames",
    "mean moved by the visual VAE",
    "mean moved by the MDVAE without sound",
    "mean moved by the MDVAE with sound",
)


def draw_results(path: Path) -> list[Path]:
    """Write the pictures of every measurement that `<name>.json` holds, beside it."""
    results = json.loads(path.read_text(encoding="utf-8"))
    drawings = {
        "disentanglement": ("latents", _draw_scores),
        "swaps": ("swaps", _draw_swaps),
        "denoising": ("denoising", _draw_denoising),
        "few-labels": ("few-labels", _draw_few_labels),
    }
    made = []
    for name, (suffix, draw) in drawings.items():
        if name in results["measurements"]:
            figure = Figure(figsize=(9, 5), layout="constrained")
            FigureCanvasAgg(figure)
            draw(figure.subplots(), results)
            made.append(path.with_name(f"{path.stem}-{suffix}.png"))
            figure.savefig(made[-1], dpi=110, metadata={"Software": None})
    return made


def draw_clips(workspace: StudyWorkspace, folder: Path) -> list[Path]:
    """A swap, an interpolation and a denoising of real files by the model of the first seed: pictures, and the mp4 files."""
    study, seed = workspace.study, workspace.study.seeds[0]
    talker = load_talking_face_model(workspace.model(BOTH, seed))
    values = workspace.part("test").values
    first, second = swap_partners(values, 1, seed)
    rows = workspace.part("test").rows[[first[0], second[0]]]
    source, target = (_file_of(workspace, int(row)) for row in rows)
    options = {"processor": talker.processor, **study.data.get("clip_options", {})}
    mouth = FaceCorruption("occlusion", tuple(study.regions["mouth"]))
    clips = {
        "swap-w": swap_clips(source, target, talker.model, factors=("w",), **options),
        "swap-z_av": swap_clips(source, target, talker.model, factors=("z_av",), **options),
        "interpolation": interpolate_clips(source, target, talker.model, weights=5, **options),
        "denoised": denoise_clip(target, talker.model, corruption=mouth, **options),
    }
    made = []
    for name, clip in clips.items():
        made += [folder / f"{study.name}-{name}.png", clip.write(workspace.folder / "clips-written" / f"{name}.mp4")]
        clip.figure().save(made[-2], optimize=True)
    return [*made, draw_swapped_pairs(workspace, folder)]


def draw_swapped_pairs(workspace: StudyWorkspace, folder: Path) -> Path:
    """Some pairs of unseen speakers, w of the one put on the other, where the mouth is most closed and most open."""
    seed, test = workspace.study.seeds[0], workspace.part("test")
    model = workspace.model(BOTH, seed)
    pairs = swap_partners(test.values, SHOWN_PAIRS, seed)
    faces = [workspace.frames(test.rows[places]) for places in pairs]
    source, target = (encode_rows(model, workspace, test.rows[places]) for places in pairs)
    decoded = [decode_media(model, latents).frames for latents in (source, target, model.swap(source, target))]
    closed, opened = (pick(test.values.values["mouth opening"][pairs[1], :, 0], 1) for pick in (np.argmin, np.argmax))
    each = np.arange(len(closed))
    columns = {"source": faces[0][each, opened], "its decoding": decoded[0][each, opened]}
    for name, times in (("mouth closed", closed), ("mouth open", opened)):
        columns |= {f"target,\n{name}": faces[1][each, times], f"its decoding,\n{name}": decoded[1][each, times]}
        columns[f"w of the source,\n{name}"] = decoded[2][each, times]
    figure = Figure(figsize=(1.35 * len(columns), 1.25 * len(each) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    for row, line in enumerate(figure.subplots(len(each), len(columns), squeeze=False)):
        for axes, (name, pictures) in zip(line, columns.items(), strict=True):
            axes.imshow(pictures[row], interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, fontsize=9)
    path = folder / f"{workspace.study.name}-swapped-pairs.png"
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return path


def _file_of(workspace: StudyWorkspace, row: int) -> Path:
    clip_id = workspace.clips["clip_id"][row]
    return next((workspace.corpus_root / "clips").rglob(f"{clip_id}.mp4"))


def _draw_scores(axes: Axes, results: dict[str, Any]) -> None:
    factors = first_seed(results, "disentanglement")["factors"]
    columns = (*LATENTS, ALL_LATENTS)
    scores = [
        [over_seeds(results, "disentanglement", lambda c, f=f, n=n: c["factors"][f]["scores"][n])[0] for n in columns]
        for f in factors
    ]
    rows = [(name, row["home"]) for name, row in factors.items()]
    _heat_map(axes, np.array(scores), rows, columns, "How well each latent tells each factor of unseen speakers")


def _draw_swaps(axes: Axes, results: dict[str, Any]) -> None:
    factors = first_seed(results, "swaps")["factors"]
    moved = np.full((len(factors), len(LATENTS)), np.nan)
    for row, factor in enumerate(factors):
        readable, _ = over_seeds(results, "swaps", lambda c, f=factor: c["factors"][f]["none"]["target"])
        if readable >= LEAST_READABLE:
            moved[row] = [
                over_seeds(results, "swaps", lambda c, f=factor, n=name: c["factors"][f][n]["moved"])[0]
                for name in LATENTS
            ]
    rows = [(name, row["home"]) for name, row in factors.items()]
    title = "Share of each factor that comes along with a swapped latent; grey: not readable in decoded clips"
    _heat_map(axes, moved, rows, LATENTS, title)


def _heat_map(
    axes: Axes, values: np.ndarray, rows: list[tuple[str, str]], columns: tuple[str, ...], title: str
) -> None:
    """Values from 0 to 1; the home of each row has a frame."""
    axes.set_facecolor("#bbbbbb")
    axes.imshow(np.ma.masked_invalid(values), cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if np.isnan(value):
            continue
        axes.text(
            column,
            row,
            f"{round(value, 2) + 0:.2f}",
            ha="center",
            va="center",
            color="black" if value > 0.55 else "white",
        )
    for row, (_, home) in enumerate(rows):
        place = columns.index(home)
        frame = [[place - 0.48, row - 0.47], [place + 0.48, row + 0.47]]
        (left, top), (right, bottom) = frame
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top], color="#D55E00", linewidth=2.5)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_title(f"{title}\n(framed: the latent that a factor belongs to)", fontsize=11)


def _draw_denoising(axes: Axes, results: dict[str, Any]) -> None:
    conditions = list(first_seed(results, "denoising")["conditions"])
    width = 0.8 / len(SHOWN_METHODS)
    for place, method in enumerate(SHOWN_METHODS):
        spreads = [
            over_seeds(results, "denoising", lambda c, k=k, m=method: mean_of(c, k, m, "psnr")) for k in conditions
        ]
        axes.errorbar(
            np.arange(len(conditions)) + (place - (len(SHOWN_METHODS) - 1) / 2) * width,
            [mean for mean, _ in spreads],
            yerr=[std or 0 for _, std in spreads],
            linestyle="none",
            marker="o",
            capsize=3,
            color=COLOURS[place],
            label=method,
        )
    axes.set_xticks(range(len(conditions)), conditions)
    axes.set_ylabel("PSNR inside the damage, dB")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    axes.set_title("Damaged faces restored", fontsize=11)


def _draw_few_labels(axes: Axes, results: dict[str, Any]) -> None:
    first = first_seed(results, "few-labels")
    models = list(dict.fromkeys(system.split(",")[0] for system in first["curves"]))
    for system, points in first["curves"].items():
        draws = [
            [x for c in results["measurements"]["few-labels"].values() for x in c["curves"][system][i]["accuracies"]]
            for i in range(len(points))
        ]
        axes.errorbar(
            [100 * point["share"] for point in points],
            [100 * np.mean(values) for values in draws],
            yerr=[100 * np.std(values, ddof=1) if len(values) > 1 else 0 for values in draws],
            color=COLOURS[models.index(system.split(",")[0])],
            linestyle="--" if "network" in system else "-",
            marker="o",
            capsize=3,
            label=system,
        )
    axes.axhline(100 * first["chance"], color="grey", linestyle=":", linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([100 * point["share"] for point in next(iter(first["curves"].values()))])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("labelled training clips, %")
    axes.set_ylabel("accuracy on unseen speakers, % (± over draws and seeds)")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    axes.set_title("Emotion with few labels", fontsize=11)
