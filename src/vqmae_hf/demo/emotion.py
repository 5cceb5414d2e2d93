"""What the tab *Emotion* shows: the answer, how it came about, and where the model looked."""

from dataclasses import dataclass
from html import escape

import numpy as np
import torch

from vqmae_hf.data.clips import Clip
from vqmae_hf.demo.media import clip_address, face_heat_sprite, picture_address, voice_heat
from vqmae_hf.demo.pieces import bars, curves, legend, picture, player, timeline
from vqmae_hf.evaluation.pictures import spectrogram
from vqmae_hf.inference.attention_maps import AttentionMaps, attention_over_clip
from vqmae_hf.inference.coded_clips import tokenize_clip
from vqmae_hf.inference.running_scores import ScoreCurve, running_scores
from vqmae_hf.modeling.pipeline_audiovisual_classification import AudioVisualClassificationPipeline
from vqmae_hf.training.assembly import inner_tokenizers

# Moments of the curve: each costs a pass through the model.
MOST_MOMENTS = 16
SPECTROGRAM_WIDTH, SPECTROGRAM_HEIGHT = 800, 120

METHODS = {
    "pooling queries": "the queries that sum up face and voice (last layer, mean over the heads)",
    "class query": "the query of the most probable emotion (last layer, mean over the heads)",
    "rollout": "attention rolled out through all layers (mean over the heads)",
}


@dataclass(frozen=True)
class EmotionReading:
    """
    Args:
        clip: face crops and waveform.
        labels: of the classes.
        scores: the pipeline's answer, in the order of `labels`.
        curve: scores as the clip goes on.
        attention: over face and voice.
        spectra: (S, 513) power, or None without sound.
        frames_per_map, spectra_per_map: from one attention map to the next.
    """

    clip: Clip
    labels: list[str]
    scores: list[float]
    curve: ScoreCurve
    attention: AttentionMaps
    spectra: torch.Tensor | None
    frames_per_map: int
    spectra_per_map: int

    @property
    def best(self) -> int:
        """Number of the most probable class."""
        return int(np.argmax(self.scores))


def read_emotion(classify: AudioVisualClassificationPipeline, clip: Clip) -> EmotionReading:
    """
    The answer of the pipeline for a clip, and what led to it.

    Raises:
        ValueError: the clip has nothing that the model takes.
    """
    model, processor = classify.model, classify.processor
    labels = [model.config.id2label[number] for number in range(model.config.num_labels)]
    answer = {item["label"]: item["score"] for item in classify(clip, top_k=None)}
    coded = tokenize_clip(clip, processor, inner_tokenizers(model))
    spectra = None
    if "audio" in coded.codes:
        spectra = torch.as_tensor(np.asarray(processor(audio=clip.waveform, padding=False)["audio_values"][0]))
    return EmotionReading(
        clip=clip,
        labels=labels,
        scores=[answer[label] for label in labels],
        curve=running_scores(model, coded, most_moments=MOST_MOMENTS),
        attention=attention_over_clip(model, coded),
        spectra=spectra,
        frames_per_map=model.config.visual_tube_size[0],
        spectra_per_map=model.config.audio_tube_size[0],
    )


def emotion_panel(reading: EmotionReading) -> str:
    """The reading as HTML."""
    clip, best = reading.clip, reading.best
    duration = clip.duration_seconds
    address = clip_address(clip.frames, clip.waveform, clip.frames_per_second, clip.sampling_rate)
    overlay = ""
    if reading.attention.visual is not None:
        sprite, count = face_heat_sprite(reading.attention.visual, reading.frames_per_map)
        seconds_per_map = reading.frames_per_map / clip.frames_per_second
        overlay = (
            f'<div class="vq-heat" data-maps="{count}" data-seconds="{seconds_per_map}" '
            f'style="background-image:url({sprite});background-size:100% {100 * count}%"></div>'
        )
    note = "The face as the model sees it" if clip.frames is not None else "There are no pictures in this clip."
    seen = player(address, "Clip", overlay=overlay, note=note)
    answer = (
        f'<div class="vq-answer"><p class="vq-best" data-label="{escape(reading.labels[best])}">'
        f"{escape(reading.labels[best])} <span>{100 * reading.scores[best]:.0f} %</span></p>"
        f"{bars(reading.labels, reading.scores)}{_missing_note(clip)}</div>"
    )
    heading = f"<h4>What the model says as the clip goes on</h4>{legend(reading.labels)}"
    lines = curves(reading.curve.seconds.tolist(), reading.curve.scores.tolist(), duration, best)
    switch = (
        '<label class="vq-switch"><input type="checkbox" class="vq-attention"> Show attention'
        f" <span>the more orange, the more it counted: {METHODS[reading.attention.method]}</span></label>"
    )
    return (
        f'<div class="vq-result vq-emotion"><div class="vq-columns">{seen}{answer}</div>{switch}'
        f"{heading}{timeline(lines + _voice_row(reading), duration)}</div>"
    )


def _voice_row(reading: EmotionReading) -> str:
    """The spectrogram, with the attention to be laid over it."""
    if reading.spectra is None:
        return ""
    pixels = spectrogram(reading.spectra, width=SPECTROGRAM_WIDTH, height=SPECTROGRAM_HEIGHT)
    voice = picture(picture_address(pixels, lossy=True), "Spectrogram of the voice")
    over = ""
    if reading.attention.audio is not None:
        address = voice_heat(reading.attention.audio, reading.spectra_per_map, SPECTROGRAM_WIDTH, SPECTROGRAM_HEIGHT)
        over = picture(address, "Attention over the voice", "vq-voice-heat")
    return f'<h4>Voice</h4><div class="vq-voice">{voice}{over}<span>8 kHz</span></div>'


def _missing_note(clip: Clip) -> str:
    if clip.waveform is None:
        return '<p class="vq-note">No sound was heard in this clip: this is what the face alone says.</p>'
    if clip.frames is None:
        return '<p class="vq-note">There is no picture in this clip: this is what the voice alone says.</p>'
    return ""
