"""Replicas of one server on Ray Serve: one engine each, autoscaled, their artefacts exchanged one replica after the
other; and batches of requests through Ray Data.

Ray comes with an extra of its own, and nothing here is imported without it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from tillerman.core.errors import ModelError, UsageError
from tillerman.fleet.replica import ReplicaSpec, open_door
from tillerman.fleet.within import WithinProcess
from tillerman.serving.artefacts import Demands, read_library
from tillerman.serving.http.app import create_app
from tillerman.serving.http.server import served_hosts
from tillerman.serving.settings import Settings

try:
    import ray
    from ray import serve
except ImportError as error:
    raise UsageError("replicas need Ray; install it with: pip install 'tillerman[ray]'") from error

NAME = "tillerman"


@dataclass(frozen=True)
class RayOptions:
    """``least`` replicas always, up to ``most`` under load; each has ``cpus`` and ``gpus`` of its machine to itself."""

    least: int
    most: int
    host: str = "127.0.0.1"
    port: int = 8000
    cpus: float = 1.0
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise UsageError(f"--replicas {self.least} --most-replicas {self.most}: expected 1 or more, and no fewer")


class ServedReplica:
    """What Ray Serve runs: the app of ``tillerman serve`` over an engine of its own."""

    async def __init__(self, spec: Mapping[str, Any], host: str) -> None:  # type: ignore[misc]  # Ray awaits it
        asked = ReplicaSpec.from_json(spec)
        self._host, self._door = host, await open_door(replace(asked, settings=_own(asked.settings)))
        self._syncing = asyncio.create_task(self._sync())
        assert self._door.canary is not None
        self._watching = asyncio.ensure_future(self._door.canary())

    def __serve_build_asgi_app__(self) -> ASGIApp:
        return create_app(self._door, served_hosts(self._door, self._host))

    async def check_health(self) -> None:
        wrong = await self._door.engine.alive()
        if wrong is None and self._door.unproved:
            wrong = "; ".join(self._door.unproved.values())
        if wrong is not None:
            raise ModelError(wrong)  # Ray puts another replica in its place

    async def _sync(self) -> None:
        while self._door.audit is not None:
            await asyncio.sleep(1)
            await asyncio.to_thread(self._door.audit.sync)


def _own(settings: Settings) -> Settings:
    """Each replica has an audit of its own: ``audit-REPLICA.jsonl``."""
    file = Path(settings.audit.file)
    if not settings.audit.file:
        return settings
    own = file.with_name(f"{file.stem}-{serve.get_replica_context().replica_id.unique_id}{file.suffix}")
    return replace(settings, audit=replace(settings.audit, file=str(own)))


class RayReplicas:
    """A running deployment. ``RayReplicas(spec, options)`` returns when every replica has proved that it steers."""

    def __init__(self, spec: ReplicaSpec, options: RayOptions) -> None:
        self._options = options
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False)
        serve.start(http_options={"host": options.host, "port": options.port})
        self._deploy(spec)

    def renew(self, spec: ReplicaSpec) -> None:
        """Settings and artefacts anew: one replica after the other is replaced, each once it has proved them, while
        the others answer. ``TillermanError`` for a file that cannot be served, before any is."""
        read_library(Path(spec.folder), spec.settings.artefacts, Demands(lambda artefact: (), lambda plan: None))
        self._deploy(spec)

    def close(self) -> None:
        serve.shutdown()
        ray.shutdown()

    def _deploy(self, spec: ReplicaSpec) -> None:
        options, local = self._options, spec.settings.engine.local
        scaled: dict[str, Any] = {"num_replicas": options.least}
        if options.most > options.least:
            bounds = {"min_replicas": options.least, "max_replicas": options.most}
            scaled = {"autoscaling_config": {**bounds, "target_ongoing_requests": local.max_batch}}
        deployment = serve.deployment(serve.ingress()(ServedReplica)).options(
            name=NAME,
            max_ongoing_requests=local.max_batch + local.max_waiting,
            ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
            **scaled,
        )
        serve.run(deployment.bind(spec.to_json(), options.host), name=NAME)


class DataReplica:
    """Answers rows of Ray Data: ``dataset.map_batches(DataReplica, fn_constructor_args=(spec.to_json(),), ...)``.

    A row has ``id`` and ``request``, the JSON text of a request; ``answer`` is added, the JSON text of a line of the
    answers of ``tillerman fleet run``.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self._within = WithinProcess(ReplicaSpec.from_json(spec))

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        asked = [{"id": str(id), **json.loads(text)} for id, text in zip(rows["id"], rows["request"], strict=True)]
        rows["answer"] = [json.dumps(row) for row in self._within.answers(asked)]
        return rows
