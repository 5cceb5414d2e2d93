"""
Query2Emo, the classification head that asks the local representations once per emotion ([AV], fine-tuning).

Letters: B clips, L tubes, D width, C classes.
"""

from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional as F

from .attention_blocks import VQMAECrossAttention
from .configuration_vqmae import VQMAEConfig
from .linear_products import Linear


class PostNormFeedForward(nn.Module):
    """`LN(x + Dropout(Linear(Dropout(ReLU(Linear(x))))))`: (..., D) -> (..., D)."""

    def __init__(self, config: VQMAEConfig):
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.query2emo_intermediate_size)
        self.fc2 = Linear(config.query2emo_intermediate_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.query2emo_dropout)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        update = self.fc2(self.dropout(F.relu(self.fc1(hidden))))
        return self.norm(hidden + self.dropout(update))


class PostNormAttention(nn.Module):
    """`LN(x + Dropout(MHA(q = x, k = v = keys)))`: (B, Q, D), (B, L, D) -> (B, Q, D)."""

    def __init__(self, config: VQMAEConfig):
        super().__init__()
        self.attention = VQMAECrossAttention(config, config.query2emo_num_attention_heads, config.query2emo_dropout)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.query2emo_dropout)

    def forward(
        self, hidden: torch.Tensor, keys: torch.Tensor, key_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        return self.norm(hidden + self.dropout(self.attention(hidden, keys, key_mask, **kwargs)[0]))


class Query2EmoEncoderLayer(nn.Module):
    """Self-attention and feed-forward, post-norm: (B, L, D) -> (B, L, D)."""

    def __init__(self, config: VQMAEConfig):
        super().__init__()
        self.self_attention = PostNormAttention(config)
        self.feed_forward = PostNormFeedForward(config)

    def forward(self, local: torch.Tensor, real: torch.Tensor | None, **kwargs: Any) -> torch.Tensor:
        return self.feed_forward(self.self_attention(local, local, real, **kwargs))


class Query2EmoDecoderLayer(nn.Module):
    """Self-attention of the class queries, attention to the tubes, feed-forward, post-norm: (B, C, D) -> (B, C, D)."""

    def __init__(self, config: VQMAEConfig):
        super().__init__()
        self.self_attention = PostNormAttention(config)
        self.cross_attention = PostNormAttention(config)
        self.feed_forward = PostNormFeedForward(config)

    def forward(
        self, queries: torch.Tensor, memory: torch.Tensor, real: torch.Tensor | None, **kwargs: Any
    ) -> torch.Tensor:
        queries = self.self_attention(queries, queries, **kwargs)
        return self.feed_forward(self.cross_attention(queries, memory, real, **kwargs))


class Query2Emo(nn.Module):
    """
    A post-norm transformer of one encoder and two decoder layers, whose queries are one learned vector per class; the
    answers, side by side, are classified linearly ([AV], Query2Emo).
    """

    def __init__(self, config: VQMAEConfig):
        super().__init__()
        C, D = cast(int, config.num_labels), config.hidden_size  # transformers gives every configuration labels
        self.class_queries = nn.Parameter(torch.empty(C, D))
        self.encoder_layer = Query2EmoEncoderLayer(config)
        self.encoder_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.decoder_layers = nn.ModuleList([Query2EmoDecoderLayer(config) for _ in range(2)])
        self.decoder_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.output = nn.Linear(C * D, C)

    def forward(self, local: torch.Tensor, real: torch.Tensor | None = None, **kwargs: Any) -> torch.Tensor:
        """`local` (B, L, D), `real` (B, L) True where no padding -> logits (B, C)."""
        memory = self.encoder_norm(self.encoder_layer(local, real, **kwargs))
        queries = self.class_queries.expand(local.shape[0], -1, -1)
        for layer in self.decoder_layers:
            queries = layer(queries, memory, real, **kwargs)
        return self.output(self.decoder_norm(queries).flatten(1))
