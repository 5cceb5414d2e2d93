"""What a local hub stores: repositories with commits, branches and pull requests, in memory."""

import hashlib
import json
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import yaml

LFS_SUFFIXES = (".safetensors", ".parquet", ".mp4", ".bin", ".arrow")
GITATTRIBUTES = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES).encode()
LICENCES = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-sa-4.0", "odbl", "other", "unknown")


class HubError(Exception):
    """An answer that says no: HTTP status, error code and message, as the Hub gives them."""

    def __init__(self, status: int, code: str, message: str):
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True)
class StoredFile:
    """Content of a file, and whether it went through large file storage."""

    content: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.blob_id

    @property
    def blob_id(self) -> str:
        """git's name: that of the pointer where the content is elsewhere."""
        content = self.content
        if self.is_lfs:
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(content)}\n"
            content = pointer.encode()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        entry = {"type": "file", "path": path, "size": len(self.content), "oid": self.blob_id}
        if self.is_lfs:
            entry["lfs"] = {"oid": self.sha256, "size": len(self.content), "pointerSize": 130}
        return entry


@dataclass(frozen=True)
class Commit:
    sha: str
    files: dict[str, StoredFile]
    title: str
    parent: "Commit | None"

    def history(self) -> list["Commit"]:
        return [self, *(self.parent.history() if self.parent else [])]


@dataclass
class HubRepository:
    """One repository; `refs` are branches ("main") and pull requests ("refs/pr/1")."""

    kind: str
    repo_id: str
    private: bool
    refs: dict[str, Commit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refs["main"] = make_commit({".gitattributes": StoredFile(GITATTRIBUTES, False)}, "initial commit", None)

    @property
    def files(self) -> dict[str, StoredFile]:
        return self.refs["main"].files

    def at(self, revision: str) -> Commit:
        """The commit of a branch, a pull request or an abbreviated sha."""
        if revision in self.refs:
            return self.refs[revision]
        for commit in (c for ref in self.refs.values() for c in ref.history()):
            if len(revision) >= 7 and commit.sha.startswith(revision):
                return commit
        raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")

    def commit(self, lines: Iterable[dict[str, Any]], revision: str, create_pr: bool, lfs: dict[str, bytes]) -> str:
        """Apply the lines of a commit; returns the ref that it went to."""
        base = self.at(revision)
        files, title = dict(base.files), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, base.sha):
                    raise HubError(412, "", "A commit has happened since. Please refresh and try again.")
            elif line["key"] == "file":
                files[value["path"]] = StoredFile(b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                if value["oid"] not in lfs:
                    raise HubError(400, "", f"LFS pointer pointed to a file that does not exist: {value['path']}")
                files[value["path"]] = StoredFile(lfs[value["oid"]], True)
            elif line["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise HubError(404, "EntryNotFound", f"A file with this name doesn't exist: {value['path']}")
            else:
                raise HubError(400, "", f"the local hub knows no {line['key']}")
        check_card(files)
        ref = revision
        if create_pr:
            ref = f"refs/pr/{sum(name.startswith('refs/pr/') for name in self.refs) + 1}"
        self.refs[ref] = make_commit(files, title, base)
        return ref


def make_commit(files: dict[str, StoredFile], title: str, parent: Commit | None) -> Commit:
    tree = {path: file.etag for path, file in sorted(files.items())}
    content = json.dumps([tree, title, parent.sha if parent else None]).encode()
    return Commit(hashlib.sha1(content).hexdigest(), files, title, parent)


def check_card(files: dict[str, StoredFile]) -> None:
    """The Hub refuses a commit whose README has bad metadata."""
    if "README.md" in files:
        errors = card_errors(files["README.md"].content.decode())
        if errors:
            raise HubError(400, "", "Invalid metadata in README.md: " + "; ".join(errors))


def card_errors(content: str) -> list[str]:
    """What is wrong with the metadata of a card, by the rules that the Hub documents."""
    parts = content.split("---\n", 2)
    if parts[0] or len(parts) < 3:
        return ["no metadata between two lines of ---"]
    data = yaml.safe_load(parts[1])
    if not isinstance(data, dict):
        return ["metadata is no mapping"]
    errors = []
    if "license" in data and data["license"] not in LICENCES:
        errors.append(f"license {data['license']!r} is not in the list")
    for name in ("tags", "datasets"):
        if not all(isinstance(item, str) for item in data.get(name, [])):
            errors.append(f"{name} must be text")
    for language in data.get("language", []):
        if not (isinstance(language, str) and 2 <= len(language) <= 3):
            errors.append(f"language {language!r} is no ISO 639 code")
    for model in data.get("model-index", []):
        errors += result_errors(model)
    return errors


def result_errors(model: dict[str, Any]) -> list[str]:
    errors = [] if model.get("name") else ["model-index without name"]
    for result in model["results"]:
        if not result.get("task", {}).get("type"):
            errors.append("a result without task.type")
        if not {"name", "type"} <= set(result.get("dataset", {})):
            errors.append("a result without dataset.name and dataset.type")
        for metric in result.get("metrics", []):
            if not metric.get("type") or not isinstance(metric.get("value"), int | float):
                errors.append(f"a metric without type or number: {metric}")
    return errors
