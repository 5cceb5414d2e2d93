"""`vqmae-hf reconstruct`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.options import ClipOption, DeviceOption, JsonOption, ModelOption, OutputOption, read_clip_options
from vqmae_hf.cli.running import Answer, usage_error, verb


@verb
def reconstruct(
    clip: Annotated[Path, typer.Argument(help="The clip.")],
    model: ModelOption = None,
    audio_tokenizer: Annotated[str | None, typer.Option(help="In place of --model: audio tokenizer.")] = None,
    visual_tokenizer: Annotated[str | None, typer.Option(help="In place of --model: visual tokenizer.")] = None,
    output: OutputOption = None,
    clip_option: ClipOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> Answer:
    """Send a clip through its tokens and back, as an mp4 with sound.

    What the tokens do not keep, no model on top of them can see or hear.

    [bold]Examples[/]

      vqmae-hf reconstruct clip.mp4 --model my_model
      vqmae-hf reconstruct clip.mp4 --audio-tokenizer runs/audio --visual-tokenizer runs/visual -o tokens.mp4
    """
    if model is not None and (audio_tokenizer or visual_tokenizer):
        usage_error("name either a model, which brings its tokenizers, or tokenizers", "--model")
    options = read_clip_options(clip_option)

    from vqmae_hf.cli.checkpoints import choose_device, find_model, quieten_transformers
    from vqmae_hf.inference import reconstruct_clip
    from vqmae_hf.training.assembly import load_inner_tokenizers, load_tokenizers, processor_for_tokenizers

    quieten_transformers()
    if audio_tokenizer or visual_tokenizer:
        tokenizers = load_tokenizers(audio_tokenizer, visual_tokenizer)
    else:
        tokenizers = load_inner_tokenizers(find_model(model))
    for tokenizer in tokenizers.values():
        tokenizer.to(choose_device(device))
    rebuilt = reconstruct_clip(
        str(clip),
        processor=processor_for_tokenizers(tokenizers),
        audio_tokenizer=tokenizers.get("audio"),
        visual_tokenizer=tokenizers.get("visual"),
        **options,
    )
    written = rebuilt.write(output or clip.with_name(f"{clip.stem}-reconstructed.mp4"))
    document: dict[str, Any] = {"path": str(clip), "output": str(written), **_distances(rebuilt)}
    lines = [f"written: {written}"]
    if "face_psnr_db" in document:
        lines.append(f"face: {document['face_psnr_db']:.1f} dB peak signal-to-noise ratio")
    if "log_spectral_distance_db" in document:
        lines.append(f"sound: {document['log_spectral_distance_db']:.1f} dB log spectral distance")
    return Answer(document, lines)


def _distances(rebuilt: Any) -> dict[str, float]:
    """How far picture and sound are from the recording's."""
    from vqmae_hf.evaluation.fidelity import log_spectral_distance, peak_signal_to_noise

    distances = {}
    if rebuilt.frames is not None:
        distances["face_psnr_db"] = round(peak_signal_to_noise(rebuilt.clip.frames, rebuilt.frames), 3)
    if rebuilt.spectra is not None:
        distance = log_spectral_distance(rebuilt.spectra, rebuilt.decoded_spectra)
        distances["log_spectral_distance_db"] = round(distance, 3)
    return distances
