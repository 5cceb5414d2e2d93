"""From a folder of one's own clips to a classifier and a report, in one call: what `vqmae-hf train finetune FOLDER` runs."""

from vqmae_hf.own_corpus.chain import OwnCorpusResult, train_on_own_clips
from vqmae_hf.own_corpus.clips import OwnClips, folder_layout, open_own_clips

__all__ = ["OwnClips", "OwnCorpusResult", "folder_layout", "open_own_clips", "train_on_own_clips"]
