"""``tillerman serve``: a steered model behind OpenAI's wire."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o, serve_options as so, serving as c
from tillerman.core.errors import UsageError
from tillerman.core.opening import AS_USUAL, Opening


def serve(
    model: so.ServedModel = None,
    artefacts: so.ArtefactFolder = None,
    config: so.SettingsFile = None,
    host: Annotated[str, typer.Option(help="address to listen at; any but loopback needs keys")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free")] = 8000,
    default: Annotated[
        str | None, typer.Option(help="plan of requests that name none, e.g. science@0.3", metavar="PLAN")
    ] = None,
    max_dose: Annotated[float | None, typer.Option(help="highest |dose| of an artefact; 1 if not given")] = None,
    audit: Annotated[
        str | None,
        typer.Option(help="file of the audit; audit.jsonl if not given, none keeps no audit", metavar="FILE"),
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="certificate chain, PEM")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="the certificate's private key, PEM")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="show that steering fires, as 'verify' does, and stop")
    ] = False,
    no_playground: Annotated[
        bool, typer.Option("--no-playground", help="without the page at / to try artefacts in a browser")
    ] = False,
    replicas: Annotated[
        int | None,
        typer.Option(min=1, help="so many engines behind one address, on Ray Serve (extra ray); one in this process"),
    ] = None,
    most_replicas: Annotated[
        int | None, typer.Option(min=1, help="more replicas under load, up to this many; --replicas if not given")
    ] = None,
    engine: so.EngineName = None,
    engine_args: so.EngineArgs = None,
    allow_unproven: so.AllowUnproven = False,
    skip_unservable: so.SkipUnservable = False,
    trust: so.Trust = None,
    allow_mismatch: o.AllowMismatch = False,
    opening: Opening = AS_USUAL,
) -> None:
    """Serve a steered model over HTTP, to OpenAI's clients.

    Every artefact is first shown to steer on this machine; every answer says what was done to it."""
    c.ensure_installed()
    from tillerman.serving.http.server import Address, bound

    address = Address(host, port, tls_cert, tls_key)
    served = so.ServeOptions(
        model,
        artefacts,
        config,
        default,
        max_dose,
        audit,
        allow_unproven,
        allow_mismatch,
        address,
        engine,
        engine_args,
        not no_playground,
        skip_unservable,
        trust,
    )
    choice = served.choice(opening)
    if check:
        c.show_proofs(served, choice, as_json=False)
        return
    if replicas is not None:
        from tillerman.cli.replicas import serve_replicas

        serve_replicas(served, choice, address, replicas, most_replicas or replicas)
        return
    if most_replicas is not None:
        raise UsageError("--most-replicas needs --replicas, the fewest that there are")
    listening = bound(address)
    opened = choice.open()
    asyncio.run(c.serve_until_stopped(c.make_door(served, opened), opened, address, listening))
