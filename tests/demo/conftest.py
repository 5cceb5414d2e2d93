"""Checkpoints of small untrained models, clips, and the demo as a program of its own."""

import numpy as np
import pytest
import torch
from small_demo_models import build_classifier, build_masked, build_talker, save

from vqmae_hf.data.media import write_clip
from vqmae_hf.data.synthetic import ClipKey, make_clip
from vqmae_hf.demo.models import load_demo_models


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Folders "checkpoint", "pretraining" and "mdvae"."""
    root = tmp_path_factory.mktemp("checkpoints")
    models = {"checkpoint": build_classifier(), "pretraining": build_masked(), "mdvae": build_talker()}
    return {name: save(model, root / name) for name, model in models.items()}


@pytest.fixture(scope="session")
def models(checkpoints):
    return load_demo_models(**checkpoints)


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Paths: "happy" and "sad" talk for 1.6 s, "long" for 8 s, "large" is a file of 3 MB, "faceless" and "silent" are so."""
    folder = tmp_path_factory.mktemp("clips")
    paths = {}
    for speaker, emotion in ((0, "happy"), (1, "sad")):
        clip = make_clip(ClipKey(speaker, emotion, 0), num_frames=40, image_size=96)
        paths[emotion] = write_clip(folder / f"{emotion}.mp4", clip.frames, clip.waveform)
    paths["silent"] = write_clip(folder / "silent.mp4", clip.frames, None)
    paths["long"] = write_clip(folder / "long.mp4", np.tile(clip.frames, (5, 1, 1, 1)), np.tile(clip.waveform, 5))
    grey = np.full_like(clip.frames, 128)
    paths["faceless"] = write_clip(folder / "faceless.mp4", grey, clip.waveform)
    paths["voice"] = write_clip(folder / "voice.m4a", None, clip.waveform)
    paths["large"] = folder / "large.mp4"
    paths["large"].write_bytes(paths["happy"].read_bytes() + bytes(3_000_000))
    paths["text"] = folder / "text.mp4"
    paths["text"].write_text("no clip at all")
    return paths


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
