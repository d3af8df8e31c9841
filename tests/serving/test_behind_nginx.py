"""Two servers behind nginx, configured as docs/fleet.md has it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tillerman.core.errors import EndpointError
from tillerman.serving.client import SteeringClient
from tillerman.serving.door import Door

from . import made

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fleet.md"
pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="no nginx here")


@contextmanager
def nginx(folder: Path, servers: list[str]) -> Iterator[str]:
    """The page's configuration with other ports, and its temporary files in ``folder``."""
    (config,) = re.findall(r"^```nginx\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for old, new in zip(("127.0.0.1:8001", "127.0.0.1:8002"), servers, strict=True):
        assert config.count(old) == 1
        config = config.replace(old, new.removeprefix("http://"))
    config = config.replace("listen 127.0.0.1:8000", f"listen 127.0.0.1:{port}").replace("worker_processes auto;", "")
    parts = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    places = "".join(f"{part}_temp_path {folder}/{part};" for part in parts)
    own = f"daemon off; pid {folder}/pid; error_log {folder}/errors;\n"
    (folder / "nginx.conf").write_text(own + config.replace("http {", f"http {{ {places}"))
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "errors")]
    with subprocess.Popen(command) as process:
        try:
            made.until(lambda: answers(port) or process.poll() is not None)
            assert process.poll() is None, (folder / "errors").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def door(path: Path) -> Door:
    return made.opened(path, text=made.keyed())


def asked(door: Door) -> int:
    return len(made.script(door).jobs)


def test_requests_reach_both_servers_and_streams_come_as_they_are_made(tmp_path: Path) -> None:
    doors = door(tmp_path / "1"), door(tmp_path / "2")
    with made.listening(doors[0]) as a, made.listening(doors[1]) as b, nginx(tmp_path, [a, b]) as url:
        with SteeringClient(url, made.KEY, "tiny") as client:
            for _ in range(8):
                assert client.chat("Hi", steering="honesty@0.3").receipt["applied"][0]["artefact"] == "honesty"
            assert min(asked(one) for one in doors) > 0
            for one in doors:
                made.script(one).pause = 0.2
            began, times = time.monotonic(), []
            for _ in client.stream("Hi", steering="honesty@0.3"):
                times.append(time.monotonic() - began)
            assert times[-1] - times[0] > 0.15  # not all at the end
            with pytest.raises(EndpointError, match="over_cap"):
                client.chat("Hi", steering="honesty@3")
        root = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {made.ADMIN}"})
        own = ("/metrics", "/v1/audit")
        assert [root.get(path).status_code for path in own] == [404, 404]
        assert root.post("/v1/admin/reload").status_code == 404
        assert httpx.get(f"{url}/v1/models").status_code == 401


def test_a_server_that_is_gone_is_passed_over_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    doors = door(tmp_path / "1"), door(tmp_path / "2")
    with ExitStack() as both, made.listening(doors[1]) as b:
        a = both.enter_context(made.listening(doors[0]))
        with nginx(tmp_path, [a, b]) as url, SteeringClient(url, made.KEY, "tiny") as client:
            for _ in range(4):
                client.chat("Hi", steering="honesty@0.3")
            both.close()
            for _ in range(8):
                assert client.chat("Hi", steering="honesty@0.3").text == "Hello there"
    assert asked(doors[0]) + asked(doors[1]) == 12
    lines = made.audited(doors[0]) + made.audited(doors[1])
    assert [sum(line["event"] == event for line in lines) for event in ("admitted", "ended")] == [12, 12]
