"""`vqmae-hf reconstruct`."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.options import ClipOption, DeviceOption, JsonOption, ModelOption, OutputOption, read_clip_options
from vqmae_hf.cli.running import Answer, usage_error, verb


class Mask(str, Enum):
    """Which parts are hidden together."""

    random = "random"
    frame = "frame"
    block = "block"


@verb
def reconstruct(
    clip: Annotated[Path, typer.Argument(help="The clip.")],
    model: ModelOption = None,
    audio_tokenizer: Annotated[str | None, typer.Option(help="In place of --model: audio tokenizer.")] = None,
    visual_tokenizer: Annotated[str | None, typer.Option(help="In place of --model: visual tokenizer.")] = None,
    hide_face: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the face to hide.", show_default="nothing")
    ] = None,
    hide_voice: Annotated[
        float | None, typer.Option(min=0, max=1, help="Share of the voice to hide.", show_default="nothing")
    ] = None,
    mask: Annotated[
        Mask, typer.Option(help="What is hidden: random pieces, whole moments, or one block.")
    ] = Mask.random,
    seed: Annotated[int, typer.Option(help="Of the mask.")] = 0,
    output: OutputOption = None,
    clip_option: ClipOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> Answer:
    """Send a clip through its tokens and back, as an mp4 with sound.

    What the tokens do not keep, no model on top of them can see or hear. With --hide-face or --hide-voice, parts of the
    tokens are hidden and a pre-trained model completes them.

    [bold]Examples[/]

      vqmae-hf reconstruct clip.mp4 --model my_model
      vqmae-hf reconstruct clip.mp4 --audio-tokenizer runs/audio --visual-tokenizer runs/visual -o tokens.mp4
      vqmae-hf reconstruct clip.mp4 --model runs/pre --hide-face 0.8 --hide-voice 0.5 --mask block -o completed.mp4
    """
    if model is not None and (audio_tokenizer or visual_tokenizer):
        usage_error("name either a model, which brings its tokenizers, or tokenizers", "--model")
    options = read_clip_options(clip_option)

    from vqmae_hf.cli.checkpoints import choose_device, find_model, quieten_transformers
    from vqmae_hf.training.assembly import load_inner_tokenizers, load_tokenizers

    quieten_transformers()
    target = choose_device(device)
    if hide_face is not None or hide_voice is not None:
        if audio_tokenizer or visual_tokenizer:
            usage_error("tokenizers complete nothing; hiding needs a pre-trained --model", "--hide-face")
        ratios = (hide_face or 0.0, hide_voice or 0.0)
        output = output or clip.with_name(f"{clip.stem}-completed.mp4")
        return _complete(clip, find_model(model), ratios, mask.value, seed, output, target, options)
    if audio_tokenizer or visual_tokenizer:
        tokenizers = load_tokenizers(audio_tokenizer, visual_tokenizer)
    else:
        tokenizers = load_inner_tokenizers(find_model(model))
    output = output or clip.with_name(f"{clip.stem}-reconstructed.mp4")
    return _round_trip(clip, {name: part.to(target) for name, part in tokenizers.items()}, output, options)


def _round_trip(clip: Path, tokenizers: dict[str, Any], output: Path, options: dict[str, Any]) -> Answer:
    """The clip through the tokenizers alone."""
    from vqmae_hf.inference import reconstruct_clip
    from vqmae_hf.training.assembly import processor_for_tokenizers

    rebuilt = reconstruct_clip(
        str(clip),
        processor=processor_for_tokenizers(tokenizers),
        audio_tokenizer=tokenizers.get("audio"),
        visual_tokenizer=tokenizers.get("visual"),
        **options,
    )
    rebuilt.write(output)
    document: dict[str, Any] = {"path": str(clip), "output": str(output), **_distances(rebuilt)}
    lines = [f"written: {output}"]
    if "face_psnr_db" in document:
        lines.append(f"face: {document['face_psnr_db']:.1f} dB peak signal-to-noise ratio")
    if "log_spectral_distance_db" in document:
        lines.append(f"sound: {document['log_spectral_distance_db']:.1f} dB log spectral distance")
    return Answer(document, lines)


def _complete(
    clip: Path,
    model: str,
    mask_ratio: tuple[float, float],
    strategy: str,
    seed: int,
    output: Path,
    device: Any,
    options: dict[str, Any],
) -> Answer:
    """The clip with parts hidden and completed by a pre-trained model."""
    from vqmae_hf.cli.checkpoints import read_config
    from vqmae_hf.inference.masked_reconstruction import reconstruct_masked_clip
    from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining
    from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor

    kind = VQMAEForPreTraining.__name__
    found = read_config(model).get("architectures") or [kind]
    if kind not in found:
        raise ValueError(
            f"{model} is a {', '.join(found)}, which completes nothing; accepted is what `train pretrain` writes."
        )
    completed = reconstruct_masked_clip(
        str(clip),
        model=VQMAEForPreTraining.from_pretrained(model).eval().to(device),
        processor=VQMAEProcessor.from_pretrained(model),
        mask_ratio=mask_ratio,
        strategy=strategy,
        seed=seed,
        **options,
    )
    completed.write(output)
    document: dict[str, Any] = {"path": str(clip), "output": str(output), "mask": strategy, "seed": seed}
    lines = [f"written: {output}"]
    for modality in completed.codes:
        hidden, right = completed.hidden_share(modality), completed.right_share(modality)
        document[modality] = {"hidden_share": round(hidden, 4), "right_share": right and round(right, 4)}
        told = "" if right is None else f", {100 * right:.1f} % of them completed with exactly the same code"
        lines.append(f"{modality}: {100 * hidden:.0f} % of the codes hidden{told}")
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
