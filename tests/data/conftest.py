"""Clips of a made-up corpus, and what token stores are made of."""

import pytest
import torch
from tests.fake_clips import fake_corpus, fake_load_clip

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel
from vqmae_hf.data import prepared_clips
from vqmae_hf.data.prepared_clips import prepare_clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared_clips, "load_clip", fake_load_clip)
        return prepare_clips(fake_corpus(num_speakers=3), tmp_path_factory.mktemp("clips") / "clips", face_size=64)


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def audio():
    torch.manual_seed(1)
    return AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny")).eval()
