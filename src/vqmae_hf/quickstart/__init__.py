"""The whole path, once, on a laptop: corpus, tokenizers, pre-training, fine-tuning, evaluation, report."""
