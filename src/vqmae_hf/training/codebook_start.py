"""A first codebook that lies where the latents are.

Normal code vectors lie far from what an untrained encoder puts out: all latents fall to one code, the decoder learns to
ignore them, and the codes that are revived later find latents that no longer differ.
"""

from collections.abc import Mapping
from typing import Literal

import torch
from sklearn.cluster import MiniBatchKMeans
from transformers import PreTrainedModel

CodebookStart = Literal["sample", "kmeans"]


@torch.no_grad()
def start_codebook(
    tokenizer: PreTrainedModel, batch: Mapping[str, torch.Tensor], seed: int = 0, method: CodebookStart = "sample"
) -> None:
    """Replace the code vectors of an untrained tokenizer by some that stand for the latents of a batch; nothing else
    changes.

    Args:
        tokenizer: with a `quantizer`; its latents are those of training mode (batch statistics).
        batch: inputs of its forward; the more clips, the more varied the codes.
        seed: of the choice.
        method: "sample" draws latents; "kmeans" takes the centres of mini-batch k-means over all of them, which lie denser
            where there are more latents.

    Raises:
        ValueError: an unknown method, or "kmeans" of fewer latents than codes.
    """
    latents, codebook = _training_latents(tokenizer, batch), tokenizer.quantizer.codebook
    if method == "sample":
        generator = torch.Generator().manual_seed(seed)
        rows = torch.randint(len(latents), (len(codebook),), generator=generator)
        codebook.copy_(latents[rows.to(latents.device)])
    elif method == "kmeans":
        codebook.copy_(_centres(latents, len(codebook), seed))
    else:
        raise ValueError(f"codebook_start={method!r} is unknown; 'sample' and 'kmeans' are accepted.")


def _training_latents(tokenizer: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """What reaches the quantizer in training mode, (N, d) float32; the tokenizer is left as it was."""
    seen: list[torch.Tensor] = []
    state = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    was_training = tokenizer.training
    hook = tokenizer.quantizer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    tokenizer.train()(**batch)
    hook.remove()
    tokenizer.train(was_training)
    tokenizer.load_state_dict(state)
    return seen[0].float().flatten(0, -2)


def _centres(latents: torch.Tensor, codebook_size: int, seed: int) -> torch.Tensor:
    """Centres (codebook_size, d) of the clusters of `latents` (N, d)."""
    if len(latents) < codebook_size:
        raise ValueError(
            f"codebook_start='kmeans' needs as many latents as codes, found {len(latents)} for {codebook_size} codes; give "
            "more clips or more steps per clip, or choose codebook_start='sample'."
        )
    clusters = MiniBatchKMeans(codebook_size, random_state=seed, n_init=1, batch_size=max(1024, 4 * codebook_size))
    return torch.from_numpy(clusters.fit(latents.cpu().numpy()).cluster_centers_)
