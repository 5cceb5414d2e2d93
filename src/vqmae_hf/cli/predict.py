"""`vqmae-hf predict`."""

import csv
import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.clip_paths import find_clips
from vqmae_hf.cli.options import ClipOption, DeviceOption, JsonOption, ModelOption, QuietOption, read_clip_options
from vqmae_hf.cli.running import DONE, FAILED, SOME_FAILED, Answer, shows_progress, usage_error, verb

# A model needs one modality of the two; what was used stands in the answer.
LENIENT = {"on_missing_audio": "visual_only", "on_missing_video": "audio_only", "on_silence": "visual_only"}
# Bars under the scores over time.
BAR_WIDTH = 20


@verb
def predict(
    clips: Annotated[list[str], typer.Argument(help="Files, folders, or quoted patterns.", show_default=False)],
    model: ModelOption = None,
    top_k: Annotated[int, typer.Option("--top-k", min=1, help="Labels to show for each clip.")] = 3,
    windows: Annotated[bool, typer.Option("--windows", help="Also the scores over time.")] = False,
    hop_seconds: Annotated[
        float | None, typer.Option(help="Seconds between windows.", show_default="windows side by side")
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write a table to FILE; '-' is stdout.")
    ] = None,
    clip_option: ClipOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> Answer:
    """Name the emotion of one clip or of many.

    The face is found, followed and cut out; a clip without sound is only looked at, a sound without picture only listened
    to, and the column "used" says so. Clips that cannot be used are listed with the reason, and the others go on
    (exit code 3).

    [bold]Examples[/]

      vqmae-hf predict clip.mp4 --model my_model
      vqmae-hf predict interviews 'more/*.mp4' --model my_model --csv emotions.csv
      vqmae-hf predict clip.mp4 --model my_model --windows --hop-seconds 0.5
      vqmae-hf predict clip.mp4 --model my_model --json --clip-option on_missing_face=center
    """
    if as_json and csv_file == "-":
        usage_error("stdout takes one of --json and --csv -; give --csv a file", "--csv")
    options = {**LENIENT, **read_clip_options(clip_option)}
    paths = find_clips(clips)

    from vqmae_hf.cli.checkpoints import load_classifier, quieten_transformers

    quieten_transformers()
    classify = load_classifier(model, device)
    predictions, failures = [], []
    for path in _with_progress(paths, quiet):
        try:
            predictions.append(_predict_one(classify, path, options, windows or hop_seconds is not None, hop_seconds))
        except ValueError as error:
            failures.append({"path": str(path), "error": type(error).__name__, "message": str(error)})
    document = {"model": classify.model.name_or_path, "predictions": predictions, "failures": failures}
    shown: list[Any] = []
    if csv_file is not None:
        table = _as_csv(predictions, list(classify.model.config.id2label.values()))
        if csv_file == "-":
            shown.append(table.removesuffix("\n"))
        else:
            Path(csv_file).write_text(table, encoding="utf-8", newline="")
    if csv_file != "-":
        shown += _as_tables(predictions, top_k)
    _report_failures(failures, len(paths))
    code = DONE if not failures else SOME_FAILED if predictions else FAILED
    return Answer(document, shown, code)


def _predict_one(
    classify: Any, path: Path, options: dict[str, Any], windows: bool, hop_seconds: float | None
) -> dict[str, Any]:
    """The answer for one file, as `--json` has it."""
    from vqmae_hf.data.clips import load_clip
    from vqmae_hf.inference.emotion_over_time import score_windows

    modalities = tuple(getattr(classify.model.config, "modalities", ("audio", "visual")))
    clip = load_clip(str(path), **{**classify.processor.clip_options(modalities), **options})
    scores = classify(clip, top_k=None)
    found = {"audio": clip.waveform, "visual": clip.frames}
    answer = {
        "path": str(path),
        "label": scores[0]["label"],
        "scores": {item["label"]: round(item["score"], 6) for item in scores},
        "duration_seconds": round(clip.duration_seconds, 3),
        "used": [name for name in modalities if found[name] is not None],
    }
    if windows:
        answer["windows"] = [
            {
                "start_seconds": round(window.start_seconds, 3),
                "end_seconds": round(window.end_seconds, 3),
                "label": window.label,
                "scores": {label: round(score, 6) for label, score in window.scores.items()},
            }
            for window in score_windows(clip, classify, hop_seconds=hop_seconds)
        ]
    return answer


def _with_progress(paths: list[Path], quiet: bool) -> Any:
    """The paths, under a bar on stderr where several clips are waited for."""
    if len(paths) < 2 or not shows_progress(quiet):
        return paths
    from rich.console import Console
    from rich.progress import track

    return track(paths, "clips", console=Console(file=sys.stderr), transient=True)


def _report_failures(failures: list[dict[str, str]], num_clips: int) -> None:
    from vqmae_hf.cli.running import say

    for failure in failures:
        say(f"Not used: {failure['message']}", "yellow")
    if failures and num_clips > 1:
        say(f"{len(failures)} of {num_clips} clips could not be used.", "yellow")


def _as_tables(predictions: list[dict[str, Any]], top_k: int) -> list[Any]:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    if not predictions:
        return []
    best = min(top_k, len(predictions[0]["scores"]))
    table = Table("clip", "emotion", "score", box=box.SIMPLE_HEAD)
    for place in range(2, best + 1):
        table.add_column(f"{place}.", style="dim")
    table.add_column("seconds", justify="right")
    table.add_column("used")
    for answer in predictions:
        ranked = list(answer["scores"].items())
        others = [f"{label} {score:.2f}" for label, score in ranked[1:best]]
        used = "+".join(answer["used"])
        seconds = f"{answer['duration_seconds']:.1f}"
        label, score = ranked[0]
        table.add_row(escape(answer["path"]), f"[bold]{escape(label)}[/]", f"{score:.2f}", *others, seconds, used)
    return [table, *(_windows_table(answer) for answer in predictions if "windows" in answer)]


def _windows_table(answer: dict[str, Any]) -> Any:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("from", "to", "emotion", "score", "", box=box.SIMPLE_HEAD, title=escape(answer["path"]))
    for window in answer["windows"]:
        score = window["scores"][window["label"]]
        bar = "█" * round(BAR_WIDTH * score)
        times = (f"{window[name]:.2f} s" for name in ("start_seconds", "end_seconds"))
        table.add_row(*times, escape(window["label"]), f"{score:.2f}", bar)
    return table


def _as_csv(predictions: list[dict[str, Any]], labels: list[str]) -> str:
    """One line per clip, or per window where there are windows; a column of scores for each label."""
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(["path", "start_seconds", "end_seconds", "emotion", *labels, "used"])
    for answer in predictions:
        whole = {**answer, "start_seconds": 0.0, "end_seconds": answer["duration_seconds"]}
        for part in answer.get("windows", [whole]):
            times = [part["start_seconds"], part["end_seconds"]]
            scores = [part["scores"][label] for label in labels]
            table.writerow([answer["path"], *times, part["label"], *scores, "+".join(answer["used"])])
    return lines.getvalue()
