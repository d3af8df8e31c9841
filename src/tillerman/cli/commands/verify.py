"""``tillerman verify``: proof on this machine that artefacts steer."""

from __future__ import annotations

from typing import Annotated

import typer

from tillerman.cli import options as o, serve_options as so, serving as c
from tillerman.core.opening import AS_USUAL, Opening


def verify(
    model: so.ServedModel = None,
    artefacts: so.ArtefactFolder = None,
    config: so.SettingsFile = None,
    max_dose: Annotated[float | None, typer.Option(help="dose to try; 1 if not given")] = None,
    engine: so.EngineName = None,
    engine_args: so.EngineArgs = None,
    allow_unproven: so.AllowUnproven = False,
    skip_unservable: so.SkipUnservable = False,
    trust: so.Trust = None,
    allow_mismatch: o.AllowMismatch = False,
    opening: Opening = AS_USUAL,
    as_json: o.Json = False,
) -> None:
    """Show on this machine that each artefact steers.

    Dose 0 leaves an answer as it was, the highest dose changes it, a neighbour is left alone, and the tokens that are
    touched are those of tillerman.steer; with what it costs. Exit code 1 where one is not so."""
    c.ensure_installed()
    served = so.ServeOptions(
        model,
        artefacts,
        config,
        None,
        max_dose,
        "none",
        allow_unproven,
        allow_mismatch,
        engine=engine,
        engine_args=engine_args,
        skip_unservable=skip_unservable,
        trust=trust,
    )
    c.show_proofs(served, served.choice(opening), as_json=as_json)
