"""A small Hugging Face hub on the loopback, with the faults that real ones have.

    with FakeHub() as hub:
        hub.add("owner/name", {"config.json": b"{}", "model.safetensors": weights})
        hub.faults.cut_after = 1000
        ... HF_ENDPOINT=hub.endpoint ...
        assert hub.asked("/resolve/")

It speaks what huggingface_hub 2.4 asks of a hub: `/api/models/REPO[/revision/REV]`,
`/api/models/REPO/tree/REV[/FOLDER]`, `/api/models/REPO/paths-info/REV`, and HEAD and GET of
`/REPO/resolve/REV/FILE` with `Range`. Large files are redirected to another host
name, as the real hub's are to its CDN.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import create_server, socket
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub_files import LFS_FROM, Commit, Faults, Request, git_id, sha256_of, sibling, tree_entry


class FakeHub:
    """The server; a context manager."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.requests: list[Request] = []
        self.stopping = threading.Event()
        self._repos: dict[str, list[Commit]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def cdn(self) -> str:
        """The same server by another name, so that a client takes it for another host."""
        return f"http://localhost:{self.port}"

    def add(self, repo: str, files: Mapping[str, bytes], sha: str = "") -> str:
        """Commit these files to a repository's main; return the commit, by default one of their contents."""
        seed = repr(
            (
                repo,
                len(self._repos.get(repo, ())),
                sorted((name, sha256_of(data)) for name, data in files.items()),
            )
        )
        made = hashlib.sha1(seed.encode(), usedforsecurity=False).hexdigest()
        commit = Commit(sha or made, dict(files))
        self._repos.setdefault(repo, []).append(commit)
        return commit.sha

    def rewrite(self, repo: str, files: Mapping[str, bytes]) -> str:
        """Replace a repository's whole history by one commit, as a force push does."""
        self._repos.pop(repo, None)
        return self.add(repo, files)

    def asked(self, part: str = "", method: str = "GET") -> list[Request]:
        """Return the requests whose path has `part` in it."""
        return [r for r in self.requests if part in r.path and r.method == method]

    def repo_of(self, path: str) -> tuple[str, str]:
        """Split a path into a known repository and what follows it."""
        for repo in self._repos:
            if path == repo or path.startswith(repo + "/"):
                return repo, path.removeprefix(repo).lstrip("/")
        return "", path

    def commit(self, repo: str, revision: str) -> Commit | None:
        commits = self._repos.get(repo, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((commit for commit in commits if commit.sha == revision), None)

    def blob(self, sha256: str) -> bytes | None:
        files = (data for commits in self._repos.values() for c in commits for data in c.files.values())
        return next((data for data in files if sha256_of(data) == sha256), None)


def _handler_of(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"hub": hub})


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def _answer(self) -> None:
        self.hub.requests.append(Request(self.command, self.path, dict(self.headers.items())))
        faults = self.hub.faults
        path = unquote(urlsplit(self.path).path).lstrip("/")
        if faults.html:
            self._send(
                200, b"<html>Please log in to this hotel's network</html>", {"Content-Type": "text/html"}
            )
        elif faults.status:
            self._refuse(faults.status, "")
        elif path.startswith("api/models/"):
            self._api(path.removeprefix("api/models/"))
        elif path.startswith("cdn/"):
            data = self.hub.blob(path.removeprefix("cdn/"))
            self._file(data, {}) if data is not None else self._refuse(404, "EntryNotFound")
        else:
            self._resolve(path)

    def _api(self, path: str) -> None:
        repo, rest = self.hub.repo_of(path)
        if not repo:
            self._refuse(401, "RepoNotFound")
            return
        if self.hub.faults.gated:
            self._refuse(403, "GatedRepo")
            return
        verb, _, revision = rest.partition("/")
        folder = ""
        if verb == "tree":
            revision, _, folder = revision.partition("/")
        commit = self.hub.commit(repo, revision or "main")
        if commit is None:
            self._refuse(404, "RevisionNotFound")
            return
        wanted = parse_qs(self.body.decode())["paths"] if verb == "paths-info" else list(commit.files)
        below = folder and folder + "/"
        entries = [
            (name, commit.files[name]) for name in wanted if name in commit.files and name.startswith(below)
        ]
        if below and not entries:
            self._refuse(404, "EntryNotFound")
            return
        if verb in ("tree", "paths-info"):
            self._json([tree_entry(name, data) for name, data in entries])
        else:
            siblings = [sibling(name, data) for name, data in entries]
            self._json(
                {"id": repo, "modelId": repo, "sha": commit.sha, "private": False, "siblings": siblings}
            )

    def _resolve(self, path: str) -> None:
        repo, rest = self.hub.repo_of(path)
        verb, _, rest = rest.partition("/")
        revision, _, name = rest.partition("/")
        commit = self.hub.commit(repo, revision) if verb == "resolve" else None
        if self.hub.faults.gated:
            self._refuse(403, "GatedRepo")
        elif commit is None:
            self._refuse(404, "RevisionNotFound" if repo else "RepoNotFound")
        elif name not in commit.files or name in self.hub.faults.gone:
            self._refuse(404, "EntryNotFound")
        else:
            self._send_or_redirect(commit, commit.files[name])

    def _send_or_redirect(self, commit: Commit, data: bytes) -> None:
        headers = {"X-Repo-Commit": commit.sha}
        if len(data) < LFS_FROM:
            self._file(data, headers | {"ETag": f'"{git_id(data)}"'})
            return
        sha256 = sha256_of(data)
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
        host = self.hub.faults.elsewhere or self.hub.cdn
        self._send(302, b"", headers | {"Location": f"{host}/cdn/{sha256}?Signature=secret"})

    def _file(self, data: bytes, headers: dict[str, str]) -> None:
        faults, total, status = self.hub.faults, len(data), 200
        if faults.flip and total >= LFS_FROM:
            data = data[:-1] + bytes([data[-1] ^ 1])
        asked = self.headers.get("Range", "")
        if asked and not faults.ignore_range:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= total:
                self._refuse(416, "")
                return
            data, status = data[start:], 206
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        self._send(status, data, headers | {"Accept-Ranges": "bytes"}, breakable=True)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b'{"error": "no"}', {"X-Error-Code": code} if code else {})

    def _json(self, document: Any) -> None:
        self._send(200, json.dumps(document).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, breakable: bool = False) -> None:
        self.send_response(status, HTTPStatus(status).phrase)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self._body(body, breakable=breakable)
        except OSError:
            self.close_connection = True  # the client went away

    def _body(self, body: bytes, *, breakable: bool) -> None:
        faults = self.hub.faults
        if breakable and faults.cut_after is not None and len(body) > faults.cut_after and faults.cuts != 0:
            faults.cuts = None if faults.cuts is None else faults.cuts - 1
            self.wfile.write(body[: faults.cut_after])
            self._hang_up()
        elif breakable and faults.stall_after is not None and len(body) > faults.stall_after:
            self.wfile.write(body[: faults.stall_after])
            self.wfile.flush()
            self.hub.stopping.wait()
            self._hang_up()
        elif faults.drip_s and not breakable:
            for byte in body:
                self.wfile.write(bytes([byte]))
                if self.hub.stopping.wait(faults.drip_s):
                    break
        else:
            self.wfile.write(body)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True


@contextmanager
def black_hole() -> Iterator[str]:
    """Yield the address of a server that accepts and never answers."""
    with create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@contextmanager
def refusing_port() -> Iterator[str]:
    """Yield an address where nothing listens: bound, so that nobody else takes it."""
    with socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
