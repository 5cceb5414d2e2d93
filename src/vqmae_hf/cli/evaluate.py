"""`vqmae-hf evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.options import ClipOption, DeviceOption, JsonOption, ModelOption, QuietOption, read_clip_options
from vqmae_hf.cli.running import DONE, SOME_FAILED, Answer, say, shows_progress, usage_error, verb


@verb
def evaluate(
    clips: Annotated[
        str, typer.Argument(help="Folder of labelled clips, token store, or data set on the Hub.", show_default=False)
    ],
    model: ModelOption = None,
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", "-o", help="Folder for evaluation.json and evaluation.png.")
    ] = None,
    label_map: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLIPS=MODEL",
            help="A label of the clips by the model's name for it; CLIPS= leaves it out. Repeatable.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="PART=NAME", help="Column that plays a part, e.g. emotion=mood. Repeatable."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a data set that has several.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Windows that pass the model together.")] = 8,
    clip_option: ClipOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> Answer:
    """Test a classifier on labelled clips.

    Accuracy, mean recall and macro-F1 beside chance, and the confusion matrix. Clips that the model was trained on say
    nothing: test it on people it has not met.

    [bold]Examples[/]

      vqmae-hf evaluate my_clips --model my_model -o evaluation
      vqmae-hf evaluate tokens --model my_model --json
      vqmae-hf evaluate my_clips --model my_model --label-map angry=happy --label-map sad=
    """
    options = read_clip_options(clip_option)
    labels = _read_labels(label_map)
    columns = dict(pair.split("=", 1) for pair in column or [] if "=" in pair)
    if len(columns) != len(column or []):
        usage_error("each is PART=NAME, with a part once", "--column")

    from vqmae_hf.cli.checkpoints import choose_device, find_model, quieten_transformers
    from vqmae_hf.evaluation.checkpoint_evaluation import evaluate_checkpoint

    quieten_transformers()
    evaluation = evaluate_checkpoint(
        find_model(model),
        clips,
        output_dir=output_dir,
        label_map=labels,
        columns=columns or None,
        split=split,
        batch_size=batch_size,
        device=choose_device(device),
        progress=shows_progress(quiet),
        **options,
    )
    failed = evaluation.results["failed"]
    for failure in failed:
        say(f"Not used: {failure['reason']}", "yellow")
    return Answer(evaluation.results, _shown(evaluation.results, output_dir), SOME_FAILED if failed else DONE)


def _read_labels(pairs: list[str] | None) -> dict[str, str | None] | None:
    """`["a=b", "c="]` as `{"a": "b", "c": None}`."""
    if not pairs:
        return None
    if wrong := [pair for pair in pairs if "=" not in pair]:
        usage_error(f"{wrong[0]!r} is not CLIPS=MODEL", "--label-map")
    return {name: label or None for name, label in (pair.split("=", 1) for pair in pairs)}


def _shown(results: dict[str, Any], output_dir: Path | None) -> list[Any]:
    """The numbers for people: of all clips, and of each emotion."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table("emotion", "clips", "recall", "precision", "F1", box=box.SIMPLE_HEAD)
    for name, scores in results["per_class"].items():
        numbers = (f"{scores[part]:.3f}" for part in ("recall", "precision", "f1"))
        table.add_row(escape(name), str(scores["num_clips"]), *numbers)
    metrics = "  ".join(f"{name} {value:.3f}" for name, value in results["metrics"].items())
    shown: list[Any] = [table, f"{results['num_clips']} clips: {metrics}"]
    shown.append(f"naming the most frequent emotion always: accuracy {results['majority_accuracy']:.3f}")
    if results["left_out"]:
        left = ", ".join(f"{name} ({count})" for name, count in results["left_out"].items())
        shown.append(f"left out, without a label of the model: {left}")
    return [*shown, *([] if output_dir is None else [f"written: {output_dir}"])]
