"""The settings of a server, and ``serve.toml``, from which they are read: every key is known, or it is an error."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from tillerman.core.decoding import build
from tillerman.core.errors import DataError, TillermanError, UsageError
from tillerman.core.plan import Scope
from tillerman.serving.engines.local.settings import LocalSettings
from tillerman.serving.engines.vllm.options import VllmSettings

_SHA256 = re.compile(r"[0-9a-f]{64}")


def _check_digest(what: str, digest: str) -> None:
    if not _SHA256.fullmatch(digest):
        raise UsageError(f"{what}: expected 64 digits of 0-9a-f, got {digest[:20]!r}; 'tillerman keys new' makes one")


def _check_above_zero(what: str, number: float | None) -> None:
    if number is not None and not 0 < number < inf:
        raise UsageError(f"{what} {number}: expected a finite number above 0")


@dataclass(frozen=True)
class ArtefactSettings:
    """Which files of ``folder`` may be served. ``sha256`` pins some of them by name; ``trust`` is the public key that
    must have signed the folder's index, empty: none. ``skip_unservable`` leaves out what the engine cannot serve;
    otherwise nothing is served then."""

    folder: str = ""
    require_card: bool = True
    require_effect: bool = True
    skip_unservable: bool = False
    sha256: Mapping[str, str] = field(default_factory=dict)
    trust: str = ""

    def __post_init__(self) -> None:
        for name, digest in self.sha256.items():
            _check_digest(f"sha256 of {name}", digest)


@dataclass(frozen=True)
class ArtefactRule:
    """What one artefact may be used for: |dose| up to ``max_dose``, on these scopes only; None: any."""

    max_dose: float | None = None
    scopes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        _check_above_zero("max_dose", self.max_dose)
        for scope in self.scopes or ():
            Scope.parse("positions:0" if scope == "positions" else scope)


@dataclass(frozen=True)
class PolicySettings:
    """``default`` is the plan of requests without one, in any form of the field. ``max_dose`` holds for each
    intervention, ``max_total_dose`` for the sum at each hook point."""

    default: Any = ()
    max_dose: float = 1.0
    max_total_dose: float = 1.5
    max_artefacts: int = 8
    artefacts: Mapping[str, ArtefactRule] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_above_zero("max_dose", self.max_dose)
        _check_above_zero("max_total_dose", self.max_total_dose)
        if not 1 <= self.max_artefacts <= 12:
            raise UsageError(f"max_artefacts {self.max_artefacts}: expected 1 to 12")


@dataclass(frozen=True)
class KeySettings:
    """A client's key, by the sha256 of it. ``allow`` None: every artefact."""

    name: str
    sha256: str
    allow: tuple[str, ...] | None = None
    max_dose: float | None = None
    requests_per_minute: int | None = None
    admin: bool = False

    def __post_init__(self) -> None:
        _check_digest(f"key {self.name}: sha256", self.sha256)
        _check_above_zero("max_dose", self.max_dose)
        _check_above_zero("requests_per_minute", self.requests_per_minute)


@dataclass(frozen=True)
class AuditSettings:
    """``file`` empty: no audit. ``prompts``: nothing of a prompt, its sha256, or its text."""

    file: str = "audit.jsonl"
    prompts: Literal["none", "hash", "text"] = "hash"


@dataclass(frozen=True)
class LimitSettings:
    """What one request may cost. ``running``: answers at a time, over all clients; the next is told to come again."""

    body_bytes: int = 1_000_000
    body_seconds: float = 30.0
    max_tokens: int = 1024
    choices: int = 16
    running: int = 256

    def __post_init__(self) -> None:
        for one in fields(self):
            _check_above_zero(one.name, getattr(self, one.name))


@dataclass(frozen=True)
class EngineSettings:
    """Which engine answers, and tables of the engines, each read by the one it is of. Every ``canary_seconds`` a served
    artefact is proved again; 0: none is."""

    name: Literal["local", "vllm"] = "local"
    canary_seconds: float = 300.0
    local: LocalSettings = LocalSettings()  # noqa: RUF009 (a frozen value)
    vllm: VllmSettings = VllmSettings()  # noqa: RUF009

    def __post_init__(self) -> None:
        if not 0 <= self.canary_seconds < inf:
            raise UsageError(f"canary_seconds {self.canary_seconds}: expected seconds, or 0 for no canary")


@dataclass(frozen=True)
class MonitorSettings:
    """The monitor of an artefact, on every answer: what a crossing does, and for ``steer`` the plan that it switches
    on, in any form of the field. ``threshold`` None: the calibrated one."""

    artefact: str
    action: Literal["warn", "abort", "steer"] = "warn"
    plan: Any = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if (self.action == "steer") != (self.plan is not None):
            wanted = "needs the plan that it switches on" if self.action == "steer" else "switches no plan on"
            raise UsageError(f"action {self.action!r} {wanted}")
        if self.threshold is not None and not -inf < self.threshold < inf:
            raise UsageError(f"threshold {self.threshold}: expected a finite number")


@dataclass(frozen=True)
class Settings:
    """All of ``serve.toml``. ``presets`` are plans by name, listed as models; ``monitors`` follow every answer;
    ``playground``: a page at ``/``."""

    model: str = ""
    artefacts: ArtefactSettings = ArtefactSettings()
    policy: PolicySettings = PolicySettings()
    keys: tuple[KeySettings, ...] = ()
    audit: AuditSettings = AuditSettings()
    limits: LimitSettings = LimitSettings()
    engine: EngineSettings = EngineSettings()
    presets: Mapping[str, str] = field(default_factory=dict)
    monitors: Mapping[str, MonitorSettings] = field(default_factory=dict)
    playground: bool = True

    def __post_init__(self) -> None:
        for what in ("name", "sha256"):
            each = [getattr(key, what) for key in self.keys]
            twice = sorted({one for one in each if each.count(one) > 1})
            if twice:
                raise UsageError(f"keys: two have the {what} {twice[0][:40]!r}; give each its own")


def read_settings(path: Path) -> Settings:
    """``DataError`` names the file and the key that is wrong."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"cannot read the settings: {error}", file=path) from None
    try:
        _ensure_known(Settings, table, "")
        return build(Settings, table)
    except TillermanError as error:
        raise DataError(str(error), file=path) from None


def _ensure_known(hint: Any, value: Any, place: str) -> None:
    """``UsageError`` for a key that no field has."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Mapping and isinstance(value, Mapping):
        for name, one in value.items():
            _ensure_known(inner[1], one, f"{place}{name}.")
    elif origin is tuple and isinstance(value, list):
        for number, one in enumerate(value, start=1):
            _ensure_known(inner[0], one, f"{place.removesuffix('.')}[{number}].")
    elif is_dataclass(hint) and isinstance(value, Mapping):
        hints = get_type_hints(hint)
        for name, one in value.items():
            if name not in hints:
                close = get_close_matches(name, hints, n=1)
                hint_ = f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(hints)}."
                raise UsageError(f"no setting {place}{name}.{hint_}")
            _ensure_known(hints[name], one, f"{place}{name}.")
