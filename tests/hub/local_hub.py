"""
A hub for tests: the routes that `huggingface_hub` calls, over HTTP on the loopback, with failures on demand.

    with LocalHub() as hub:
        HfApi(endpoint=hub.url, token="tester-token").create_repo("tester/model")
        hub.fail(Failure("PUT", "/lfs/", status=500))
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hub_repositories import LFS_SUFFIXES, HubError, HubRepository, StoredFile, card_errors
from huggingface_hub import constants

USERS = {"tester-token": "tester", "stranger-token": "stranger"}


@dataclass
class Failure:
    """
    What goes wrong, and when: requests of `method` whose path contains `path`, after `skip` that succeed, `times` times.

    Args:
        status: answered in place of the work, with `message`; or else the connection is dropped.
        after_work: the work is done, and only then things go wrong.
        mid_body: the connection is dropped while the client is still sending.
    """

    method: str
    path: str
    status: int | None = None
    message: str = "the local hub was told to fail"
    times: int = 10**6
    skip: int = 0
    after_work: bool = False
    mid_body: bool = False

    def strikes(self, method: str, path: str) -> bool:
        if method != self.method or self.path not in path or self.times < 1:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.times -= 1
        return True


class Answer(Exception):
    """Status, JSON or bytes, and headers."""

    def __init__(self, content: Any = b"", status: int = 200, headers: Mapping[str, str] | None = None):
        self.status, self.headers = status, dict(headers or {})
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            self.headers["Content-Type"] = "application/json"
        self.content = content


class LocalHub:
    """Everything of a hub that clients see: `repositories` by (type, id), `lfs` content, `requests` as "METHOD path"."""

    def __init__(self) -> None:
        self.repositories: dict[tuple[str, str], HubRepository] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.failures: list[Failure] = []
        self.lock = Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (HubHandler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "LocalHub":
        Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, *failures: Failure) -> None:
        """From now on; without arguments, no longer."""
        self.failures = list(failures)

    def model(self, repo_id: str) -> HubRepository:
        return self.repositories["models", repo_id]

    def dataset(self, repo_id: str) -> HubRepository:
        return self.repositories["datasets", repo_id]


class HubHandler(BaseHTTPRequestHandler):
    """One connection. Routes are the methods named in ROUTES; each raises `Answer` or `HubError`."""

    hub: LocalHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def handle_one(self) -> None:
        self.parts = urlsplit(self.path)
        self.query = parse_qs(self.parts.query)
        with self.hub.lock:
            self.hub.requests.append(f"{self.command} {self.path}")
            failure = next((f for f in self.hub.failures if f.strikes(self.command, self.path)), None)
        body = b"" if failure is not None and failure.mid_body else self.read_body()
        answer = None
        if failure is None or failure.after_work:
            with self.hub.lock:
                answer = self.work(body)
        if failure is not None:
            answer = self.failed(failure)
        if answer is None:
            self.close_connection = True
            self.connection.close()
            return
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.content)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one

    def failed(self, failure: Failure) -> Answer | None:
        if failure.status is None:
            return None
        return Answer({"error": failure.message}, failure.status, {"X-Error-Message": failure.message})

    def work(self, body: bytes) -> Answer:
        try:
            self.route(body)
        except Answer as answer:
            return answer
        except HubError as error:
            headers = {"X-Error-Code": error.code, "X-Error-Message": error.message}
            return Answer({"error": error.message}, error.status, {k: v for k, v in headers.items() if v})

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def route(self, body: bytes) -> NoReturn:
        for method, pattern, handler in ROUTES:
            match = re.fullmatch(pattern, self.parts.path)
            if match and self.command in method:
                handler(self, body, **{name: unquote(text) for name, text in match.groupdict(default="").items()})
        raise HubError(404, "", f"the local hub knows no {self.command} {self.parts.path}")

    @property
    def user(self) -> str | None:
        return USERS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def repository(self, kind: str, repo_id: str, *, write: bool = False) -> HubRepository:
        repository = self.hub.repositories.get((kind or "models", repo_id))
        owner = repo_id.split("/")[0]
        if repository is None or (repository.private and self.user != owner):
            raise HubError(404 if self.user else 401, "RepoNotFound", "Repository not found")
        if write and self.user != owner:
            raise HubError(403, "", f"Forbidden: you do not have write access to {repo_id}.")
        return repository

    def whoami(self, _: bytes) -> NoReturn:
        if self.user is None:
            raise HubError(401, "", "Invalid username or password.")
        raise Answer({"type": "user", "name": self.user, "fullname": self.user, "orgs": [], "auth": {}})

    def validate_yaml(self, body: bytes) -> NoReturn:
        errors = [{"message": message} for message in card_errors(json.loads(body)["content"])]
        raise Answer({"errors": errors, "warnings": []}, 400 if errors else 200)

    def create(self, body: bytes) -> NoReturn:
        request = json.loads(body)
        if self.user is None:
            raise HubError(401, "", "Invalid username or password.")
        repo_id = f"{request.get('organization') or self.user}/{request['name']}"
        if repo_id.split("/")[0] != self.user:
            raise HubError(403, "", "You don't have the rights to create a repository under this namespace.")
        kind = f"{request.get('type', 'model')}s"
        prefix = "" if kind == "models" else f"{kind}/"
        answer = {"url": f"{self.hub.url}/{prefix}{repo_id}", "name": repo_id}
        if (kind, repo_id) in self.hub.repositories:
            raise Answer({"error": "You already created this repo", **answer}, 409)
        private = request.get("private") or request.get("visibility") == "private"
        self.hub.repositories[kind, repo_id] = HubRepository(kind, repo_id, bool(private))
        raise Answer(answer)

    def delete(self, body: bytes) -> NoReturn:
        request = json.loads(body)
        kind, repo_id = (
            f"{request.get('type', 'model')}s",
            f"{request.get('organization') or self.user}/{request['name']}",
        )
        self.repository(kind, repo_id, write=True)
        del self.hub.repositories[kind, repo_id]
        raise Answer({})

    def info(self, _: bytes, kind: str, repo_id: str, revision: str) -> NoReturn:
        repository = self.repository(kind, repo_id)
        commit = repository.at(revision or "main")
        siblings = [{"rfilename": path, "size": len(file.content)} for path, file in sorted(commit.files.items())]
        facts = {"sha": commit.sha, "private": repository.private, "siblings": siblings, "tags": [], "gated": False}
        raise Answer({"id": repo_id, "modelId": repo_id, "author": repo_id.split("/")[0], "downloads": 0, **facts})

    def tree(self, _: bytes, kind: str, repo_id: str, revision: str, path: str) -> NoReturn:
        files = self.repository(kind, repo_id).at(revision).files
        folder = f"{path.strip('/')}/" if path.strip("/") else ""
        below = {name: file for name, file in files.items() if name.startswith(folder)}
        if folder and not below:
            raise HubError(404, "EntryNotFound", f"{path} does not exist on {revision}")
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries = [f.entry(name) for name, f in below.items() if recursive or "/" not in name[len(folder) :]]
        folders = {f"{folder}{name[len(folder) :].split('/')[0]}" for name in below if "/" in name[len(folder) :]}
        entries += [{"type": "directory", "path": name, "oid": "0" * 40, "size": 0} for name in sorted(folders)]
        raise Answer(sorted(entries, key=lambda entry: entry["path"]))

    def paths_info(self, body: bytes, kind: str, repo_id: str, revision: str) -> NoReturn:
        files = self.repository(kind, repo_id).at(revision).files
        wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        raise Answer([files[path].entry(path) for path in wanted if path in files])

    def refs(self, _: bytes, kind: str, repo_id: str) -> NoReturn:
        refs = {name: c.sha for name, c in self.repository(kind, repo_id).refs.items()}
        listed: dict[str, list] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
        for name, sha in refs.items():
            is_request = name.startswith("refs/")
            ref = name if is_request else f"refs/heads/{name}"
            listed["pullRequests" if is_request else "branches"].append(
                {"name": name, "ref": ref, "targetCommit": sha}
            )
        raise Answer(listed)

    def commits(self, _: bytes, kind: str, repo_id: str, revision: str) -> NoReturn:
        history = self.repository(kind, repo_id).at(revision).history()
        date = "2026-01-01T00:00:00.000Z"
        raise Answer([{"id": c.sha, "title": c.title, "message": "", "authors": [], "date": date} for c in history])

    def branch(self, body: bytes, kind: str, repo_id: str, name: str) -> NoReturn:
        repository = self.repository(kind, repo_id, write=True)
        if self.command == "DELETE":
            repository.at(name)
            del repository.refs[name]
            raise Answer({})
        if name in repository.refs:
            raise HubError(409, "", "Reference already exists")
        start = json.loads(body or b"{}").get("startingPoint") or "main"
        repository.refs[name] = repository.at(start)
        raise Answer({})

    def preupload(self, body: bytes, kind: str, repo_id: str, revision: str) -> NoReturn:
        create_pr = "create_pr" in self.query
        files = self.repository(kind, repo_id, write=not create_pr).at(revision).files
        answers = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            mode = "lfs" if path.endswith(LFS_SUFFIXES) or file["size"] > 10_000_000 else "regular"
            old = files.get(path)
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": old.etag if old else None})
        raise Answer({"files": answers})

    def lfs_batch(self, body: bytes, kind: str, repo_id: str) -> NoReturn:
        self.repository(kind, repo_id)
        objects = []
        for item in json.loads(body)["objects"]:
            upload = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}
            objects.append({**item, **({} if item["oid"] in self.hub.lfs else {"actions": upload})})
        raise Answer({"transfer": "basic", "objects": objects})

    def lfs_put(self, body: bytes, oid: str) -> NoReturn:
        if StoredFile(body, True).sha256 != oid:
            raise HubError(400, "", "content does not match its sha256")
        self.hub.lfs[oid] = body
        raise Answer({})

    def commit(self, body: bytes, kind: str, repo_id: str, revision: str) -> NoReturn:
        create_pr = "create_pr" in self.query
        repository = self.repository(kind, repo_id, write=not create_pr)
        lines = [json.loads(line) for line in body.splitlines() if line]
        ref = repository.commit(lines, revision, create_pr, self.hub.lfs)
        sha = repository.refs[ref].sha
        prefix = f"{self.hub.url}/{'' if repository.kind == 'models' else 'datasets/'}{repo_id}"
        answer = {"success": True, "commitOid": sha, "commitUrl": f"{prefix}/commit/{sha}"}
        if create_pr:
            answer["pullRequestUrl"] = f"{prefix}/discussions/{ref.rsplit('/', 1)[1]}"
        raise Answer(answer)

    def resolve(self, _: bytes, kind: str, repo_id: str, revision: str, path: str) -> NoReturn:
        commit = self.repository(kind, repo_id).at(revision)
        file = commit.files.get(path)
        if file is None:
            raise HubError(404, "EntryNotFound", f"{path} does not exist in {repo_id} at {revision}")
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            raise Answer(file.content, headers=headers)
        start, end = int(asked[1]), int(asked[2] or len(file.content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(file.content)}"
        raise Answer(file.content[start : end + 1], 206, headers)


REPO = r"(?P<repo_id>[^/]+/[^/]+)"
API = rf"/api/(?P<kind>models|datasets)/{REPO}"
REVISION = r"(?P<revision>[^/]+)"
FILES = rf"/(?:(?P<kind>datasets)/)?{REPO}"
ROUTES: list[tuple[str, str, Callable[..., NoReturn]]] = [
    ("GET", "/api/whoami-v2", HubHandler.whoami),
    ("POST", "/api/validate-yaml", HubHandler.validate_yaml),
    ("POST", "/api/repos/create", HubHandler.create),
    ("DELETE", "/api/repos/delete", HubHandler.delete),
    ("GET", rf"{API}(?:/revision/{REVISION})?", HubHandler.info),
    ("GET", rf"{API}/tree/{REVISION}(?:/(?P<path>.*))?", HubHandler.tree),
    ("POST", rf"{API}/paths-info/{REVISION}", HubHandler.paths_info),
    ("GET", rf"{API}/refs", HubHandler.refs),
    ("GET", rf"{API}/commits/{REVISION}", HubHandler.commits),
    ("POST DELETE", rf"{API}/branch/(?P<name>[^/]+)", HubHandler.branch),
    ("POST", rf"{API}/preupload/{REVISION}", HubHandler.preupload),
    ("POST", rf"{API}/commit/{REVISION}", HubHandler.commit),
    ("POST", rf"{FILES}\.git/info/lfs/objects/batch", HubHandler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", HubHandler.lfs_put),
    ("GET HEAD", rf"{FILES}/resolve/{REVISION}/(?P<path>.+)", HubHandler.resolve),
]


def use_hub(monkeypatch: pytest.MonkeyPatch, hub: LocalHub, cache: Path, token: str = "tester-token") -> None:
    """Everything in this process that talks to the Hub talks to this one, as "tester"."""
    for name, value in {
        "ENDPOINT": hub.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_CACHE": str(cache),
    }.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_TOKEN", token)
