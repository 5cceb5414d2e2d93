"""
The authors' checkpoints as ours: their parameter names are known here, where weights are read, and nowhere else.

Configurations are inferred from the sizes of the tensors. Foreign pickles are opened with `weights_only=True`.
"""

from vqmae_hf.conversion.checkpoints import ConversionReport, convert_checkpoint, identify_kind
from vqmae_hf.conversion.models import (
    convert_audio_vqvae,
    convert_classifier,
    convert_mdvae,
    convert_visual_vqvae,
    convert_vqmae,
)
from vqmae_hf.conversion.original_files import read_original_checkpoint
from vqmae_hf.conversion.renaming import ConversionError

__all__ = [
    "ConversionError",
    "ConversionReport",
    "convert_audio_vqvae",
    "convert_checkpoint",
    "convert_classifier",
    "convert_mdvae",
    "convert_visual_vqvae",
    "convert_vqmae",
    "identify_kind",
    "read_original_checkpoint",
]
