"""A process that answers for ``tillerman fleet``: ``python -m tillerman.fleet.worker SPEC.json SOCKET``.

It serves the same app as ``tillerman serve``, on a socket of the file system that only its owner may open, and ends
when the process that started it does.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from tillerman.core.errors import TillermanError
from tillerman.fleet.replica import ReplicaSpec, open_door
from tillerman.serving.http.app import create_app


def main(arguments: Sequence[str]) -> int:
    logging.basicConfig(level=logging.WARNING)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    spec = ReplicaSpec.from_json(json.loads(Path(arguments[0]).read_text(encoding="utf-8")))
    try:
        asyncio.run(_serve(spec, arguments[1]))
    except TillermanError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


async def _serve(spec: ReplicaSpec, socket: str) -> None:
    door = await open_door(spec)
    try:
        config = uvicorn.Config(create_app(door), uds=socket, log_config=None, access_log=False, lifespan="off")
        await uvicorn.Server(config).serve()
    finally:
        await door.engine.close()


def _end_with_parent() -> None:
    """The parent holds the other end of the standard input; it closes with it, however it ends."""
    while os.read(0, 1024):  # not by sys.stdin, whose lock a thread may hold while the interpreter ends
        pass
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
