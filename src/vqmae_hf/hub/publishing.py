"""A checkpoint on the Hub with one call: a folder is assembled, listed or uploaded."""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub.utils import validate_repo_id
from transformers import PreTrainedModel

from vqmae_hf.hub.assembly import AssembledRepository, assemble_repository
from vqmae_hf.hub.upload import Publication, Upload


def push_checkpoint(
    folder: str | PathLike | PreTrainedModel,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    output_dir: str | PathLike | None = None,
    token: str | bool | None = None,
    processor: Any = None,
    results: str | PathLike | Sequence[str | PathLike] | None = None,
    corpora: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    max_shard_size: int | str = "5GB",
    commit_message: str | None = None,
) -> Publication:
    """
    Publish a checkpoint: weights, configuration, processor, code, records of the training and a card, in one commit.

    ```python
    push_checkpoint("runs/emotion", "me/vqmae-ravdess", corpora=["ravdess"], metadata={"license": "cc-by-nc-sa-4.0"})
    ```

    Args:
        folder: checkpoint as `save_pretrained` or a training program wrote it, or a model.
        repo_id: "user/name", or "name" for your own.
        private: whether a new repository is private; None is what your account's settings say. An existing one is never
            published to against a given `private`.
        revision: branch, made if it is not there; None is the main branch.
        create_pr: open a pull request instead, which needs no right to write.
        dry_run: assemble and list, upload nothing.
        output_dir: new or empty folder to assemble in, kept unless the upload fails; None is a temporary one (kept after a
            dry run, removed after an upload).
        token: as for `HfApi`; None is the one you logged in with.
        processor, results, corpora, metadata, max_shard_size: see [`assemble_repository`].
        commit_message: None is a plain one.

    Raises:
        ValueError: see [`assemble_repository`]; also no valid `repo_id`, or a repository of another visibility.
        PublishingError: the upload failed; see its attributes.
    """
    return publish(
        lambda target: assemble_repository(
            folder,
            target,
            repo_id,
            processor=processor,
            results=results,
            corpora=corpora,
            metadata=metadata,
            max_shard_size=max_shard_size,
        ),
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        dry_run=dry_run,
        output_dir=output_dir,
        token=token,
        commit_message=commit_message,
    )


def publish(
    assemble: Callable[[Path], AssembledRepository],
    repo_id: str,
    *,
    private: bool | None,
    revision: str | None,
    create_pr: bool,
    dry_run: bool,
    output_dir: str | PathLike | None,
    token: str | bool | None,
    commit_message: str | None,
) -> Publication:
    """Assemble and, unless it is a dry run, upload; arguments as of [`push_checkpoint`]."""
    validate_repo_id(repo_id)
    if output_dir is not None:
        repository = assemble(Path(output_dir))
        if dry_run:
            return Publication(repository, repo_id, revision=revision)
        try:
            return Upload(repository, repo_id, private, revision, create_pr, token).run(commit_message)
        except BaseException:
            shutil.rmtree(repository.folder)  # so that the same call can be repeated
            raise
    if dry_run:
        repository = assemble(Path(tempfile.mkdtemp(prefix="vqmae-hf-")) / repo_id.rpartition("/")[2])
        return Publication(repository, repo_id, revision=revision)
    with tempfile.TemporaryDirectory(prefix="vqmae-hf-") as temporary:
        repository = assemble(Path(temporary) / "repository")
        return Upload(repository, repo_id, private, revision, create_pr, token).run(commit_message)
