"""What ``tillerman serve`` and ``tillerman verify`` share: the door they open, and what they say."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tillerman.cli import options as o
from tillerman.cli.output import ERR, OUT, print_json
from tillerman.cli.serve_options import ServeOptions
from tillerman.core.errors import NotAppliedError, UsageError

if TYPE_CHECKING:
    from socket import socket

    from tillerman.models.opened import OpenModel
    from tillerman.reports.serving import ShownArtefact
    from tillerman.serving.door import Door
    from tillerman.serving.engine import Engine
    from tillerman.serving.http.server import Address
    from tillerman.serving.proof import ArtefactProof
    from tillerman.serving.settings import Settings


def ensure_installed() -> None:
    """``UsageError`` names the extra."""
    try:
        import fastapi
        import httpx
        import openai
        import prometheus_client
        import uvicorn
    except ImportError as error:
        raise UsageError(f"serving needs {error.name}; install it with: pip install 'tillerman[serve]'") from error
    del fastapi, httpx, openai, prometheus_client, uvicorn


def make_door(served: ServeOptions, opened: OpenModel) -> Door:
    """Over the engine that is asked for, which does not run yet."""
    from tillerman.serving.assembly import Parts, assemble
    from tillerman.serving.reference import SteerReference

    settings = served.settings()
    folder = served.folder_of(settings)
    if settings.engine.name == "vllm":  # its model is another one than that in this process, which is free
        engine, reference = _vllm(settings, opened, folder), SteerReference(opened)
        return assemble(Parts(opened, engine, folder, served.settings, served.allow_mismatch, reference))
    engine = _local(served, settings, opened)
    return assemble(Parts(opened, engine, folder, served.settings, served.allow_mismatch))


def _local(served: ServeOptions, settings: Settings, opened: OpenModel) -> Engine:
    from tillerman.serving.engines.local.engine import LocalEngine

    return LocalEngine(opened, replace(settings.engine.local, allow_mismatch=served.allow_mismatch))


def _vllm(settings: Settings, opened: OpenModel, folder: Path) -> Engine:
    from tillerman.serving.engine import About
    from tillerman.serving.engines.vllm.engine import VllmEngine
    from tillerman.serving.engines.vllm.setting import setting_of

    wanted = settings.engine.vllm
    setting = setting_of(folder, wanted.arm_layers, wanted.arm_reads)
    about = About("vllm", opened.id, opened.fingerprint, opened.layers, opened.context or 0)
    dtype = str(opened.model.dtype).removeprefix("torch.")
    # In the precision in which it was opened, unless vLLM's own arguments say otherwise.
    asked = replace(wanted, args=("--dtype", dtype, *wanted.args))
    return VllmEngine(str(opened.model.name_or_path), about, setting, asked)


def show_proofs(served: ServeOptions, model: o.ModelChoice, *, as_json: bool) -> None:
    """A report to paste; ``typer.Exit`` 1 where something is not shown."""
    from tillerman.cli.render import print_line, print_table
    from tillerman.reports.serving import proof_lines, proofs_table

    opened = model.open()
    door = make_door(replace(served, audit="none", address=None), opened)
    _say_left_out(door)
    proofs = asyncio.run(_proved(door, opened, measure=True))
    if as_json:
        print_json({"engine": door.engine.about.engine, "artefacts": [asdict(one) for one in proofs]})
    else:
        shown = _shown(proofs)
        print_table(OUT, proofs_table(f"{door.engine.about.engine}, {opened.id}, {opened.model.dtype}", shown))
        for line in proof_lines(shown):
            print_line(OUT, line)
    if not all(one.passed for one in proofs):
        raise typer.Exit(1)


async def _proved(door: Door, opened: OpenModel, *, measure: bool) -> tuple[ArtefactProof, ...]:
    await door.engine.start()
    try:
        return await _proofs(door, opened, measure=measure)
    finally:
        await door.engine.close()


async def _proofs(door: Door, opened: OpenModel, *, measure: bool = False) -> tuple[ArtefactProof, ...]:
    from tillerman.serving.proving import prove
    from tillerman.serving.reference import SteerReference

    dtype = str(opened.model.dtype).removeprefix("torch.")
    return await prove(door, sorted(door.rules.library), SteerReference(opened), dtype=dtype, measure=measure)


def _shown(proofs: Sequence[ArtefactProof]) -> list[ShownArtefact]:
    from tillerman.reports.serving import ShownArtefact

    return [
        ShownArtefact(one.name, one.sha256, one.dose, tuple((c.what, c.passed, c.found) for c in one.checks), one.cost)
        for one in proofs
    ]


async def serve_until_stopped(door: Door, opened: OpenModel, address: Address, listening: socket) -> None:
    """``NotAppliedError`` where an artefact is not shown to steer; then nothing is listened to."""
    from tillerman.cli.render import print_line, print_table
    from tillerman.reports.serving import proof_lines, proofs_table
    from tillerman.serving.http.server import run

    port = listening.getsockname()[1]
    _say_left_out(door)
    try:
        await door.engine.start()
        shown = _shown(await _proofs(door, opened))
        if not door.checked:
            print_table(ERR, proofs_table(door.engine.about.engine, shown))
            raise NotAppliedError(f"{'; '.join(proof_lines(shown))}; nothing is served")
        print_line(ERR, proof_lines(shown)[-1])
        await run(door, address, listening, lambda: _say(door, address.url(port)), _tell)
    finally:
        await door.engine.close()
        if door.audit is not None:
            door.audit.close()


def _say_left_out(door: Door) -> None:
    for name, why in door.rules.left_out.items():
        _tell(f"left out: {name}: {why}")


def _tell(line: str) -> None:
    ERR.print(line, highlight=False, markup=False, soft_wrap=True)


def _say(door: Door, url: str) -> None:
    """What is served, and a line that works."""
    page = [f"playground at {url}/"] if door.rules.settings.playground else []
    for line in (f"serving {door.name} at {url}/v1", *page, *_offer(door)):
        OUT.print(line, highlight=False, markup=False, soft_wrap=True)
    OUT.print(_curl(door, url), highlight=False, markup=False, soft_wrap=True)


def _offer(door: Door) -> list[str]:
    return [f"  {one.name}: dose {one.artefact.dose:.3g}, {_effect(one.card)}" for one in door.rules.library.values()]


def _effect(card: Any) -> str:
    if card is None:
        return "nothing measured"
    low, high = card["interval"]
    return f"effect {100 * card['effect']:+.0f} pp ({100 * low:+.0f} to {100 * high:+.0f})"


def _curl(door: Door, url: str) -> str:
    first = next(iter(door.rules.library.values()))
    said = {"steering": f"{first.name}@{first.artefact.dose:.3g}", "max_tokens": 40, "temperature": 0}
    if door.prompts.has_template:
        path, asked = "chat/completions", {"messages": [{"role": "user", "content": "Tell me about yourself."}]}
        body = {"model": door.name, **asked, **said}
    else:
        path, body = "completions", {"model": door.name, "prompt": "I am", **said}
    key = " -H 'Authorization: Bearer KEY'" if door.rules.settings.keys else ""
    return f"curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body))}"
