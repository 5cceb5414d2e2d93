"""What the tab *Mask and reconstruct* shows: a clip, what is left of it, and what the model makes of that."""

from vqmae_hf.demo.media import clip_address, picture_address
from vqmae_hf.demo.pieces import facts, picture, player
from vqmae_hf.evaluation.pictures import spectrogram
from vqmae_hf.inference.masked_reconstruction import MaskedReconstruction

# Half of the default: a second of speech takes a quarter of a second, and nobody heard a difference in speech.
PHASE_ITERATIONS = 32
VERSIONS = {
    "original": ("Original", "as its codes say"),
    "masked": ("Seen by the model", "the rest is hidden"),
    "reconstructed": ("Reconstructed", "hidden parts completed"),
}
PARTS = {"visual": "face", "audio": "voice"}


def masking_panel(result: MaskedReconstruction) -> str:
    """A masked reconstruction as HTML: three clips that play together, their spectrograms, and how much was right."""
    columns = [_version(result, version, name, note) for version, (name, note) in VERSIONS.items()]
    items = []
    for modality, part in PARTS.items():
        if modality in result.codes:
            items.append((f"{part} hidden", f"{100 * result.hidden_share(modality):.0f} %"))
            right = result.right_share(modality)
            if right is not None:
                items.append((f"hidden {part} codes exactly right", f"{100 * right:.0f} %"))
    return (
        f'<div class="vq-result vq-masking"><div class="vq-columns vq-together">{"".join(columns)}</div>'
        f"{facts(items)}</div>"
    )


def _version(result: MaskedReconstruction, version: str, name: str, note: str) -> str:
    """One clip, and the spectrogram of its voice."""
    # What is left of the sound between the holes is not worth hearing; the seen clip is silent.
    waveform = None if version == "masked" else result.waveform(version, PHASE_ITERATIONS)
    frames = result.frames(version)
    below = ""
    if "audio" in result.values:
        loudest = float(result.values["audio"].original.max())
        spectra = getattr(result.values["audio"], version)
        pixels = spectrogram(spectra, loudest=loudest, width=400, height=110)
        below = f'<div class="vq-voice">{picture(picture_address(pixels), f"{name}: spectrogram of the voice")}</div>'
    if frames is None and waveform is None:
        return f'<div><figure class="vq-player"><figcaption>{name}</figcaption></figure>{below}</div>'
    rate, sampling_rate = result.coded.clip.frames_per_second, result.sampling_rate
    return f"<div>{player(clip_address(frames, waveform, rate, sampling_rate), name, note=note)}{below}</div>"
