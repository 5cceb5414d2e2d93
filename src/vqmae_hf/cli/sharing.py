"""`vqmae-hf convert`, `push` and `demo`: checkpoints from elsewhere, to elsewhere, and shown to others."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.options import JsonOption, read_pairs
from vqmae_hf.cli.running import Answer, verb


@verb
def convert(
    source: Annotated[Path, typer.Argument(help="Checkpoint file of the papers' authors (torch).")],
    output_dir: Annotated[Path, typer.Argument(help="New folder.")],
    label: Annotated[
        list[str] | None, typer.Option(help="Name of a classifier's class, in the order of the numbers. Repeatable.")
    ] = None,
    audio_tokenizer: Annotated[
        str | None, typer.Option(help="To put into the model: a folder, or a file of the authors.")
    ] = None,
    visual_tokenizer: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    config_option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Field of the configuration that cannot be read off. Repeatable."),
    ] = None,
    as_json: JsonOption = False,
) -> Answer:
    """Turn a checkpoint of the papers' authors into a folder of this package.

    Its kind and sizes are read off the weights. The file is opened as weights only, so that nothing in it can run.

    [bold]Examples[/]

      vqmae-hf convert speech_vqvae.pt runs/audio
      vqmae-hf convert classifier.pt emotions --label neutral --label happy --label sad --label angry
    """
    from vqmae_hf.cli.checkpoints import quieten_transformers
    from vqmae_hf.conversion import convert_checkpoint

    quieten_transformers()
    report = convert_checkpoint(
        source,
        output_dir,
        labels=label,
        audio_tokenizer=audio_tokenizer,
        visual_tokenizer=visual_tokenizer,
        config_overrides=read_pairs("--config-option", config_option),
    )
    shown = [f"{report.title}: {report.model_class}, {report.num_parameters:,} parameters"]
    if report.assumed:
        assumed = ", ".join(f"{name}={value}" for name, value in report.assumed.items())
        shown.append(f"assumed, since weights do not say: {assumed} (--config-option changes it)")
    if report.left_behind:
        shown.append(
            f"left behind: {', '.join(report.left_behind[:5])}{', ...' if len(report.left_behind) > 5 else ''}"
        )
    return Answer(dataclasses.asdict(report), [*shown, *report.notes, f"written: {output_dir}"])


@verb
def push(
    folder: Annotated[Path, typer.Argument(help="Checkpoint.")],
    repo_id: Annotated[str, typer.Argument(help="Where to: user/name.")],
    private: Annotated[
        bool | None,
        typer.Option("--private/--public", help="Of a new repository.", show_default="your account's setting"),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch.", show_default="main")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request instead.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Assemble and list; upload nothing.")] = False,
    output_dir: Annotated[Path | None, typer.Option(help="Keep what is assembled in this new folder.")] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(help="Results file for the card. Repeatable.", show_default="those in the folder"),
    ] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Corpus it was trained on, for the card. Repeatable.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Field of the card, e.g. license=mit. Repeatable.")
    ] = None,
    as_json: JsonOption = False,
) -> Answer:
    """Publish a checkpoint on the Hugging Face Hub: weights, processor, code, results and a card, in one commit.

    Log in first with `hf auth login`. Look at what would go with --dry-run.

    [bold]Examples[/]

      vqmae-hf push my_model me/vqmae-emotion --dry-run --output-dir to_publish
      vqmae-hf push my_model me/vqmae-emotion --private --corpus ravdess --metadata license=cc-by-nc-sa-4.0
    """
    from vqmae_hf.cli.checkpoints import quieten_transformers
    from vqmae_hf.hub import push_checkpoint

    quieten_transformers()
    publication = push_checkpoint(
        folder,
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        dry_run=dry_run,
        output_dir=output_dir,
        results=results,
        corpora=corpus,
        metadata=read_pairs("--metadata", metadata) or None,
    )
    document: dict[str, Any] = {
        "repo_id": publication.repo_id,
        "url": publication.url,
        "revision": publication.revision,
        "dry_run": dry_run,
        "folder": str(publication.repository.folder),
        "files": publication.repository.files,
        "deleted": list(publication.deleted),
        "notes": list(publication.repository.notes),
    }
    last = (
        f"published: {publication.url}"
        if publication.url
        else f"not uploaded; assembled in {publication.repository.folder}"
    )
    return Answer(document, [publication.listing, last])


@verb
def demo(
    checkpoint: Annotated[
        str | None,
        typer.Option("--model", "-m", envvar="VQMAE_HF_MODEL", help="Classifier, for the tab Emotion."),
    ] = None,
    pretraining: Annotated[
        str | None, typer.Option(help="Masked autoencoder, for the tab Mask and reconstruct.")
    ] = None,
    mdvae: Annotated[str | None, typer.Option(envvar="VQMAE_HF_MDVAE", help="MDVAE, for the tab Factors.")] = None,
    examples: Annotated[Path | None, typer.Option(help="Folder of clips to choose from.")] = None,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Port.", show_default="the first free one from 7860 on")] = None,
    max_seconds: Annotated[float, typer.Option(help="Longest clip.")] = 15.0,
    max_megabytes: Annotated[float, typer.Option(help="Largest file.")] = 50.0,
    keep_minutes: Annotated[float, typer.Option(help="Uploads are deleted after this.")] = 30.0,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the page.")] = True,
) -> None:
    """Open a web page to try models with your own clips, camera and microphone.

    Nothing leaves this machine. Needs the extra: pip install 'vqmae-hf\\[demo]'. Ctrl-C ends it.

    [bold]Examples[/]

      vqmae-hf demo --model my_model
      vqmae-hf demo --model my_model --pretraining runs/pre --mdvae mdvae --port 8080 --no-browser
    """
    from vqmae_hf.cli.checkpoints import QUICKSTART_MODEL, find_model, quieten_transformers
    from vqmae_hf.demo import ended_by_sigterm, launch

    quieten_transformers()
    if checkpoint is None and pretraining is None and mdvae is None:
        checkpoint = find_model(None)
        work = QUICKSTART_MODEL.with_name("work") / "pretrained"
        pretraining = str(work) if (work / "config.json").is_file() else None
    with ended_by_sigterm():  # so that uploads are deleted then, too
        launch(
            checkpoint=checkpoint,
            pretraining=pretraining,
            mdvae=mdvae,
            examples=examples,
            host=host,
            port=port,
            max_seconds=max_seconds,
            max_megabytes=max_megabytes,
            keep_minutes=keep_minutes,
            open_browser=browser,
            block=True,
        )
