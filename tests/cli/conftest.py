"""A folder as a user of the command line has it: clips, corpora, checkpoints and stores, all of them tiny."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from transformers.utils import logging

from tests.cli.printed_commands import run_line
from tests.conversion.original_weights import (
    CLASSIFIER_NAMES,
    audio_tokenizer_weights,
    classifier_model,
    original_names,
)
from vqmae_hf import (
    AudioVQVAEConfig,
    AudioVQVAEModel,
    MDVAEProcessor,
    VisualVQVAEConfig,
    VisualVQVAEModel,
    VQMAEForAudioVisualClassification,
    VQMAEForPreTraining,
    VQMAEProcessor,
)
from vqmae_hf.cli.__main__ import app
from vqmae_hf.data.corpora import load_corpus
from vqmae_hf.data.latent_store import write_latent_store
from vqmae_hf.data.media import write_clip
from vqmae_hf.data.prepared_clips import prepare_clips
from vqmae_hf.data.synthetic import ClipKey, make_clip
from vqmae_hf.data.tokenization import write_token_store
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel
from vqmae_hf.training.assembly import build_vqmae, processor_for_tokenizers

EMOTIONS = ("angry", "happy", "sad")
SPEAKERS = 4
LABELS = dict(enumerate(EMOTIONS))


@dataclass
class Place:
    """The folder, which is the working directory, and a way to run the command in it."""

    root: Path

    def run(self, line: str, **options):
        """The result of a command line as printed in help texts and documentation."""
        return run_line(app, line, **options)


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("template")
    os.environ.setdefault("HF_DATASETS_CACHE", str(root / ".cache"))
    _write_clips(root)
    _write_models(root)
    return root


def _write_clips(root: Path) -> None:
    """One-second clips of four speakers; single ones under the names that examples use."""
    for speaker in range(SPEAKERS):
        for emotion in EMOTIONS:
            clip = make_clip(ClipKey(speaker, emotion, 0), num_frames=25, image_size=64)
            write_clip(root / f"my_clips/{emotion}/s{speaker}_{emotion}.mp4", clip.frames, clip.waveform)
    for name, source in {
        "clip": "happy/s0_happy",
        "noisy": "sad/s1_sad",
        "anna": "angry/s0_angry",
        "ben": "sad/s2_sad",
        "interviews/monday": "happy/s2_happy",
        "interviews/tuesday": "sad/s3_sad",
        "more/one": "angry/s1_angry",
        "RAVDESS/Actor_01/01-01-03-01-01-01-01": "happy/s0_happy",
        "RAVDESS/Actor_02/01-01-04-01-01-01-02": "sad/s1_sad",
        "RAVDESS/Actor_03/01-01-05-01-01-01-03": "angry/s2_angry",
        "VoxCeleb2/dev/mp4/id00012/21Uxsk56VDQ/00001": "happy/s3_happy",
    }.items():
        _link(root / f"my_clips/{source}.mp4", root / f"{name}.mp4")
    for copy in ("clips", "few_clips", "new_clips", "more_clips", "corpus/clips"):
        shutil.copytree(root / "my_clips", root / copy, copy_function=_link)


def _write_models(root: Path) -> None:
    torch.manual_seed(0)
    tokenizers = {
        "audio": AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny")).eval(),
        "visual": VisualVQVAEModel(VisualVQVAEConfig.from_preset("tiny")).eval(),
    }
    for name, tokenizer in tokenizers.items():
        tokenizer.save_pretrained(root / "runs" / name)
    fields = {"num_hidden_layers": 1, "decoder_num_hidden_layers": 1}
    labels = {"id2label": LABELS, "label2id": {name: i for i, name in LABELS.items()}, "classifier_pooling": "mean"}
    for folder, model_class, more in (
        ("my_model", VQMAEForAudioVisualClassification, labels),
        ("runs/pre", VQMAEForPreTraining, {}),
    ):
        model = build_vqmae(model_class, "tiny", tokenizers, **fields, **more)
        model.save_pretrained(root / folder)
        VQMAEProcessor.from_model_config(model.config).save_pretrained(root / folder)
    for copy in ("runs/emotion", "runs/cross-12", "quickstart/model"):
        shutil.copytree(root / "my_model", root / copy, copy_function=_link)
    corpus = load_corpus("videofolder", root / "my_clips", speaker_pattern="([^/_]+)_[^/]*$")
    _write_stores(root, corpus, tokenizers)
    config = MDVAEConfig.from_preset("tiny", **{f"{k}_tokenizer_config": t.config for k, t in tokenizers.items()})
    mdvae = MDVAEModel(config).eval()
    mdvae.set_tokenizers(**{f"{name}_tokenizer": tokenizer for name, tokenizer in tokenizers.items()})
    mdvae.save_pretrained(root / "mdvae")
    MDVAEProcessor.from_model_config(mdvae.config).save_pretrained(root / "mdvae")
    torch.save({"model": audio_tokenizer_weights()}, root / "speech_vqvae.pt")
    torch.save({"model": original_names(classifier_model(), CLASSIFIER_NAMES)}, root / "classifier.pt")


def _write_stores(root: Path, corpus: Dataset, tokenizers: dict) -> None:
    processor = processor_for_tokenizers(tokenizers)
    prepare_clips(corpus, root / "runs/audio/clips", face_size=64)
    write_token_store(corpus, *tokenizers.values(), root / "tokens", processor=processor, show_progress=False)
    config = MDVAEConfig.from_preset("tiny", **{f"{k}_tokenizer_config": t.config for k, t in tokenizers.items()})
    write_latent_store(
        corpus,
        *tokenizers.values(),
        root / "latents",
        processor=MDVAEProcessor.from_model_config(config),
        show_progress=False,
    )


def _link(source, target) -> None:
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


@pytest.fixture
def place(template, tmp_path, monkeypatch) -> Iterator[Place]:
    """A copy to work in, which costs no bytes."""
    root = tmp_path / "place"
    shutil.copytree(template, root, copy_function=_link, ignore=shutil.ignore_patterns(".cache"))
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    yield Place(root)
    logging.set_verbosity_warning()
    logging.enable_progress_bar()
