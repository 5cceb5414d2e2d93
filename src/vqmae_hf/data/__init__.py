"""Everything that touches files: media, faces, clips, corpora, the synthetic corpus, token stores and splits."""
