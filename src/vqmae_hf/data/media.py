"""Media files in and out: `read_media`, `probe_media` (media_reading) and `write_clip` (media_writing)."""

from vqmae_hf.data.media_writing import write_clip

__all__ = ["write_clip"]
