"""
The decoder of the masked autoencoder ([AV], decoder and code losses).

Letters: B clips, L tubes of a modality, V of them visible, M masked, P codes per tube, d numbers per code, D = P d width,
K codebook size.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn

from .across_processes import batch_share
from .attention_blocks import FusionTransformer
from .configuration_vqmae import VQMAEConfig
from .losses import IGNORED, linear_cross_entropy
from .masking import TubeMasking, gather_tubes
from .modeling_outputs_vqmae import VQMAEModelOutput
from .tube_inputs import TubeInputs, join_streams, prepend_class_token
from .vqmae_embeddings import TubePositions


class VQMAEDecoder(nn.Module):
    """
    Visible outputs put back in place, a mask token elsewhere, decoder positions, blocks, and one linear head per modality
    over each of the P code places of a tube ([AV], decoder).
    """

    def __init__(self, config: VQMAEConfig, modalities: Sequence[str]):
        super().__init__()
        self.config = config
        self.mask_token = nn.Parameter(torch.empty(config.hidden_size))
        self.positions = TubePositions(
            config, modalities, with_class_token=config.global_representation == "cls_token"
        )
        self.transformer = FusionTransformer(
            config,
            config.decoder_fusion,
            config.decoder_num_hidden_layers,
            config.decoder_num_attention_heads,
            final_norm=False,
        )
        self.heads = nn.ModuleDict(
            {
                modality: nn.Linear(
                    getattr(config, f"{modality}_code_dim"), getattr(config, f"{modality}_codebook_size")
                )
                for modality in modalities
            }
        )

    def forward(
        self,
        encoded: VQMAEModelOutput,
        tubes: dict[str, TubeInputs],
        maskings: Mapping[str, TubeMasking],
        masked_only: bool = False,
        **kwargs: Any,
    ) -> dict[str, torch.Tensor]:
        """Decoded tubes of every modality, not yet through its head: all, (B, L, D), or the masked ones, (B, M, D)."""
        first = 1 if self.positions.with_class_token else 0
        streams = []
        for modality in tubes:
            hidden = self.restore_tubes(encoded[f"{modality}_last_hidden_state"], maskings[modality])
            real = tubes[modality].real
            if self.positions.with_class_token:
                hidden = torch.cat([encoded[f"{modality}_global"].unsqueeze(1), hidden], dim=1)
                real = prepend_class_token(real, real)
            streams.append((hidden + self.positions(modality, hidden.shape[1]).to(hidden.dtype), real))
        sizes = {modality: hidden.shape[1] for modality, (hidden, _) in zip(tubes, streams, strict=True)}
        hidden, real = join_streams(streams)
        if masked_only:
            wanted = {modality: maskings[modality].masked_ids + first for modality in tubes}
            hidden = self.transformer(hidden, sizes, real, wanted, **kwargs)
            parts = hidden.split([places.shape[1] for places in wanted.values()], dim=1)
            return dict(zip(sizes, parts, strict=True))
        hidden = self.transformer(hidden, sizes, real, **kwargs)
        parts = hidden.split(list(sizes.values()), dim=1)
        return {modality: part[:, first:] for modality, part in zip(sizes, parts, strict=True)}

    def restore_tubes(self, visible: torch.Tensor, masking: TubeMasking) -> torch.Tensor:
        """Visible outputs (B, V, D) in their places of (B, L, D), the mask token in the others."""
        B, _, D = visible.shape
        mask_token = self.mask_token.to(visible.dtype)
        if masking.visible_real is not None:  # clips which show fewer tubes: the rest of their list is masked
            visible = torch.where(masking.visible_real.unsqueeze(2), visible, mask_token)
        hidden = mask_token.expand(B, masking.mask.shape[1], D)
        return hidden.scatter(1, masking.visible_ids.unsqueeze(2).expand(-1, -1, D), visible)

    def code_head(self, modality: str) -> nn.Linear:
        """d -> K: the head of every code place of a modality."""
        return cast(nn.Linear, self.heads[modality])  # torch does not know what a ModuleDict holds

    def code_loss(
        self, modality: str, decoded: torch.Tensor, inputs: TubeInputs, masking: TubeMasking
    ) -> torch.Tensor:
        """Cross-entropy over the codes of masked tubes ([AV], code losses): (B, M, D) -> (); 0 where nothing is masked."""
        targets = gather_tubes(inputs.targets, masking.masked_ids)  # (B, M, P)
        if masking.masked_real is not None:
            targets = targets.masked_fill(~masking.masked_real.unsqueeze(2), IGNORED)
        head = self.code_head(modality)
        loss = linear_cross_entropy(decoded.reshape(-1, head.in_features), head, targets.flatten())
        return loss * batch_share((targets != IGNORED).sum(), loss.device) if self.training else loss

    def logits(self, modality: str, decoded: torch.Tensor) -> torch.Tensor:
        """Logits of every code place: (B, L, D) -> (B, L, P, K)."""
        head = self.code_head(modality)
        return head(decoded.reshape(*decoded.shape[:2], -1, head.in_features))
