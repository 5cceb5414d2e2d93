"""A small world for the training programs: clips without media, untrained tokenizers, and the store of their codes."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from tests.fake_clips import fake_corpus, fake_load_clip

from vqmae_hf import AudioVQVAEConfig, AudioVQVAEModel, VisualVQVAEConfig, VisualVQVAEModel
from vqmae_hf.data import prepared_clips
from vqmae_hf.data.latent_store import load_latent_store, write_latent_store
from vqmae_hf.data.prepared_clips import prepare_clips
from vqmae_hf.data.token_store import load_token_store
from vqmae_hf.data.tokenization import write_token_store
from vqmae_hf.modeling.processing_mdvae import MDVAEProcessor
from vqmae_hf.training.assembly import load_tokenizers, processor_for_tokenizers

# Small enough for a step in some ten milliseconds.
SMALL_VQMAE = {"num_hidden_layers": 1, "decoder_num_hidden_layers": 1}


@dataclass
class World:
    """Folders, and the opened datasets."""

    root: Path
    clips: Dataset
    store: Dataset

    @property
    def clips_dir(self) -> str:
        return str(self.root / "clips")

    @property
    def tokens(self) -> dict[str, str]:
        """Arguments of the stages that train on codes."""
        return {
            "token_store": str(self.root / "store"),
            "audio_tokenizer": str(self.root / "audio"),
            "visual_tokenizer": str(self.root / "visual"),
        }


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", root / "cache")
        # Undone before the first test runs: this fixture lives as long as the session, and so would its fake loader,
        # which other files' real clips would then be given to.
        with patch.context() as clip_patch:
            clip_patch.setattr(prepared_clips, "load_clip", fake_load_clip)
            clips = prepare_clips(fake_corpus(num_speakers=6), root / "clips", face_size=64)
        torch.manual_seed(0)
        tokenizers = {
            "audio": AudioVQVAEModel(AudioVQVAEConfig.from_preset("tiny")).eval(),
            "visual": VisualVQVAEModel(VisualVQVAEConfig.from_preset("tiny")).eval(),
        }
        for name, tokenizer in tokenizers.items():
            tokenizer.save_pretrained(root / name)
        processor = processor_for_tokenizers(tokenizers)
        write_token_store(clips, *tokenizers.values(), root / "store", processor=processor, show_progress=False)
        yield World(root, clips, load_token_store(root / "store"))


@pytest.fixture(scope="session")
def latent_world(world, tmp_path_factory):
    """The same clips and tokenizers at the rates of MDVAE: `store` holds latents."""
    root = tmp_path_factory.mktemp("latent_world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepared_clips, "load_clip", fake_load_clip)
        clips = prepare_clips(fake_corpus(num_speakers=6), root / "clips", face_size=64, frames_per_second=30)
    tokenizers = load_tokenizers(world.tokens["audio_tokenizer"], world.tokens["visual_tokenizer"])
    processor = processor_for_tokenizers(tokenizers, MDVAEProcessor)
    write_latent_store(clips, *tokenizers.values(), root / "latents", processor=processor, show_progress=False)
    return World(root, clips, load_latent_store(root / "latents"))


@pytest.fixture(scope="session")
def latents(world, latent_world):
    """Arguments of the stages that train on latents."""
    tokenizers = {name: path for name, path in world.tokens.items() if name != "token_store"}
    return {"latent_store": str(latent_world.root / "latents"), **tokenizers}
