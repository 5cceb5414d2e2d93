"""Publishing on the Hugging Face Hub: a folder as a repository holds it, and one commit that brings it there."""

from vqmae_hf.hub.assembly import AssembledRepository, assemble_repository
from vqmae_hf.hub.corpus import push_corpus
from vqmae_hf.hub.publishing import Publication, PublishingError, push_checkpoint

__all__ = [
    "AssembledRepository",
    "Publication",
    "PublishingError",
    "assemble_repository",
    "push_checkpoint",
    "push_corpus",
]
