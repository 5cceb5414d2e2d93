"""Publishing on the Hugging Face Hub: a folder as a repository holds it, and one commit that brings it there."""

from vqmae_hf.hub.assembly import AssembledRepository, assemble_repository
from vqmae_hf.hub.corpus import push_corpus
from vqmae_hf.hub.publishing import push_checkpoint
from vqmae_hf.hub.upload import Publication, PublishingError

__all__ = [
    "AssembledRepository",
    "Publication",
    "PublishingError",
    "assemble_repository",
    "push_checkpoint",
    "push_corpus",
]
