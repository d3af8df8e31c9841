"""``tillerman serve --replicas``: the same server many times over, on Ray Serve."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tillerman.cli.options import ModelChoice
from tillerman.cli.output import ERR, OUT
from tillerman.cli.serve_options import ServeOptions
from tillerman.cli.stopping import Stopped
from tillerman.core.errors import TillermanError, UsageError

if TYPE_CHECKING:
    from tillerman.fleet.on_ray import RayReplicas
    from tillerman.fleet.replica import ReplicaSpec
    from tillerman.serving.http.server import Address


def serve_replicas(served: ServeOptions, choice: ModelChoice, address: Address, least: int, most: int) -> None:
    """Until SIGTERM or Ctrl-C; SIGHUP reads artefacts, keys and policy anew on one replica after the other."""
    from tillerman.fleet.on_ray import RayOptions, RayReplicas
    from tillerman.fleet.replica import ReplicaSpec

    if address.tls_cert is not None:
        raise UsageError("--replicas stand behind Ray's own proxy, which has no TLS; omit --tls-*")
    name = choice.name
    assert name is not None

    def spec() -> ReplicaSpec:
        """As the files have it now; the audit's place as any process may name it."""
        found = served.settings()
        if found.audit.file:
            found = replace(found, audit=replace(found.audit, file=str(Path(found.audit.file).resolve())))
        folder = str(served.folder_of(found).resolve())
        return ReplicaSpec(name, folder, asdict(choice.opening), found, served.allow_mismatch)

    gpus = 0.0 if choice.opening.device == "cpu" else float(_has_gpu())
    heard_by = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    replicas = RayReplicas(spec(), RayOptions(least, most, address.host, address.port, gpus=gpus))
    for number, handler in heard_by.items():  # Ray has put its own in place, which end the process with a trace
        signal.signal(number, handler)
    try:
        OUT.print(f"serving {least} replicas at {address.url(address.port)}/v1", highlight=False, soft_wrap=True)
        with _hangups() as heard:
            while True:
                time.sleep(0.2)
                if heard:
                    heard.clear()
                    _renew(replicas, spec)
    except Stopped:
        pass  # as asked
    finally:
        replicas.close()


def _renew(replicas: RayReplicas, spec: Callable[[], ReplicaSpec]) -> None:
    try:
        replicas.renew(spec())
        ERR.print("read anew by every replica", highlight=False)
    except (TillermanError, RuntimeError) as error:
        ERR.print(f"not read anew: {error}", style="red", highlight=False, markup=False)


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def _hangups() -> Iterator[list[int]]:
    heard: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, frame: heard.append(number))
    try:
        yield heard
    finally:
        signal.signal(signal.SIGHUP, before)
