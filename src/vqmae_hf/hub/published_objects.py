"""`push_to_hub` of a model, a processor and a pipeline: with the code that loads them elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import Pipeline, PreTrainedModel

from vqmae_hf.hub.assembly import AssembledRepository, describe_folder, new_folder, write_processor
from vqmae_hf.hub.checkpoint_source import PROCESSOR_CLASSES, find_processor
from vqmae_hf.hub.publishing import publish, push_checkpoint


def push_model(
    model: PreTrainedModel,
    repo_id: str,
    *,
    processor: Any = None,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: int | str | None = None,
    tags: Sequence[str] | None = None,
    **card: Any,
) -> str:
    """
    Publish a model as [`vqmae_hf.hub.push_checkpoint`] does: with processor, code and card, in one commit.

    Args:
        processor: None is the one beside the checkpoint that the model was loaded from, or else the one that the repository
            has already, or else one made from the configuration.
        commit_message, commit_description, private, token, revision, create_pr, max_shard_size: as in
            [`~transformers.PreTrainedModel.push_to_hub`].
        tags: for the card.
        **card: `results`, `corpora`, `metadata` of [`vqmae_hf.hub.push_checkpoint`].

    Returns:
        Address of the commit or of the pull request.
    """
    metadata = dict(card.pop("metadata", None) or {})
    if tags:
        metadata["tags"] = list(tags)
    publication = push_checkpoint(
        model,
        repo_id,
        processor=processor or processor_of(model, repo_id, token, revision),
        private=private,
        token=token,
        revision=revision,
        create_pr=create_pr,
        max_shard_size=max_shard_size or "5GB",
        commit_message="\n\n".join(filter(None, (commit_message or "Upload model", commit_description))),
        metadata=metadata,
        **card,
    )
    return str(publication.url)


def processor_of(model: PreTrainedModel, repo_id: str, token: bool | str | None, revision: str | None) -> Any:
    """The processor on disk or, where there is none, on the Hub; None where it has to be made."""
    came_from = Path(str(model.name_or_path or ""))
    folder = came_from if model.name_or_path and came_from.is_dir() else None
    processor, notes = find_processor(model, folder)
    if not notes:
        return processor
    try:
        return PROCESSOR_CLASSES[model.config.model_type].from_pretrained(
            repo_id, token=token, revision=revision or "main"
        )
    except OSError:  # no such repository, no processor in it, or no connection, which the upload will notice
        return None


def push_pipeline(pipeline: Pipeline, repo_id: str, **options: Any) -> str:
    """[`push_model`] of the pipeline's model, with the pipeline's processor."""
    return push_model(pipeline.model, repo_id, processor=pipeline.processor, **options)


def push_processor(
    processor: Any,
    repo_id: str,
    *,
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: bool | str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    **_: Any,
) -> str:
    """
    Publish a processor, or a part of one, with its code; what else the repository holds stays.

    Args:
        commit_message, commit_description, private, token, revision, create_pr: as in
            [`~transformers.ProcessorMixin.push_to_hub`], whose other arguments say nothing here.

    Returns:
        Address of the commit or of the pull request.
    """

    def assemble(target: Path) -> AssembledRepository:
        with new_folder(target) as folder:
            write_processor(processor, folder)
        return describe_folder(target, "model", "processor", (), is_whole=False)

    publication = publish(
        assemble,
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        dry_run=False,
        output_dir=None,
        token=token,
        commit_message="\n\n".join(filter(None, (commit_message or "Upload processor", commit_description))),
    )
    return str(publication.url)
