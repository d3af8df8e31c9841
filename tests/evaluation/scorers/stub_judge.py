"""An OpenAI-compatible endpoint in a thread: it says what a test has planned and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """``text`` is the rating; ``raw`` the whole body instead."""

    text: str | None = "7"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    raw: str | None = None


@dataclass
class Stub:
    url: str
    asked: list[dict[str, Any]]
    keys: list[str | None]
    busiest: int = 0
    busy: int = 0

    @property
    def questions(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.asked]


@contextmanager
def judge(plan: Callable[[dict[str, Any], int], Reply]) -> Iterator[Stub]:
    """``plan`` gets the body of a request and how many came before it."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                number = len(stub.asked)
                stub.asked.append({**body, "path": self.path})
                stub.keys.append(self.headers.get("authorization"))
                stub.busy += 1
                stub.busiest = max(stub.busiest, stub.busy)
            reply = plan(body, number)
            time.sleep(reply.delay)
            said = {"choices": [{"message": {"role": "assistant", "content": reply.text}}]}
            raw = (json.dumps(said) if reply.raw is None else reply.raw).encode()
            with lock:
                stub.busy -= 1
            try:
                self.send_response(reply.status)
                for name, value in {"content-length": str(len(raw)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(raw)
            except BrokenPipeError:
                return  # the caller gave up waiting

        def log_message(self, *_: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub = Stub(f"http://127.0.0.1:{server.server_port}/v1", [], [])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
