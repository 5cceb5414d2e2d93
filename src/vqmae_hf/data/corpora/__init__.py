"""Corpora as `datasets.Dataset`s: who says what, how, and in which file. Loaders list files, they never open media.

One module per corpus; each registers its loader and, for a published corpus, its card. `docs/CORPORA.md` shows the trees.
"""

from vqmae_hf.data.corpora import (
    crema_d,
    enterface,
    grid,
    mead,
    ravdess,
    synthetic_faces,
    voxceleb2,
)
from vqmae_hf.data.corpora.hub import load_hub_corpus
from vqmae_hf.data.corpora.media_folder import load_media_folder
from vqmae_hf.data.corpora.registry import (
    UNKNOWN_SPEAKER,
    CorpusCard,
    CorpusError,
    CorpusListing,
    LeftOut,
    corpus_card,
    corpus_names,
    list_corpus,
    load_corpus,
    register_corpus,
)
from vqmae_hf.data.corpora.tree import AUDIO_SUFFIXES, VIDEO_SUFFIXES

__all__ = [
    "AUDIO_SUFFIXES",
    "UNKNOWN_SPEAKER",
    "VIDEO_SUFFIXES",
    "CorpusCard",
    "CorpusError",
    "CorpusListing",
    "LeftOut",
    "corpus_card",
    "corpus_names",
    "crema_d",
    "enterface",
    "grid",
    "list_corpus",
    "load_corpus",
    "load_hub_corpus",
    "load_media_folder",
    "mead",
    "ravdess",
    "register_corpus",
    "synthetic_faces",
    "voxceleb2",
]
