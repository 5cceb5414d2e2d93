"""`vqmae-hf swap`, `interpolate` and `denoise`: what one does with the latent factors of an MDVAE."""

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from vqmae_hf.cli.options import ClipOption, DeviceOption, JsonOption, OutputOption, read_clip_options
from vqmae_hf.cli.running import Answer, usage_error, verb

MdvaeOption = Annotated[
    str | None,
    typer.Option("--model", "-m", envvar="VQMAE_HF_MDVAE", help="MDVAE checkpoint: a folder or a Hub id."),
]
PictureOption = Annotated[
    Path | None, typer.Option("--picture", help="Also draw the frames before and after as a PNG file.")
]
SourceArgument = Annotated[Path, typer.Argument(help="Clip that gives the factors.")]
TargetArgument = Annotated[Path, typer.Argument(help="Clip that is changed.")]


class Factor(str, Enum):
    """w: who speaks and in which mood; z_av: what lips and voice share; z_a, z_v: what is only heard, only seen."""

    w = "w"
    z_av = "z-av"
    z_a = "z-a"
    z_v = "z-v"


class Damage(str, Enum):
    """What is done to a face to try denoising."""

    noise = "noise"
    occlusion = "occlusion"


@verb
def swap(
    source: SourceArgument,
    target: TargetArgument,
    model: MdvaeOption = None,
    factor: Annotated[
        list[Factor] | None, typer.Option(help="Factor to take from SOURCE. Repeatable.", show_default="w")
    ] = None,
    output: OutputOption = None,
    picture: PictureOption = None,
    clip_option: ClipOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> Answer:
    """Give a clip some latent factors of another.

    w is who speaks and in which mood, z_av what lips and voice share, z_a what is only heard, z_v what is only seen. With w
    alone, the person of SOURCE says and does what TARGET says and does. Needs an MDVAE.

    [bold]Examples[/]

      vqmae-hf swap anna.mp4 ben.mp4 --model mdvae -o swapped.mp4
      vqmae-hf swap anna.mp4 ben.mp4 --model mdvae --factor z_av --factor z_v --picture swapped.png
    """
    from vqmae_hf.inference import swap_clips

    factors = [name.name for name in factor or [Factor.w]]
    options = read_clip_options(clip_option)
    swapped = swap_clips(str(source), str(target), *_load(model, device), factors=factors, **options)
    document = {"source": str(source), "target": str(target), "factors": factors}
    return _write(swapped, output or target.with_name(f"{target.stem}-swapped.mp4"), picture, document)


@verb
def interpolate(
    source: SourceArgument,
    target: TargetArgument,
    model: MdvaeOption = None,
    steps: Annotated[int, typer.Option(min=2, help="Versions, from TARGET's w to SOURCE's.")] = 5,
    output: OutputOption = None,
    picture: PictureOption = None,
    clip_option: ClipOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> Answer:
    """Show a clip several times while its speaker turns into that of another.

    The versions follow each other in one mp4. Only w moves; lips, head and voice do what they do in TARGET. Needs an MDVAE.

    [bold]Examples[/]

      vqmae-hf interpolate anna.mp4 ben.mp4 --model mdvae --steps 3 -o between.mp4 --picture between.png
    """
    from vqmae_hf.inference import interpolate_clips

    options = read_clip_options(clip_option)
    path = interpolate_clips(str(source), str(target), *_load(model, device), weights=steps, **options)
    document = {"source": str(source), "target": str(target), "weights": [round(w, 6) for w in path.weights]}
    return _write(path, output or target.with_name(f"{target.stem}-interpolated.mp4"), picture, document)


@verb
def denoise(
    clip: Annotated[Path, typer.Argument(help="Clip with a damaged face.")],
    model: MdvaeOption = None,
    damage: Annotated[
        Damage | None, typer.Option(help="Damage the face first, to try: noise or occlusion.", show_default="nothing")
    ] = None,
    region: Annotated[str, typer.Option(help="Where --damage is done: mouth or eyes.")] = "mouth",
    noise_level: Annotated[float, typer.Option(help="Standard deviation of the noise, pixels being 0 to 1.")] = 0.4,
    without_sound: Annotated[bool, typer.Option("--without-sound", help="Do not use the sound.")] = False,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 0,
    output: OutputOption = None,
    picture: PictureOption = None,
    clip_option: ClipOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> Answer:
    """Restore a damaged face with the help of its sound.

    Without --damage the clip is taken as it is; with it, the face is damaged on purpose first, and the place is known.
    Needs an MDVAE.

    [bold]Examples[/]

      vqmae-hf denoise noisy.mp4 --model mdvae -o clean.mp4
      vqmae-hf denoise clip.mp4 --model mdvae --damage occlusion --region eyes --picture restored.png
    """
    from vqmae_hf.evaluation.face_corruptions import FaceCorruption
    from vqmae_hf.inference import denoise_clip

    corruption = None
    if damage is not None:
        corruption = FaceCorruption(kind=damage.value, region=region, noise_level=noise_level)
    restored = denoise_clip(
        str(clip),
        *_load(model, device),
        corruption=corruption,
        seed=seed,
        with_sound=not without_sound,
        **read_clip_options(clip_option),
    )
    document: dict[str, Any] = {"path": str(clip), "damage": None if damage is None else damage.value}
    if corruption is not None:
        document["region"] = region
    return _write(restored, output or clip.with_name(f"{clip.stem}-denoised.mp4"), picture, document)


def _load(model: str | None, device: str) -> tuple[Any, Any]:
    """Model and processor of an MDVAE checkpoint, on the device."""
    if model is None:
        usage_error("missing: an MDVAE checkpoint (or set VQMAE_HF_MDVAE)", "--model")
    from vqmae_hf.cli.checkpoints import choose_device, find_model, quieten_transformers
    from vqmae_hf.inference import load_talking_face_model

    quieten_transformers()
    talker = load_talking_face_model(find_model(model))
    return talker.model.to(choose_device(device)), talker.processor


def _write(generated: Any, output: Path, picture: Path | None, document: dict[str, Any]) -> Answer:
    """Write what was asked for, and say where it is."""
    generated.write(output)
    written = {"output": str(output)}
    if picture is not None:
        generated.figure().save(picture)
        written["picture"] = str(picture)
    return Answer({**document, **written}, [f"written: {', '.join(written.values())}"])
