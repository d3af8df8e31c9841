"""The options of ``tillerman serve`` and ``tillerman verify``, and the settings that they make with those of a file."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, cast

import typer

from tillerman.cli import options as o
from tillerman.cli.output import ERR
from tillerman.core.errors import UnknownNameError, UsageError
from tillerman.core.files import sha256_of
from tillerman.core.places import place_of

if TYPE_CHECKING:
    from tillerman.core.opening import Opening
    from tillerman.serving.http.server import Address
    from tillerman.serving.settings import EngineSettings, Settings

ENGINES = ("local", "vllm")
ServedModel = Annotated[
    str | None,
    typer.Argument(
        help="'pilot' (embedded), a folder, a GGUF file, or a hub name; of --config if not given", metavar="MODEL"
    ),
]
ArtefactFolder = Annotated[
    Path | None,
    typer.Option("--artefacts", help="folder of the artefacts to serve, or hf://ORG/NAME; of --config if not given"),
]
Trust = Annotated[
    str | None,
    typer.Option("--trust", help="public key that must have signed the artefacts, a pack; or its file", metavar="KEY"),
]
SettingsFile = Annotated[
    Path | None, typer.Option("--config", help="serve.toml: keys, caps, audit, limits, presets", metavar="FILE")
]
AllowUnproven = Annotated[
    bool, typer.Option("--allow-unproven", help="serve artefacts whose card shows no effect, or that have no card")
]
SkipUnservable = Annotated[
    bool, typer.Option("--skip-unservable", help="leave out artefacts that the engine cannot serve, and name them")
]
EngineName = Annotated[
    str | None, typer.Option("--engine", help="local, or vllm (a process of its own); local if not given")
]
EngineArgs = Annotated[
    str | None, typer.Option("--engine-args", help="vLLM's own arguments, in one text", metavar="TEXT")
]


@dataclass(frozen=True)
class ServeOptions:
    """What the command line says, over the file of settings."""

    model: str | None
    folder: Path | None
    config: Path | None
    default: str | None
    max_dose: float | None
    audit: str | None
    unproven: bool
    allow_mismatch: bool
    address: Address | None = None
    engine: str | None = None
    engine_args: str | None = None
    playground: bool = True
    skip_unservable: bool = False
    trust: str | None = None

    def settings(self) -> Settings:
        """Read anew each time, for a reload. ``UsageError`` where it would open the server to all."""
        from tillerman.serving.settings import Settings, read_settings

        found = Settings() if self.config is None else read_settings(self.config)
        policy, artefacts, audit = found.policy, found.artefacts, found.audit
        if self.default is not None:
            policy = replace(policy, default=self.default)
        if self.max_dose is not None:
            policy = replace(policy, max_dose=self.max_dose)
        if self.unproven:
            artefacts = replace(artefacts, require_card=False, require_effect=False)
        if self.skip_unservable:
            artefacts = replace(artefacts, skip_unservable=True)
        if self.trust is not None:
            artefacts = replace(artefacts, trust=self.trust)
        if self.audit is not None:
            audit = replace(audit, file="" if self.audit == "none" else self.audit)
        whole = replace(found, policy=policy, artefacts=artefacts, audit=audit, engine=self._engine(found.engine))
        if not self.playground:
            whole = replace(whole, playground=False)
        if self.address is not None:
            self.address.ensure_guarded(whole)
        return whole

    def _engine(self, found: EngineSettings) -> EngineSettings:
        if self.engine is not None:
            if self.engine not in ENGINES:
                raise UnknownNameError("engine", self.engine, ENGINES)
            found = replace(found, name=self.engine)  # type: ignore[arg-type]
        if self.engine_args is None:
            return found
        if found.name != "vllm":
            raise UsageError("--engine-args are vLLM's; give --engine vllm, or leave them out")
        return replace(found, vllm=replace(found.vllm, args=(*found.vllm.args, *shlex.split(self.engine_args))))

    def model_of(self, settings: Settings) -> str:
        if not (self.model or settings.model):
            raise UsageError(
                "name the model: tillerman serve MODEL --artefacts DIR, or model = in the file of --config"
            )
        return self.model or settings.model

    def choice(self, opening: Opening) -> o.ModelChoice:
        """The model to open. Beside vLLM, which has the accelerator, it is opened on the CPU unless told otherwise."""
        settings = self.settings()
        if settings.engine.name == "vllm" and opening.device == "auto" and opening.device_map is None:
            opening = replace(opening, device="cpu")
        return o.ModelChoice(self.model_of(settings), opening)

    def folder_of(self, settings: Settings) -> Path:
        """Of a file of settings it is beside that file; of an address, what was pulled from there."""
        named = self.folder or settings.artefacts.folder
        if not named or (self.folder is None and self.config is None):
            raise UsageError("name the folder of the artefacts: --artefacts DIR ('tillerman demo' writes demo)")
        if place_of(named) is not None:
            return _pulled(str(named), settings.artefacts.trust or None)
        return self.folder or cast(Path, self.config).parent / named


@lru_cache
def _pulled(address: str, trust: str | None) -> Path:
    """Once for a process: a reload reads the commit that it began with, and what its index has."""
    from tillerman.core.cache import cache_folder, kept
    from tillerman.exchange.sharing import pulled

    with TemporaryDirectory() as scratch:
        origin, files = pulled(address, Path(scratch), trust)
        name = hashlib.sha256("".join((origin, *map(sha256_of, files))).encode()).hexdigest()[:32]
        folder = kept(cache_folder() / "served" / name, lambda to: _copy(files, to))
    ERR.print(f"artefacts of {origin}", highlight=False, markup=False, soft_wrap=True)
    return folder


def _copy(files: Sequence[Path], to: Path) -> None:
    for file in files:
        shutil.copyfile(file, to / file.name)
