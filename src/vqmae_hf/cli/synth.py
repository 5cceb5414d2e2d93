"""`vqmae-hf synth`."""

from pathlib import Path
from typing import Annotated

import typer

from vqmae_hf.cli.options import JsonOption, QuietOption
from vqmae_hf.cli.running import Answer, shows_progress, verb


@verb
def synth(
    folder: Annotated[Path, typer.Argument(help="Folder to write; an unfinished one is finished.")],
    speakers: Annotated[int, typer.Option(min=1, help="Identities.")] = 24,
    emotion: Annotated[
        list[str] | None, typer.Option(help="Emotion to draw. Repeatable.", show_default="all six")
    ] = None,
    clips_per_emotion: Annotated[int, typer.Option(min=1, help="Clips of each emotion by each speaker.")] = 4,
    clip_seconds: Annotated[float, typer.Option(help="Length of each clip, at least 1.")] = 2.0,
    image_size: Annotated[int, typer.Option(help="Side of the pictures in pixels, even, at least 64.")] = 128,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> Answer:
    """Draw a corpus of talking faces with a synthesised voice and known factors, as mp4 files.

    For trying everything without data. FOLDER/clips/EMOTION/CLIP.mp4 are the clips, FOLDER/factors.parquet and
    frame_factors.parquet say what is true of them. The same seed draws the same corpus.

    [bold]Examples[/]

      vqmae-hf synth corpus
      vqmae-hf synth small --speakers 3 --clips-per-emotion 1 --emotion happy --emotion sad
    """
    from vqmae_hf.data.synthetic import load_synthetic_corpus, write_synthetic_corpus
    from vqmae_hf.data.synthetic.factors import DEFAULT_EMOTIONS

    write_synthetic_corpus(
        folder,
        num_speakers=speakers,
        clips_per_emotion=clips_per_emotion,
        clip_seconds=clip_seconds,
        image_size=image_size,
        seed=seed,
        show_progress=shows_progress(quiet),
        emotions=emotion or DEFAULT_EMOTIONS,
    )
    corpus = load_synthetic_corpus(folder)
    document = {
        "folder": str(folder),
        "clips": len(corpus),
        "speakers": len(set(corpus["speaker"])),
        "emotions": corpus.features["emotion"].names,
        "seconds": round(sum(corpus["num_frames"]) / 25, 2),
    }
    text = f"{document['clips']} clips of {document['speakers']} speakers in {folder / 'clips'}"
    return Answer(document, [text])
