"""One commit that brings an assembled folder to the Hub, and an account of what is there when that fails."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from vqmae_hf.hub.assembly import AssembledRepository
from vqmae_hf.hub.checkpoint_source import PROCESSOR_FILES

MADE_BY_THE_HUB = (".gitattributes",)
# Of an earlier publication, these would be loaded in place of what replaces them, or beside it.
LOADED = re.compile(r"((pytorch_)?model(-\d+-of-\d+)?\.(safetensors|bin)(\.index\.json)?)|(train-\d+-of-\d+\.parquet)")

logger = logging.getLogger(__name__)


class RefusedPublicationError(ValueError):
    """A publication that was not begun, because what is on the server contradicts what was asked for."""


class PublishingError(RuntimeError):
    """
    A publication that failed; the message says why, what is on the server now, and what to do.

    Attributes:
        is_published: whether everything arrived nevertheless, and only the answer was lost.
        files_on_server: paths at the revision that was published to, besides those that the Hub makes; None where the server
            could not be asked.
        repository_exists: None where the server could not be asked.
    """

    def __init__(
        self, message: str, is_published: bool, files_on_server: list[str] | None, repository_exists: bool | None
    ):
        super().__init__(message)
        self.is_published = is_published
        self.files_on_server = files_on_server
        self.repository_exists = repository_exists


@dataclass(frozen=True)
class Publication:
    """
    What was published, or would be.

    Args:
        repository: the folder; of a dry run, or one with `output_dir`, it is still there.
        repo_id: with its owner, unless a dry run did not learn it.
        url: of the commit, or of the pull request; None for a dry run.
        revision: branch or pull request ("refs/pr/1") that holds it; None is the main branch.
        deleted: files of an earlier publication that went.
    """

    repository: AssembledRepository
    repo_id: str
    url: str | None = None
    revision: str | None = None
    deleted: tuple[str, ...] = ()

    @property
    def listing(self) -> str:
        """What went, or would go, one file per line, and what to know about it."""
        sizes = [f"{format_bytes(size):>10}  {path}" for path, size in self.repository.files.items()]
        total = f"{format_bytes(self.repository.num_bytes):>10}  in {len(sizes)} files"
        notes = [f"note: {note}" for note in self.repository.notes]
        return "\n".join([*sizes, total, *(f"deleted: {path}" for path in self.deleted), *notes])


class Upload:
    """One attempt to bring an assembled folder to the Hub; arguments as of [`push_checkpoint`]."""

    def __init__(
        self,
        repository: AssembledRepository,
        repo_id: str,
        private: bool | None,
        revision: str | None,
        create_pr: bool,
        token: str | bool | None,
    ):
        self.repository = repository
        self.repo_id = repo_id
        self.private = private
        self.revision = revision
        self.create_pr = create_pr
        self.api = HfApi(token=token)
        self.of_repo: dict[str, Any] = {"repo_type": repository.repo_type}
        self.made_repository = self.made_branch = False
        self.head: str | None = None  # the last commit before this attempt, once it is known
        self.old_requests: set[str] = set()

    def run(self, commit_message: str | None = None) -> Publication:
        """Make the repository and the branch where they are absent, then commit everything at once."""
        try:
            self.prepare_repository()
            self.prepare_branch()
            self.head = self.api.repo_info(self.repo_id, revision=self.revision, **self.of_repo).sha
            if self.create_pr:
                self.old_requests = self.pull_requests()
            deleted = [path for path in self.files_on_server() if self.is_outdated(path)]
            commit = self.commit(deleted, commit_message or f"Upload {self.repository.kind.replace('_', ' ')}")
        except RefusedPublicationError:
            if self.made_repository:
                self.remove_repository()
            raise
        except Exception as error:
            # Of the client, its transport or the disk: whatever it is, the server has to be looked at.
            raise self.account_of(error) from error
        except KeyboardInterrupt as stop:
            logger.warning("%s", self.account_of(stop))
            raise
        revision = commit.pr_revision or self.revision
        url = commit.pr_url or commit.commit_url
        return Publication(self.repository, self.repo_id, url, revision, tuple(deleted))

    def commit(self, deleted: Sequence[str], message: str) -> CommitInfo:
        """All files at once; the first line of `message` is the title."""
        title, _, description = message.partition("\n")
        return self.api.create_commit(
            self.repo_id,
            operations=self.operations(deleted),
            commit_message=title,
            commit_description=description.strip() or None,
            revision=self.revision,
            create_pr=self.create_pr,
            **self.of_repo,
        )

    def prepare_repository(self) -> None:
        """Create the repository, or look at the one that is there.

        Raises:
            RefusedPublicationError: it is public and should be private, or the other way round.
        """
        if "/" not in self.repo_id:
            self.repo_id = f"{self.api.whoami()['name']}/{self.repo_id}"
        try:
            info = self.api.repo_info(self.repo_id, **self.of_repo)
        except RepositoryNotFoundError:
            self.made_repository = True  # already now: the answer may get lost
            self.api.create_repo(self.repo_id, private=self.private, exist_ok=True, **self.of_repo)
            return
        if self.private is not None and info.private != self.private:
            found, wanted = ("private" if info.private else "public"), ("private" if self.private else "public")
            raise RefusedPublicationError(
                f"{self.repo_id} exists and is {found}, but private={self.private} was asked for. Nothing was uploaded. "
                f"Make it {wanted} (`HfApi().update_repo_settings({self.repo_id!r}, private={self.private})`), choose "
                "another name, or leave private out."
            )

    def prepare_branch(self) -> None:
        """Create the branch that was asked for, unless it is there; pull requests ("refs/pr/1") have to be."""
        if self.revision is None or self.create_pr:
            return
        try:
            self.api.repo_info(self.repo_id, revision=self.revision, **self.of_repo)
        except RevisionNotFoundError as error:
            if self.revision.startswith("refs/"):
                raise RefusedPublicationError(
                    f"revision={self.revision!r}: {self.repo_id} has no such pull request; pass create_pr=True for one."
                ) from error
            self.made_branch = True
            self.api.create_branch(self.repo_id, branch=self.revision, **self.of_repo)

    def operations(self, deleted: Sequence[str]) -> list[CommitOperationAdd | CommitOperationDelete]:
        folder = self.repository.folder
        additions = [CommitOperationAdd(path, str(folder / path)) for path in self.repository.files]
        return [*additions, *(CommitOperationDelete(path) for path in deleted)]

    def is_outdated(self, path: str) -> bool:
        """Whether a file on the server is one of an earlier publication that this one does not have."""
        new = self.repository.files
        if not self.repository.is_whole or path in new:
            return False
        folder, _, name = path.rpartition("/")
        is_beside = folder in {path.rpartition("/")[0] for path in new}
        return is_beside and (name in PROCESSOR_FILES or LOADED.fullmatch(name) is not None)

    def files_on_server(self) -> list[str]:
        """Paths at the revision, besides those that the Hub makes."""
        files = self.api.list_repo_files(self.repo_id, revision=self.revision, **self.of_repo)
        return [path for path in files if path not in MADE_BY_THE_HUB]

    def pull_requests(self) -> set[str]:
        refs = self.api.list_repo_refs(self.repo_id, include_pull_requests=True, **self.of_repo)
        return {request.ref for request in refs.pull_requests or []}

    def is_on_server(self, revision: str | None) -> bool:
        """Whether every file of the folder is at the revision, with the same content."""
        entries = self.api.list_repo_tree(self.repo_id, recursive=True, revision=revision, **self.of_repo)
        there = {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}
        return all(
            path in there and has_content(there[path], self.repository.folder / path) for path in self.repository.files
        )

    def account_of(self, error: BaseException) -> PublishingError:
        """What failed, what is on the server, and what to do; what this attempt made, and left empty, is removed."""
        advice = advice_for(error)
        try:
            is_published, files, remains = self.look_at_server()
            exists: bool | None = files is not None
        except Exception as unreachable:
            is_published, files, exists = False, None, None
            made = " An empty repository may have been made by this attempt." if self.made_repository else ""
            remains = (
                f"The server does not answer ({explain(unreachable)}), so what it holds is not known.{made} It shows all "
                "files of this publication or none, since they come in one commit."
            )
        if is_published:
            advice = "Nothing is left to do."
        message = f"publishing to {self.repo_id} failed: {explain(error)}. {remains} {advice}"
        return PublishingError(message, is_published, files, exists)

    def look_at_server(self) -> tuple[bool, list[str] | None, str]:
        """Whether all is there, the files (None without repository), and both in words."""
        where = self.repo_id + (f" at {self.revision}" if self.revision else "")
        try:
            files = self.files_on_server()
            arrived = self.find_publication()
        except RepositoryNotFoundError:
            return False, None, f"There is no repository {self.repo_id} that this token may see."
        except RevisionNotFoundError:
            return (
                False,
                [],
                f"{self.repo_id} has no revision {self.revision}; nothing of this publication is visible.",
            )
        if arrived is not None:
            return (
                True,
                files,
                f"But {arrived} holds every file of it: the commit was made, and only the answer got lost.",
            )
        if self.made_repository and not files:
            return self.remove_repository()
        if self.made_branch:
            self.api.delete_branch(self.repo_id, branch=self.revision or "", **self.of_repo)
            return False, [], f"The branch {self.revision}, made by this attempt, was removed again."
        state = f"is as it was before, with {len(files)} files" if files else "is empty, as it was before"
        return False, files, f"{where} {state}: nothing of this publication is visible."

    def find_publication(self) -> str | None:
        """The place that holds everything, and did not before, although the upload failed."""
        if self.head is None:
            return None
        if self.create_pr:
            new = sorted(self.pull_requests() - self.old_requests)
            return next((f"{self.repo_id} at {ref}" for ref in new if self.is_on_server(ref)), None)
        head = self.api.repo_info(self.repo_id, revision=self.revision, **self.of_repo).sha
        arrived = head != self.head and self.is_on_server(self.revision)
        return f"{self.repo_id} at {self.revision or 'main'}" if arrived else None

    def remove_repository(self) -> tuple[bool, list[str] | None, str]:
        """Delete the repository that this attempt made, and that is empty."""
        try:
            self.api.delete_repo(self.repo_id, **self.of_repo)
        except Exception as error:
            remains = f"The empty repository {self.repo_id}, made by this attempt, is still there ({explain(error)})."
            return False, [], f"{remains} Repeat the publication, or delete it: `hf repo delete {self.repo_id}`."
        return False, None, f"The empty repository {self.repo_id}, made by this attempt, was removed again."


def has_content(entry: RepoFile, path: Path) -> bool:
    """Whether a file on the server has the content of a local one."""
    if entry.size != path.stat().st_size:
        return False
    if entry.lfs is None:
        return git_hash(path.read_bytes()) == entry.blob_id
    with path.open("rb") as stream:
        return sha_fileobj(stream).hex() == entry.lfs.sha256


def explain(error: BaseException) -> str:
    """The first line of what went wrong first."""
    while isinstance(error.__cause__, Exception) and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    if isinstance(error, HfHubHTTPError) and error.response is not None:
        told = error.server_message or error.response.reason_phrase
        return f"the server said {error.response.status_code} ({told})"
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def advice_for(error: BaseException) -> str:
    """What to do about it."""
    while isinstance(error.__cause__, Exception) and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    status = error.response.status_code if isinstance(error, HfHubHTTPError) and error.response is not None else None
    if isinstance(error, LocalTokenNotFoundError) or status == 401:
        return "Log in with a token that may write: `hf auth login`, or pass `token`."
    if isinstance(error, OfflineModeIsEnabled):
        return "Unset HF_HUB_OFFLINE, or look at what would go with dry_run=True."
    if status == 403:
        return (
            "Use a token that may write there, publish under your own name, or free some of your storage; then repeat."
        )
    if status == 413:
        return "Publish in smaller files (`max_shard_size`), or free some of your storage; then repeat."
    return "Repeat the same call; what was uploaded already is not uploaded again."


def format_bytes(size: int) -> str:
    """1.2 MB."""
    value, units = float(size), ["B", "kB", "MB", "GB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
