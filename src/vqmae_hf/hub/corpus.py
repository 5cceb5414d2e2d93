"""The synthetic corpus as a data set of the Hub: clips with their labels and factors in Parquet, and a card."""

from os import PathLike
from pathlib import Path
from typing import Any

from datasets import Dataset
from huggingface_hub import DatasetCard, DatasetCardData

from vqmae_hf.data.corpora import corpus_card
from vqmae_hf.data.synthetic import load_synthetic_corpus, load_synthetic_factors, read_synthetic_parameters
from vqmae_hf.hub.assembly import AssembledRepository, describe_folder, new_folder
from vqmae_hf.hub.model_card import CARD_NAME, render_card
from vqmae_hf.hub.publishing import publish
from vqmae_hf.hub.upload import Publication, format_bytes

CLIPS_CONFIG, FACTORS_CONFIG = "clips", "frame_factors"
BYTES_PER_SHARD = 500_000_000


def push_corpus(
    root: str | PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    output_dir: str | PathLike | None = None,
    token: str | bool | None = None,
    metadata: dict[str, Any] | None = None,
    commit_message: str | None = None,
) -> Publication:
    """
    Publish a synthetic corpus as a data set: mp4 files within Parquet, their labels and factors, and a card.

    Args:
        root: folder that `write_synthetic_corpus` wrote.
        repo_id, private, revision, create_pr, dry_run, output_dir, token, commit_message: as in
            [`vqmae_hf.hub.push_checkpoint`].
        metadata: entries for the head of the card.

    Raises:
        ValueError: there is no complete corpus in `root`, `output_dir` is not empty, or the data set exists with another
            visibility.
        PublishingError: the upload failed.
    """
    return publish(
        lambda target: assemble_corpus(root, target, repo_id, metadata=metadata),
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        dry_run=dry_run,
        output_dir=output_dir,
        token=token,
        commit_message=commit_message,
    )


def assemble_corpus(
    root: str | PathLike, output_dir: str | PathLike, repo_id: str, *, metadata: dict[str, Any] | None = None
) -> AssembledRepository:
    """
    Write what a Hub repository of the corpus holds to a new folder.

    `clips/` has a row per clip as `load_synthetic_corpus` gives them, the mp4 file as bytes; `frame_factors/` the tracks of
    `load_synthetic_factors`, in the same order.

    Raises:
        ValueError: there is no complete corpus in `root`, or `output_dir` is not empty.
    """
    clips, factors = load_synthetic_corpus(root), load_synthetic_factors(root)
    with new_folder(output_dir) as folder:
        write_clips(clips, folder / CLIPS_CONFIG)
        (folder / FACTORS_CONFIG).mkdir()
        factors.to_parquet(folder / FACTORS_CONFIG / "train-00000-of-00001.parquet")
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        card = render_card(
            "synthetic_dataset",
            card_data=DatasetCardData(**{**corpus_metadata(len(clips)), **(metadata or {})}).to_yaml(),
            repo_id=repo_id,
            corpus=corpus_card("synthetic"),
            parameters=read_synthetic_parameters(root).as_dict(),
            classes=clips.features["emotion"].names,
            num_clips=len(clips),
            num_speakers=len(set(clips["speaker"][:])),
            size=format_bytes(num_bytes),
            columns=clips.column_names,
            tracks=[name for name in factors.column_names if name != "clip_id"],
        )
        DatasetCard(card).save(folder / CARD_NAME)
    return describe_folder(Path(output_dir), "dataset", "synthetic_dataset", ())


def write_clips(clips: Dataset, folder: Path) -> None:
    """Clips with the bytes of their files in place of local paths, a shard at a time."""
    folder.mkdir()
    num_bytes = sum(Path(video["path"]).stat().st_size for video in clips["video"])
    num_shards = min(len(clips), 1 + num_bytes // BYTES_PER_SHARD)
    for i in range(num_shards):
        shard = clips.shard(num_shards, i, contiguous=True)
        embedded = [embed_file(Path(video["path"])) for video in shard["video"]]
        columns = {name: embedded if name == "video" else shard[name][:] for name in shard.column_names}
        name = f"train-{i:05d}-of-{num_shards:05d}.parquet"
        Dataset.from_dict(columns, features=clips.features).to_parquet(folder / name)


def embed_file(path: Path) -> dict[str, Any]:
    return {"path": path.name, "bytes": path.read_bytes()}


def corpus_metadata(num_clips: int) -> dict[str, Any]:
    """The head of the card."""
    sizes = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**12, "100K<n<1M")]
    return {
        "license": corpus_card("synthetic").licence.lower(),
        "pretty_name": corpus_card("synthetic").title,
        "task_categories": ["video-classification", "audio-classification"],
        "size_categories": [next(name for bound, name in sizes if num_clips < bound)],
        "tags": ["vqmae-hf", "synthetic", "talking-face", "emotion-recognition", "disentanglement"],
        "configs": [
            {
                "config_name": config,
                "data_files": [{"split": "train", "path": f"{config}/*.parquet"}],
                **({"default": True} if config == CLIPS_CONFIG else {}),
            }
            for config in (CLIPS_CONFIG, FACTORS_CONFIG)
        ],
    }
