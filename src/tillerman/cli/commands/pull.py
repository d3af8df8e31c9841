"""``tillerman pull``: artefacts from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o, values
from tillerman.cli.output import OUT, print_json


def pull(
    source: Annotated[
        str,
        typer.Argument(
            help="hf://ORG/NAME, hf://ORG/NAME@REVISION/FILE, file:///FOLDER or file:///FOLDER/FILE", metavar="ADDRESS"
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="file for one artefact (.safetensors), or a new folder for all files")
    ],
    trust: Annotated[
        str | None,
        typer.Option(help="of a pack: the public key that must have signed its index, or its file", metavar="KEY"),
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Fetch an artefact from the hub, or a folder of them.

    Commands that take an artefact also take its address. To a file one artefact is written, its address with the
    commit in its provenance; to a folder all files as they are."""
    from tillerman.exchange.sharing import SUFFIX, pulled

    if out.suffix == SUFFIX:
        values.writable(out)
    else:
        values.new_folder(out)
    origin, written = pulled(source, out, trust)
    if as_json:
        print_json({"address": origin, "files": [str(path) for path in written]})
        return
    for path in written:
        OUT.print(f"{path}: from {origin}", highlight=False, markup=False, soft_wrap=True)
