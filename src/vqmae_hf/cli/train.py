"""`vqmae-hf train STAGE`: the training programs, and all of them at once for a folder of one's own clips."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.options import ClipOption, JsonOption, QuietOption, read_clip_options, read_pairs, usable_processors
from vqmae_hf.cli.running import Answer, say, shows_progress, usage_error, verb

# Options of the stages' programs are theirs to read: whatever is not known here goes to them.
FURTHER_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}

# Arguments of fine-tuning that say which clips are trained on with which tokenizers.
SETTLED_BY_THE_CHAIN = {
    *("audio_tokenizer", "fold", "folds", "split_seed"),
    *("test_share", "token_store", "validation_share", "visual_tokenizer"),
}

OutputDirOption = Annotated[
    Path | None, typer.Option("--output-dir", "-o", help="Folder of checkpoints, model, metrics and pictures.")
]
RecipeOption = Annotated[
    str | None, typer.Option("--recipe", "-r", help="Packaged recipe, or a YAML file: what differs from the defaults.")
]
PatternOption = Annotated[
    str | None,
    typer.Option(help="Regular expression that finds the speaker in a clip's path, e.g. '([^/_]+)_[^/]*$'."),
]
AllOption = Annotated[
    bool, typer.Option("--all-options", help="List every argument of the stage's program, and exit.")
]
ClipsArgument = Annotated[
    str | None,
    typer.Argument(help="Folder of clips to train on, in place of --corpus and --corpus-root.", show_default=False),
]
StoreArgument = Annotated[
    str | None, typer.Argument(help="Token store (of `tokenize`), in place of --token-store.", show_default=False)
]


@verb
def audio_tokenizer(
    context: typer.Context,
    clips: ClipsArgument = None,
    output_dir: OutputDirOption = None,
    speaker_pattern: PatternOption = None,
    recipe: RecipeOption = None,
    all_options: AllOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> Answer | None:
    """Train the VQ-VAE that turns voices into codes.

    Clips are decoded once, to OUTPUT_DIR/clips unless --clips-dir says otherwise. Further options are those of the program,
    see --all-options. An interrupted run goes on from its last checkpoint.

    [bold]Examples[/]

      vqmae-hf train audio-tokenizer my_clips --recipe laptop --face-size 64 -o runs/audio
      vqmae-hf train audio-tokenizer --recipe vqmae --corpus ravdess --corpus-root RAVDESS -o runs/audio
      vqmae-hf train audio-tokenizer --all-options
    """
    return _train_tokenizer("audio", context, clips, output_dir, speaker_pattern, recipe, all_options, quiet)


@verb
def visual_tokenizer(
    context: typer.Context,
    clips: ClipsArgument = None,
    output_dir: OutputDirOption = None,
    speaker_pattern: PatternOption = None,
    recipe: RecipeOption = None,
    all_options: AllOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> Answer | None:
    """Train the VQ-VAE that turns faces into codes.

    Clips are decoded once, to OUTPUT_DIR/clips unless --clips-dir says otherwise. Further options are those of the program,
    see --all-options. An interrupted run goes on from its last checkpoint.

    [bold]Examples[/]

      vqmae-hf train visual-tokenizer my_clips --recipe laptop --face-size 64 -o runs/visual
      vqmae-hf train visual-tokenizer --recipe laptop --clips-dir runs/audio/clips -o runs/visual
    """
    return _train_tokenizer("visual", context, clips, output_dir, speaker_pattern, recipe, all_options, quiet)


@verb
def pretrain(
    context: typer.Context,
    store: StoreArgument = None,
    output_dir: OutputDirOption = None,
    recipe: RecipeOption = None,
    all_options: AllOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> Answer | None:
    """Pre-train a masked autoencoder on codes, without labels.

    Further options are those of the program, see --all-options. On several devices: `accelerate launch -m vqmae_hf.cli
    train pretrain ...`.

    [bold]Examples[/]

      vqmae-hf train pretrain tokens --audio-tokenizer runs/audio --visual-tokenizer runs/visual -r quickstart -o runs/pre
    """
    from vqmae_hf.data.token_store import read_token_store_info
    from vqmae_hf.training import pretrain as program
    from vqmae_hf.training.arguments import PretrainArguments

    store, further = _split_arguments(store, context)
    own = _given(token_store=store, output_dir=output_dir)
    if store is not None:
        own |= _hold_nobody_out(read_token_store_info(store).speakers, further)
    return _run_program(program.run, PretrainArguments, further, own, recipe, all_options, quiet)


@verb
def mdvae(
    context: typer.Context,
    store: Annotated[
        str | None,
        typer.Argument(help="Latent store (of `tokenize --latents`), in place of --latent-store.", show_default=False),
    ] = None,
    output_dir: OutputDirOption = None,
    recipe: RecipeOption = None,
    all_options: AllOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> Answer | None:
    """Train the dynamical VAE that separates who speaks from what lips, head and voice do.

    Its tokenizers are trained with the recipes "mdvae" (30 frames per second), and `tokenize --latents` makes its store.
    Further options are those of the program, see --all-options.

    [bold]Examples[/]

      vqmae-hf train mdvae latents --audio-tokenizer runs/audio --visual-tokenizer runs/visual --recipe paper -o mdvae
    """
    from vqmae_hf.data.latent_store import read_latent_store_info
    from vqmae_hf.training import train_mdvae
    from vqmae_hf.training.mdvae_arguments import MDVAEArguments

    store, further = _split_arguments(store, context)
    own = _given(latent_store=store, output_dir=output_dir)
    if store is not None:
        own |= _hold_nobody_out(read_latent_store_info(store).speakers, further)
    return _run_program(train_mdvae.run, MDVAEArguments, further, own, recipe, all_options, quiet)


def _train_tokenizer(
    modality: str,
    context: typer.Context,
    clips: str | None,
    output_dir: Path | None,
    speaker_pattern: str | None,
    recipe: str | None,
    all_options: bool,
    quiet: bool,
) -> Answer | None:
    from vqmae_hf.training import train_audio_tokenizer, train_visual_tokenizer
    from vqmae_hf.training.arguments import AudioTokenizerArguments, VisualTokenizerArguments

    clips, further = _split_arguments(clips, context)
    own = _given(corpus_root=clips, output_dir=output_dir)
    if clips is not None and not {"corpus", "corpus_options"} & _names(further):
        from vqmae_hf.data.corpora import load_corpus
        from vqmae_hf.own_corpus.clips import folder_layout

        own["corpus"] = folder_layout(Path(clips))
        options = {} if speaker_pattern is None else {"speaker_pattern": speaker_pattern}
        own["corpus_options"] = json.dumps(options)
        own |= _hold_nobody_out(load_corpus(own["corpus"], clips, **options)["speaker"], further)
    elif speaker_pattern is not None:
        usage_error("goes with a folder of clips; for --corpus use --corpus-options", "--speaker-pattern")
    if output_dir is not None and "clips_dir" not in _names(further):
        own["clips_dir"] = str(output_dir / "clips")
    if modality == "audio":
        return _run_program(
            train_audio_tokenizer.run, AudioTokenizerArguments, further, own, recipe, all_options, quiet
        )
    return _run_program(train_visual_tokenizer.run, VisualTokenizerArguments, further, own, recipe, all_options, quiet)


def _given(**values: Any) -> dict[str, str]:
    """Arguments that were given, as the programs' command lines have them."""
    return {name: str(value) for name, value in values.items() if value is not None}


def _split_arguments(place: str | None, context: typer.Context) -> tuple[str | None, list[str]]:
    """The folder, if one was given, and the further options. Without a folder, the first of them stands in its place."""
    if place is not None and place.startswith("-"):
        return None, [place, *context.args]
    return place, list(context.args)


def _names(further: list[str]) -> set[str]:
    """Arguments that the further options set."""
    return {part.split("=")[0].lstrip("-").replace("-", "_") for part in further if part.startswith("--")}


def _hold_nobody_out(speakers: Iterable[str], further: list[str]) -> dict[str, str]:
    """Shares of 0 where speakers are not known and nothing was said about the split."""
    from vqmae_hf.data.corpora import UNKNOWN_SPEAKER

    split = {"validation_share", "test_share", "num_folds", "folds"}
    if UNKNOWN_SPEAKER not in set(speakers) or split & _names(further):
        return {}
    say("Warning: speakers are not known, so nobody is held out; --speaker-pattern would name them.", "yellow")
    return {"validation_share": "0", "test_share": "0"}


def _run_program(
    run: Any,
    argument_class: type,
    further: list[str],
    own: dict[str, str],
    recipe: str | None,
    all_options: bool,
    quiet: bool,
) -> Answer | None:
    """Run a stage's program with its own arguments, those given here before those of the command line."""
    from vqmae_hf.cli.checkpoints import quieten_transformers
    from vqmae_hf.training.recipes import describe_arguments, parse_arguments

    if all_options:
        return Answer({"help": describe_arguments(argument_class)}, [describe_arguments(argument_class)])
    quieten_transformers()
    flags = [part for name, value in own.items() for part in (f"--{name}", value)]
    flags += ["--recipe", recipe] if recipe is not None else []
    flags += [] if shows_progress(quiet) else ["--disable_tqdm", "True"]
    result = run(parse_arguments(argument_class, [*flags, *further]))
    document = {"output_dir": str(result.output_dir), "metrics": result.metrics}
    results = getattr(result, "results", None)
    if results is not None:
        document["test"] = {name: part["metrics"] for name, part in results["test"].items()}
    return Answer(document, [*_metric_lines(document), f"written: {result.output_dir}"])


def _metric_lines(document: dict[str, Any]) -> list[str]:
    """The numbers of a run, one line for each set of clips."""
    sets = {"validation": document["metrics"].get("validation"), **document.get("test", {})}
    names = {name: name if name == "validation" else f"test, {name}" for name in sets}
    return [
        f"{names[name]}: "
        + "  ".join(f"{key} {value:.3f}" for key, value in metrics.items() if _is_result(key, value))
        for name, metrics in sets.items()
        if metrics
    ]


def _is_result(name: str, value: Any) -> bool:
    return isinstance(value, float) and not name.endswith(("runtime", "per_second", "epoch"))


@verb
def finetune(
    context: typer.Context,
    clips: Annotated[
        str | None,
        typer.Argument(
            help="Folder of labelled clips: one sub-folder per emotion, or metadata.csv.", show_default=False
        ),
    ] = None,
    output_dir: OutputDirOption = None,
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="Checkpoint with tokenizers to start from.", show_default="none: all is trained on the clips"
        ),
    ] = None,
    speaker_pattern: PatternOption = None,
    num_folds: Annotated[
        int | None,
        typer.Option(
            help="Runs that together test every speaker once; 0: one run.",
            show_default="5 with --pretrained, else 0",
        ),
    ] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="audio or visual. Repeatable.", show_default="what the clips have")
    ] = None,
    corpus: Annotated[
        str | None, typer.Option(help="Kind of corpus, as for `tokenize`.", show_default="a folder of clips")
    ] = None,
    corpus_option: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Option of the corpus loader. Repeatable.")
    ] = None,
    clip_option: ClipOption = None,
    num_proc: Annotated[
        int | None, typer.Option(help="Processes that decode clips.", show_default="one per processor")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of the split and the training.", show_default="0")] = None,
    recipe: RecipeOption = None,
    all_options: AllOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> Answer | None:
    """Train a classifier of emotions on a folder of your own clips.

    Everything in one go: faces are found, codes learned (or those of --pretrained taken), emotions learned on some
    speakers, the best epoch chosen on others, and the result reported on speakers that nothing has seen. OUTPUT_DIR is then
    a model for `vqmae-hf predict`, with report.html to read. A laptop will do; the same command again goes on where it
    stopped.

    Speakers are read from the column "speaker" of metadata.csv or by --speaker-pattern. Without them clips are dealt at
    random, and the report warns of what that means.

    Without a folder but with --token-store, this is the fine-tuning program alone. Further options are that program's, see
    --all-options.

    [bold]Examples[/]

      vqmae-hf train finetune my_clips -o my_model
      vqmae-hf train finetune my_clips -o my_model --speaker-pattern '([^/_]+)_[^/]*$'
      vqmae-hf train finetune my_clips -o my_model --pretrained quickstart/model
      vqmae-hf train finetune --token-store tokens --pretrained runs/pre -o runs/emotion
    """
    from vqmae_hf.training.arguments import FinetuneArguments

    clips, further = _split_arguments(clips, context)
    if clips is None:
        from vqmae_hf.training import finetune as program

        if speaker_pattern or modality or corpus or corpus_option or clip_option:
            usage_error("what concerns clips goes with a folder of clips; a token store has them settled")
        own = _given(output_dir=output_dir, pretrained=pretrained, num_folds=num_folds, seed=seed)
        return _run_program(program.run, FinetuneArguments, further, own, recipe, all_options, quiet)
    if output_dir is None:
        usage_error("missing: the folder to write", "--output-dir")
    options = read_pairs("--corpus-option", corpus_option)
    if speaker_pattern is not None:
        options["speaker_pattern"] = speaker_pattern

    from vqmae_hf.cli.checkpoints import quieten_transformers
    from vqmae_hf.own_corpus import open_own_clips, train_on_own_clips
    from vqmae_hf.own_corpus.report import write_report
    from vqmae_hf.training.recipes import read_flags

    quieten_transformers()
    overrides = read_flags(FinetuneArguments, further)
    if settled := sorted(set(overrides) & SETTLED_BY_THE_CHAIN):
        usage_error(f"{', '.join(settled)} cannot be chosen when a folder of clips is trained on")
    opened = open_own_clips(clips, corpus=corpus, corpus_options=options, modalities=modality)
    say(f"{len(opened.clips)} clips, {len(opened.classes)} emotions, split by {opened.split_by}")
    for note in opened.notes:
        say(f"Warning: {note}", "yellow")
    result = train_on_own_clips(
        opened,
        output_dir,
        pretrained=pretrained,
        num_folds=num_folds,
        seed=seed or 0,
        num_processes=num_proc or usable_processors(),
        clip_options=read_clip_options(clip_option),
        overrides={**({"recipe": recipe} if recipe is not None else {}), **overrides},
        announce=lambda step: say(f"== {step}", "bold"),
    )
    write_report(result)
    return Answer(
        {
            "output_dir": str(output_dir),
            "failures": [failure._asdict() for failure in result.failures],
            **result.results,
        },
        own_corpus_lines(result.results, output_dir),
    )


def own_corpus_lines(results: dict[str, Any], output_dir: Path) -> list[str]:
    """What came out, for people."""
    whose = "speakers never seen in training" if results["split_by"] == "speakers" else "clips never seen in training"
    count = results["num_tested_speakers"]
    shown = [f"accuracy on {count} {whose}:"]
    for name, part in results["test"].items():
        shown.append(f"  {name:13} {part['metrics']['accuracy']:.3f}   macro-F1 {part['metrics']['macro_f1']:.3f}")
    shown.append(f"  {'guessing':13} {results['chance']:.3f}   always the most frequent {results['majority']:.3f}")
    if results["num_failures"]:
        shown.append(
            f"{results['num_failures']} clips could not be used; {output_dir}/work/clips/failures.jsonl says why"
        )
    return [*shown, f"report: {output_dir}/report.html", f"use it: vqmae-hf predict CLIP --model {output_dir}"]
