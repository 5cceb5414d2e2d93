"""Metrics, pictures, and what tokenizers and masked autoencoders keep and know of a clip."""
