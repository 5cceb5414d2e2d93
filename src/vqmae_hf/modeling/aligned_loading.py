"""Loading that computes the same bits as what was saved."""

from typing import Any

import torch
from transformers import PreTrainedModel


class AlignedPreTrainedModel(PreTrainedModel):
    """
    A `PreTrainedModel` whose loaded CPU tensors lie where torch would have put them.

    transformers hands out views into the mapped safetensors file, at whatever offset its header leaves. CPU kernels treat
    unaligned memory with other instructions, so that equal weights gave logits that differed by 1e-6 at batch size 1.
    """

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """See [`~transformers.PreTrainedModel.from_pretrained`]."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # with output_loading_info=True
        align_tensors(model)
        return loaded


def align_tensors(model: torch.nn.Module, alignment: int = 64) -> None:
    """Copy every CPU parameter and buffer that does not start at a multiple of `alignment` bytes to one that does."""
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.device.type == "cpu" and tensor.data_ptr() % alignment:
            tensor.data = tensor.data.clone()
