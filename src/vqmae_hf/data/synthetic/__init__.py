"""Synthetic talking faces with known factors, written as real mp4 files: the corpus that comes with the package."""

from vqmae_hf.data.synthetic.clip_maker import (
    ClipDescription,
    SyntheticClip,
    SyntheticCorpusParameters,
    describe_clip,
    make_clip,
)
from vqmae_hf.data.synthetic.corpus import (
    load_synthetic_corpus,
    load_synthetic_factors,
    read_synthetic_parameters,
    write_synthetic_corpus,
)
from vqmae_hf.data.synthetic.factors import (
    DEFAULT_EMOTIONS,
    EMOTION_TARGETS,
    INTENSITIES,
    ClipFactors,
    ClipKey,
    SpeakerFactors,
)
from vqmae_hf.data.synthetic.trajectories import SYLLABLES, FrameFactors

__all__ = [
    "DEFAULT_EMOTIONS",
    "EMOTION_TARGETS",
    "INTENSITIES",
    "SYLLABLES",
    "ClipDescription",
    "ClipFactors",
    "ClipKey",
    "FrameFactors",
    "SpeakerFactors",
    "SyntheticClip",
    "SyntheticCorpusParameters",
    "describe_clip",
    "load_synthetic_corpus",
    "load_synthetic_factors",
    "make_clip",
    "read_synthetic_parameters",
    "write_synthetic_corpus",
]
