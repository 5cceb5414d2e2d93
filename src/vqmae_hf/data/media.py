"""Media files in and out: what other modules import of `media_source`, `media_reading` and its parts, `media_writing`."""

from vqmae_hf.data.media_pictures import FrameReader
from vqmae_hf.data.media_reading import Media, read_media
from vqmae_hf.data.media_sound import SoundReader, read_waveform
from vqmae_hf.data.media_source import MediaInfo, MediaSource, probe_media, resolve_source
from vqmae_hf.data.media_writing import write_clip

__all__ = [
    "FrameReader",
    "Media",
    "MediaInfo",
    "MediaSource",
    "SoundReader",
    "probe_media",
    "read_media",
    "read_waveform",
    "resolve_source",
    "write_clip",
]
