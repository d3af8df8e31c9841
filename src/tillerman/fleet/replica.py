"""A server's door by a plain description, so that another process or machine can open the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from tillerman.core.decoding import build
from tillerman.core.errors import NotAppliedError, UsageError
from tillerman.core.opening import Opening
from tillerman.models.opened import open_as
from tillerman.serving.assembly import Parts, assemble
from tillerman.serving.door import Door
from tillerman.serving.engines.local.engine import LocalEngine
from tillerman.serving.engines.local.settings import LocalSettings
from tillerman.serving.proving import prove
from tillerman.serving.reference import SteerReference
from tillerman.serving.settings import ArtefactSettings, AuditSettings, LimitSettings, PolicySettings, Settings

_MOST = 1_000_000  # tokens and requests: a batch is bounded by the model's context, not by a policy


@dataclass(frozen=True)
class ReplicaSpec:
    """Which model, opened how, over which folder of artefacts, under which settings. Plain values throughout."""

    model: str
    folder: str
    opening: Mapping[str, Any] = field(default_factory=dict)
    settings: Settings = Settings()  # noqa: RUF009 (a frozen value)
    allow_mismatch: bool = False

    def __post_init__(self) -> None:
        if self.settings.engine.name != "local":
            raise UsageError("replicas run the local engine; before vLLM start 'tillerman serve' by itself, many times")

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ReplicaSpec:
        return build(cls, value)


@dataclass(frozen=True)
class BatchOptions:
    """How artefacts may be used by who owns the machine. ``rows`` answers are made at once; ``max_dose`` is the cap of
    each artefact, and that of the sum at a hook point is half as much again."""

    rows: int = 16
    max_dose: float = 1.0
    allow_unproven: bool = False

    def settings(self, *, allow_mismatch: bool = False) -> Settings:
        """Without keys, audit and limits: the file of answers is the record, and nobody else asks."""
        local = LocalSettings(max_batch=self.rows, max_waiting=_MOST, max_tokens=_MOST, allow_mismatch=allow_mismatch)
        found = Settings(
            policy=PolicySettings(max_dose=self.max_dose, max_total_dose=1.5 * self.max_dose),
            artefacts=ArtefactSettings(require_card=not self.allow_unproven, require_effect=not self.allow_unproven),
            audit=AuditSettings(""),
            limits=LimitSettings(body_bytes=64 * _MOST, max_tokens=_MOST, choices=256, running=_MOST),
            playground=False,
        )
        return replace(found, engine=replace(found.engine, local=local))


async def open_door(spec: ReplicaSpec, settings: Callable[[], Settings] | None = None) -> Door:
    """The engine runs, and every artefact was shown to steer. ``settings`` are those of a reload; the spec's if not
    given. ``TillermanError`` where it cannot be opened; nothing of the engine stays behind then."""
    opened = open_as(spec.model, Opening(**spec.opening))
    local = replace(spec.settings.engine.local, allow_mismatch=spec.allow_mismatch)
    engine = LocalEngine(opened, local)
    door = assemble(Parts(opened, engine, Path(spec.folder), settings or (lambda: spec.settings), spec.allow_mismatch))
    await engine.start()
    try:
        dtype = str(opened.model.dtype).removeprefix("torch.")
        await prove(door, sorted(door.rules.library), SteerReference(opened), dtype=dtype)
        if not door.checked:
            raise NotAppliedError("an artefact is not shown to steer; 'tillerman verify' says which and how")
    except BaseException:
        await engine.close()
        raise
    return door
