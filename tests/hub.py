"""A hub of our own: the few routes of the real one's API that its client calls, over files in memory."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlparse

import huggingface_hub.constants
import pytest

TOKEN = "hf_of_the_test"


@dataclass
class HubStandIn:
    """Repositories by name: their commits, oldest first, each all files by path. A commit is named by its files."""

    url: str = ""
    repos: dict[str, list[tuple[str, dict[str, bytes]]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        commits = self.repos.setdefault(repo, [])
        whole = {**(commits[-1][1] if commits else {}), **files}
        oid = hashlib.sha1(repr((len(commits), sorted(whole.items()))).encode()).hexdigest()
        commits.append((oid, whole))
        return oid

    def at(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repos.get(repo, [])
        if revision == "main":
            return commits[-1] if commits else ("0" * 40, {})
        return next((one for one in commits if one[0] == revision), None)


@contextmanager
def hub_stand_in(patch: pytest.MonkeyPatch, cache: Path) -> Iterator[HubStandIn]:
    """Running, and the one that this process talks to; its cache is a folder of the test's."""
    hub = HubStandIn()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    constants = huggingface_hub.constants
    patch.setenv("HF_ENDPOINT", hub.url)
    patch.setenv("HF_TOKEN", TOKEN)
    for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_CACHE": str(cache)}.items():
        patch.setattr(constants, name, value)
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: HubStandIn) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._get()

        def do_GET(self) -> None:
            self._get()

        def do_POST(self) -> None:
            path = unquote(urlparse(self.path).path)
            hub.asked.append(f"POST {path}")
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if path == "/api/validate-yaml":
                return self._json({"errors": [], "warnings": []})
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self._refuse(401, "Unauthorized", "")
            if path == "/api/repos/create":
                asked = json.loads(content)
                repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
                hub.repos.setdefault(repo, [])
                return self._json({"url": f"{hub.url}/{repo}"})
            found = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/(.+)", path)
            if found is None or found[1] not in hub.repos:
                return self._refuse(404, "not found", "RepoNotFound")
            if found[2] == "preupload":
                files = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in json.loads(content)["files"]
                ]
                return self._json({"files": files})
            lines = [json.loads(line) for line in content.splitlines()]
            files = {one["value"]["path"]: one["value"] for one in lines if one["key"] == "file"}
            oid = hub.commit(found[1], {name: base64.b64decode(one["content"]) for name, one in files.items()})
            return self._json({"commitUrl": f"{hub.url}/{found[1]}/commit/{oid}", "commitOid": oid, "success": True})

        def _get(self) -> None:
            path = unquote(urlparse(self.path).path)
            hub.asked.append(f"{self.command} {path}")
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree)/(.+))?", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            found = api or file
            if found is None or found[1] not in hub.repos:
                return self._refuse(401 if found else 404, "Repository not found", "RepoNotFound")
            at = hub.at(found[1], (api[3] if api else file[2]) or "main")  # type: ignore[index] # one of the two
            if at is None:
                return self._refuse(404, "Revision not found", "RevisionNotFound")
            oid, files = at
            if api and api[2] == "tree":
                rows = [
                    {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                    for name, content in files.items()
                ]
                return self._json(rows)
            if api:
                siblings = [{"rfilename": name} for name in files]
                return self._json({"_id": found[1], "id": found[1], "sha": oid, "siblings": siblings, "tags": []})
            if file is None or file[3] not in files:
                return self._refuse(404, "Entry not found", "EntryNotFound")
            content = files[file[3]]
            etag = hashlib.sha1(content).hexdigest()
            return self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": oid})

        def _json(self, value: object) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _refuse(self, status: int, words: str, code: str) -> None:
            headers = {"X-Error-Message": words, **({"X-Error-Code": code} if code else {})}
            self._send(status, json.dumps({"error": words}).encode(), headers)

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    return Handler
