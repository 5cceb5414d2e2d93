"""How large a quickstart is: everything that separates the real one from the one that a test runs in seconds."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class QuickstartSize:
    """
    Args:
        num_speakers, clips_per_emotion: of the synthetic corpus of two-second clips, six emotions each.
        validation_share, test_share: shares of the speakers that choose the epoch, and that nothing else ever sees.
        tokenizer_steps: optimizer steps of each tokenizer; None: what the recipe says.
        pretrain_epochs, finetune_epochs: visits to each training clip.
        real_clips: real clips that the run continues on, at most.
        real_tokenizer_steps: optimizer steps of the tokenizers that are trained on them.
        preparation_processes: processes that decode clips; each takes seconds to start.
        model_overrides: fields of the preset "tiny" to replace; None: those of the recipes.
    """

    num_speakers: int
    clips_per_emotion: int
    validation_share: float
    test_share: float
    tokenizer_steps: int | None
    pretrain_epochs: int
    finetune_epochs: int
    real_clips: int
    real_tokenizer_steps: int
    preparation_processes: int
    model_overrides: dict[str, Any] | None = None


SIZES = {
    # Many speakers with one clip of each emotion: what an emotion looks like has to hold for faces never seen.
    "full": QuickstartSize(
        num_speakers=80,
        clips_per_emotion=1,
        validation_share=0.15,
        test_share=0.25,
        tokenizer_steps=None,
        pretrain_epochs=12,
        finetune_epochs=10,
        real_clips=24,
        real_tokenizer_steps=1200,
        preparation_processes=2,
    ),
    # Does the chain hold together? Seconds; its numbers mean nothing.
    "debug": QuickstartSize(
        num_speakers=4,
        clips_per_emotion=1,
        validation_share=0.25,
        test_share=0.25,
        tokenizer_steps=2,
        pretrain_epochs=1,
        finetune_epochs=1,
        real_clips=2,
        real_tokenizer_steps=2,
        preparation_processes=1,
        model_overrides={"num_hidden_layers": 1, "decoder_num_hidden_layers": 1},
    ),
}
