"""The embedded corpus of talking faces, see `vqmae_hf.data.synthetic`."""

from pathlib import Path

from datasets import Dataset

from vqmae_hf.data.corpora.registry import CorpusCard, register_corpus
from vqmae_hf.data.synthetic import DEFAULT_EMOTIONS, load_synthetic_corpus

CARD = CorpusCard(
    name="synthetic",
    title="Synthetic talking faces of vqmae_hf",
    classes=tuple(DEFAULT_EMOTIONS),
    num_speakers=None,
    licence="Apache-2.0",
    source="made by vqmae_hf.write_synthetic_corpus",
    citation="see the package",
    modalities=("audio", "visual"),
    notes="Drawn faces with a synthesised voice; every factor behind them is stored. A corpus can be written with some of "
    "the emotions, in any order.",
)


@register_corpus("synthetic", card=CARD)
def load_synthetic(root: Path, **options) -> Dataset:
    """The corpus as `write_synthetic_corpus` left it."""
    return load_synthetic_corpus(root, **options)
