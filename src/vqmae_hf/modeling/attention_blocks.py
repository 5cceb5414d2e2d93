"""
The transformer's parts ([AV], encoder, decoder, global representations, Query2Emo), all through the attention interface
of transformers (eager, sdpa, flash, flex).

Letters: B clips, Q queries, L keys (tubes), H heads, D width.
"""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask
from torch.utils.checkpoint import checkpoint
from transformers.activations import ACT2FN
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import TransformersKwargs

from .configuration_vqmae import VQMAEConfig
from .linear_products import Linear, linear
from .masking import gather_tubes

# What create_bidirectional_mask makes of real and padded tubes: a tensor, or blocks for flex attention.
AttentionMask = torch.Tensor | BlockMask


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Plain attention: (B, H, Q, D / H), (B, H, L, D / H) twice, additive mask -> (B, Q, H, D / H), weights (B, H, Q, L)."""
    weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = F.softmax(weights, dim=-1, dtype=torch.float32).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


class QueriesKeysValues(Linear):
    """All three of a self-attention in one product, in this order: (..., D) -> (..., 3 D). A class of its own, since it may
    start in its own way, see [`VQMAEConfig`]."""


class VQMAESelfAttention(nn.Module):
    """Multi-head self-attention without bias in the queries, keys and values: (B, L, D) -> (B, L, D)."""

    def __init__(self, config: VQMAEConfig, num_heads: int):
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.head_dim = config.hidden_size // num_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.qkv = QueriesKeysValues(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.projection = Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: AttentionMask | None = None,
        norm: Callable[[torch.Tensor], torch.Tensor] | None = None,
        wanted: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`norm` comes first, if any; `wanted` (B, Q): places that ask; all of them without. -> (B, Q, D)."""
        B, L, D = hidden.shape
        if wanted is None:
            qkv = self.qkv(hidden) if norm is None else remade_on_the_way_back(self.qkv, norm, hidden)
            query, key, value = qkv.view(B, L, 3, self.num_heads, self.head_dim).permute(
                2, 0, 3, 1, 4
            )  # (B, H, L, D/H)
        else:
            hidden = hidden if norm is None else norm(hidden)
            asks, answers = self.qkv.weight.split([D, 2 * D])
            query = (
                linear([gather_tubes(hidden, wanted)], asks).view(B, -1, self.num_heads, self.head_dim).transpose(1, 2)
            )
            key, value = linear([hidden], answers).view(B, L, 2, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        attended, weights = attend(self, query, key, value, attention_mask, **kwargs)
        return self.projection(attended.reshape(B, -1, D)), weights


class VQMAECrossAttention(nn.Module):
    """
    Multi-head attention with biases of `queries` (B, Q, D) over `keys` (B, L, D) -> (B, Q, D).

    Where a clip has no real key at all, the attended values are zero and only the output bias is left.
    """

    def __init__(self, config: VQMAEConfig, num_heads: int, dropout: float = 0.0):
        super().__init__()
        self.config = config
        self.num_heads = num_heads
        self.head_dim = config.hidden_size // num_heads
        self.scaling = self.head_dim**-0.5
        self.is_causal = False
        self.dropout = dropout
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)
        self.projection = Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        queries: torch.Tensor,
        keys: torch.Tensor,
        key_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`key_mask` (B, L): True for real keys."""
        B, Q, D = queries.shape
        L = keys.shape[1]
        if L == 0:  # nothing to attend to, and not every implementation accepts an empty set of keys
            return self.projection(torch.zeros_like(queries)), None
        query = self.query(queries).view(B, Q, self.num_heads, self.head_dim).transpose(1, 2)
        key = self.key(keys).view(B, L, self.num_heads, self.head_dim).transpose(1, 2)
        value = self.value(keys).view(B, L, self.num_heads, self.head_dim).transpose(1, 2)
        attention_mask = create_bidirectional_mask(
            config=self.config, inputs_embeds=queries, attention_mask=key_mask, encoder_hidden_states=keys
        )
        attended, weights = attend(self, query, key, value, attention_mask, self.dropout, **kwargs)
        attended = attended.reshape(B, Q, D)
        if key_mask is not None:
            attended = attended.masked_fill(~key_mask.any(dim=1)[:, None, None], 0.0)
        return self.projection(attended), weights


def attend(
    module: VQMAESelfAttention | VQMAECrossAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: AttentionMask | None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The configured attention: (B, H, Q, D / H), (B, H, L, D / H) twice -> (B, Q, H, D / H), weights if eager."""
    implementation = module.config._attn_implementation
    interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
    dropout = dropout if module.training else 0.0
    on_processor = query.device.type == "cpu" and query.dtype == torch.bfloat16
    if implementation == "sdpa" and on_processor and attention_mask is None and not torch.compiler.is_compiling():
        return bfloat16_attention(query, key, value, module.scaling, dropout), None
    return interface(module, query, key, value, attention_mask, dropout=dropout, scaling=module.scaling, **kwargs)


def bfloat16_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float, dropout: float
) -> torch.Tensor:
    """
    Plain attention of processors in bfloat16, for which torch's fused one is 2.4 times as slow, forward and backward, as the
    two products (520 tubes of 4 heads, measured): (B, H, Q, D / H), (B, H, L, D / H) twice -> (B, Q, H, D / H).
    """
    with torch.autocast("cpu", enabled=False):  # which would keep the weights in float32
        weights = torch.softmax(torch.matmul(query * scaling, key.transpose(2, 3)), dim=-1)
        return torch.matmul(F.dropout(weights, p=dropout), value).transpose(1, 2).contiguous()


class VQMAEMLP(nn.Module):
    """Two linear layers with a non-linearity between: (..., D) -> (..., D)."""

    def __init__(self, config: VQMAEConfig):
        super().__init__()
        self.activation = ACT2FN[config.hidden_act]
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(
        self, hidden: torch.Tensor, norm: Callable[[torch.Tensor], torch.Tensor] | None = None
    ) -> torch.Tensor:
        """`norm` comes first, if any."""
        hidden = self.fc1(hidden) if norm is None else remade_on_the_way_back(self.fc1, norm, hidden)
        return remade_on_the_way_back(self.fc2, self.activation, hidden)


def remade_on_the_way_back(
    linear: nn.Linear, function: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor
) -> torch.Tensor:
    """
    `linear(function(hidden))`, for functions of one pass over the numbers. On a processor, where training is short of memory
    more than of launches, what `function` makes of them, a third of all that would be kept, is made again when gradients
    ask for it. The product itself is not repeated.
    """
    kept = not torch.is_grad_enabled() or hidden.device.type != "cpu"
    if kept or torch.compiler.is_compiling():  # a compiler decides itself what it keeps
        return linear(function(hidden))

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        return linear(function(hidden))

    return checkpoint(forward, hidden, use_reentrant=False, preserve_rng_state=False)


class TransformerBlock(nn.Module):
    """Pre-norm block: `x + Attention(LN(x))`, then `x + MLP(LN(x))`; (B, L, D) -> (B, L, D)."""

    def __init__(self, config: VQMAEConfig, num_heads: int):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = VQMAESelfAttention(config, num_heads)
        self.mlp_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = VQMAEMLP(config)

    def forward(
        self,
        hidden: torch.Tensor,
        attention_mask: AttentionMask | None = None,
        wanted: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """`wanted` (B, Q): places of `hidden` (B, L, D) to compute, (B, Q, D); all of them without."""
        # Their calls and not the norms themselves: accelerate moves every argument that can be moved, modules too.
        attended, weights = self.attention(hidden, attention_mask, self.attention_norm.__call__, wanted, **kwargs)
        hidden = (hidden if wanted is None else gather_tubes(hidden, wanted)) + attended
        return hidden + self.mlp(hidden, self.mlp_norm.__call__), weights


class VQMAELayer(GradientCheckpointingLayer):
    """
    One layer of a stack: a single block over the sequence [visual; audio] (self fusion), or one block per modality, each
    over its own part (cross fusion).
    """

    def __init__(self, config: VQMAEConfig, num_heads: int, streams: Sequence[str]):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleDict({stream: TransformerBlock(config, num_heads) for stream in streams})

    def forward(
        self,
        hidden: torch.Tensor,
        sizes: dict[str, int],
        attention_masks: dict[str, AttentionMask | None],
        wanted: dict[str, torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        `hidden` (B, L, D); `sizes`: length of each stream in the sequence, in order -> (B, L, D), and the attention weights
        (B, H, L, L) where the implementation yields them, zero between the streams of cross fusion. `wanted`: places
        (B, Q) of each stream to compute instead of all.
        """
        parts = hidden.split(list(sizes.values()), dim=1)
        outputs = [
            self.blocks[stream](part, attention_masks[stream], wanted[stream] if wanted else None, **kwargs)
            for stream, part in zip(sizes, parts, strict=True)
        ]
        if len(outputs) == 1:
            return outputs[0]
        weights = [weights for _, weights in outputs]
        asked_for = kwargs.get("output_attentions", getattr(self.config, "output_attentions", False))
        joined = block_diagonal(weights) if asked_for and weights[0] is not None else None
        return torch.cat([part for part, _ in outputs], dim=1), joined


def join_places(places: dict[str, torch.Tensor], sizes: dict[str, int]) -> torch.Tensor:
    """Places (B, Q) within each stream -> places (B, sum of Q) in the sequence of all streams of `sizes`."""
    starts = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
    return torch.cat([places[stream] + start for stream, start in starts.items()], dim=1)


def block_diagonal(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    """Attention weights (B, H, L_m, L_m) of several streams as one map over all of them, (B, H, L, L)."""
    B, H, _, _ = weights[0].shape
    L = sum(part.shape[2] for part in weights)
    joint, start = weights[0].new_zeros(B, H, L, L), 0
    for part in weights:
        end = start + part.shape[2]
        joint[:, :, start:end, start:end] = part
        start = end
    return joint


class ModalityFusion(nn.Module):
    """
    Cross-attention of one modality to both ([AV], cross fusion): `x + LN(MLP(MHA(q = x, k = v = both)))`, without a norm
    on the way in.
    """

    def __init__(self, config: VQMAEConfig, num_heads: int):
        super().__init__()
        self.attention = VQMAECrossAttention(config, num_heads)
        self.mlp = VQMAEMLP(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self, hidden: torch.Tensor, both: torch.Tensor, both_real: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        """`hidden` (B, L_m, D), `both` (B, L, D), `both_real` (B, L) True where no padding -> (B, L_m, D)."""
        return hidden + self.norm(self.mlp(self.attention(hidden, both, both_real, **kwargs)[0]))


class GlobalPooling(nn.Module):
    """
    The global representation of a modality ([AV]): a learned query `q` asks the local representations `z`,
    `h = q + MHA(q, z, z)`, `w = h + LN(MLP(h))`.
    """

    def __init__(self, config: VQMAEConfig):
        super().__init__()
        self.query = nn.Parameter(torch.empty(1, config.hidden_size))
        self.attention = VQMAECrossAttention(config, config.num_attention_heads)
        self.mlp = VQMAEMLP(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, local: torch.Tensor, real: torch.Tensor | None, **kwargs: Any) -> torch.Tensor:
        """`local` (B, L, D), `real` (B, L) True where no padding -> (B, D)."""
        query = self.query.expand(local.shape[0], 1, -1)
        hidden = query + self.attention(query, local, real, **kwargs)[0]
        return (hidden + self.norm(self.mlp(hidden))).squeeze(1)


class FusionTransformer(nn.Module):
    """
    The stack of encoder and decoder ([AV]): *self* runs its layers over [visual; audio]; *cross* lets each modality attend
    to both once, then runs layers of its own. With `final_norm`, layer normalisation closes it, one per stream.
    """

    def __init__(self, config: VQMAEConfig, fusion: str, num_layers: int, num_heads: int, final_norm: bool):
        super().__init__()
        self.config = config
        self.fusion = fusion
        streams = ["visual", "audio"] if fusion == "cross" else ["joint"]
        self.modality_fusion = nn.ModuleDict(
            {stream: ModalityFusion(config, num_heads) for stream in streams} if fusion == "cross" else {}
        )
        self.layers = nn.ModuleList([VQMAELayer(config, num_heads, streams) for _ in range(num_layers)])
        self.norms = nn.ModuleDict(
            {stream: nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps) for stream in streams}
            if final_norm
            else {}
        )

    def forward(
        self,
        hidden: torch.Tensor,
        sizes: dict[str, int],
        real: torch.Tensor | None = None,
        wanted: dict[str, torch.Tensor] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        """
        `hidden` (B, L, D) of the modalities named by `sizes` one after the other; `real` (B, L) True where no padding;
        -> (B, L, D). A modality that is missing from `sizes` is simply not there.

        With `wanted`, places (B, Q) within each modality, only these are returned, one modality after the other: the last
        layer computes nothing else, where the places allow that.
        """
        # A modality without a single visible tube; attention implementations refuse empty sequences.
        sizes = {stream: size for stream, size in sizes.items() if size}
        if not sizes:
            return hidden
        if self.fusion == "cross":
            hidden = self.fuse_modalities(hidden, sizes, real)
        elif wanted is not None:
            wanted = {"joint": join_places(wanted, sizes)}
        if self.fusion == "self":
            sizes = {"joint": hidden.shape[1]}
        masks = self.attention_masks(hidden, sizes, real)
        for layer in self.layers[:-1]:
            hidden, _ = layer(hidden, sizes, masks, **kwargs)
        hidden = self.last_layer(hidden, sizes, masks, wanted, **kwargs)
        if wanted is not None:
            sizes = {stream: places.shape[1] for stream, places in wanted.items()}
        if not self.norms:
            return hidden
        parts = hidden.split(list(sizes.values()), dim=1)
        return torch.cat([self.norms[stream](part) for stream, part in zip(sizes, parts, strict=True)], dim=1)

    def last_layer(
        self,
        hidden: torch.Tensor,
        sizes: dict[str, int],
        masks: dict[str, AttentionMask | None],
        wanted: dict[str, torch.Tensor] | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """The last layer, at the `wanted` places (B, Q) of each stream or at all: (B, L, D) -> (B, sum of Q, D)."""
        layer = self.layers[-1]
        if wanted is None:
            return layer(hidden, sizes, masks, **kwargs)[0]
        # Masks are those of all places, and a stream of which nothing is wanted has no query to attend with.
        if all(mask is None for mask in masks.values()) and all(places.shape[1] for places in wanted.values()):
            return layer(hidden, sizes, masks, wanted, **kwargs)[0]
        hidden, _ = layer(hidden, sizes, masks, **kwargs)
        return gather_tubes(hidden, join_places(wanted, sizes))

    def fuse_modalities(self, hidden: torch.Tensor, sizes: dict[str, int], real: torch.Tensor | None) -> torch.Tensor:
        """Each modality asks both: (B, L, D) -> (B, L, D)."""
        parts = hidden.split(list(sizes.values()), dim=1)
        fused = [self.modality_fusion[stream](part, hidden, real) for stream, part in zip(sizes, parts, strict=True)]
        return torch.cat(fused, dim=1)

    def attention_masks(
        self, hidden: torch.Tensor, sizes: dict[str, int], real: torch.Tensor | None
    ) -> dict[str, AttentionMask | None]:
        """The mask of each stream in the form that the configured attention wants."""
        if real is None:
            return dict.fromkeys(sizes)
        lengths = list(sizes.values())
        parts = zip(sizes, hidden.split(lengths, dim=1), real.split(lengths, dim=1), strict=True)
        return {
            stream: create_bidirectional_mask(config=self.config, inputs_embeds=part, attention_mask=part_real)
            for stream, part, part_real in parts
        }
