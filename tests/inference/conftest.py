"""Clips of two people, and an MDVAE with tokenizers, small and untrained."""

import pytest
from small_talkers import build_mdvae

from vqmae_hf.data.media import write_clip
from vqmae_hf.data.synthetic import ClipKey, make_clip


@pytest.fixture(scope="session")
def talks(tmp_path_factory):
    """Paths of "happy" (24 frames at 30 per second) and "sad" (36), of two speakers."""
    folder = tmp_path_factory.mktemp("talks")
    paths = {}
    for speaker, (emotion, num_frames) in enumerate((("happy", 20), ("sad", 30))):
        clip = make_clip(ClipKey(speaker, emotion, 0), num_frames=num_frames, image_size=64)
        paths[emotion] = write_clip(folder / f"{emotion}.mp4", clip.frames, clip.waveform)
    return paths


@pytest.fixture(scope="session")
def mdvae():
    return build_mdvae()
