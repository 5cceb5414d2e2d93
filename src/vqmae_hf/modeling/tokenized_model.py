"""What the models that carry tokenizers share: how those stay frozen and are replaced, and the loss of the classifiers."""

from typing import Any, cast

import torch
from torch import nn

from .across_processes import batch_share
from .aligned_loading import AlignedPreTrainedModel
from .configuration_audio_vqvae import AudioVQVAEConfig
from .configuration_visual_vqvae import VisualVQVAEConfig
from .losses import asymmetric_single_label_loss
from .modeling_audio_vqvae import AudioVQVAEModel
from .modeling_visual_vqvae import VisualVQVAEModel


class TokenizedPreTrainedModel(AlignedPreTrainedModel):
    """
    A model whose base has an `audio_tokenizer` and a `visual_tokenizer`, each possibly None, made of the configuration's
    `audio_tokenizer_config` and `visual_tokenizer_config` and frozen where it says `freeze_tokenizers`.
    """

    # Losses are means over the batch: Trainer divides by the accumulation steps, as it should.
    accepts_loss_kwargs = False

    def __init__(self, config: Any):
        config.validate_architecture()  # what is overridden in from_pretrained comes past the configuration's own check
        super().__init__(config)

    def build_tokenizers(self) -> None:
        """Make the tokenizers of the configuration, in the constructor of a base model."""
        # The configuration has made sub-configurations of dictionaries.
        audio = cast(AudioVQVAEConfig | None, self.config.audio_tokenizer_config)
        visual = cast(VisualVQVAEConfig | None, self.config.visual_tokenizer_config)
        self.audio_tokenizer = AudioVQVAEModel(audio) if audio is not None else None
        self.visual_tokenizer = VisualVQVAEModel(visual) if visual is not None else None
        if self.config.freeze_tokenizers:
            for tokenizer in (self.audio_tokenizer, self.visual_tokenizer):
                if tokenizer is not None:
                    tokenizer.requires_grad_(False)

    def train(self, mode: bool = True) -> "TokenizedPreTrainedModel":
        """Training mode for everything but frozen tokenizers, which stay in evaluation mode and out of the gradient:
        `from_pretrained`, which ends in `eval`, makes every parameter it loads trainable."""
        super().train(mode)
        if self.config.freeze_tokenizers:
            base: Any = self.base_model
            for tokenizer in (base.audio_tokenizer, base.visual_tokenizer):
                if tokenizer is not None:
                    tokenizer.eval().requires_grad_(False)
        return self

    def set_tokenizers(
        self,
        audio_tokenizer: AudioVQVAEModel | None = None,
        visual_tokenizer: VisualVQVAEModel | None = None,
    ) -> None:
        """
        Put trained tokenizers into the model and its configuration, so that one checkpoint goes from values to answer.

        Raises:
            ValueError: where their codebooks or codes per spectrum or frame are not those of the configuration.
        """
        base = self.base_model
        for name, tokenizer in (("audio", audio_tokenizer), ("visual", visual_tokenizer)):
            if tokenizer is None:
                continue
            field = f"{name}_tokenizer_config"
            previous = getattr(self.config, field)
            setattr(self.config, field, tokenizer.config)
            try:
                self.config.validate_architecture()
            except ValueError:
                setattr(self.config, field, previous)
                raise
            setattr(base, f"{name}_tokenizer", tokenizer)
            tokenizer.requires_grad_(not self.config.freeze_tokenizers)
        self.train(self.training)

    def classification_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The loss of `classifier_loss` or of the `problem_type`, mean over the batch: `logits` (B, C), `labels` (B,)."""
        loss = self._mean_classification_loss(logits, labels)
        return loss * batch_share(len(labels), loss.device) if self.training else loss

    def _mean_classification_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if self.config.problem_type in ("regression", "multi_label_classification"):
            return self.loss_function(labels, logits, self.config)
        if self.config.classifier_loss == "asymmetric":
            return asymmetric_single_label_loss(logits, labels)
        return nn.functional.cross_entropy(logits.float(), labels)
