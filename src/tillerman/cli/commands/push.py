"""``tillerman push``: artefacts onto the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o
from tillerman.cli.output import OUT, print_json


def push(
    files: Annotated[
        list[str],
        typer.Argument(
            help="files that 'fit' or 'import' wrote, or a folder of them, and at last where to: hf://ORG/NAME or "
            "file:///FOLDER",
            metavar="ARTEFACT... TARGET",
            show_default=False,
        ),
    ],
    private: Annotated[
        bool, typer.Option("--private", help="a repository that is made is for its owners only")
    ] = False,
    license_name: Annotated[
        str | None, typer.Option("--license", help="licence for the card's header, e.g. apache-2.0")
    ] = None,
    message: Annotated[str | None, typer.Option(help="message of the commit")] = None,
    as_json: o.Json = False,
) -> None:
    """Put artefacts onto the Hugging Face hub, with a model card.

    The card (README.md) says what was measured. A repository that is not there is made. Log in with 'hf auth login',
    or set HF_TOKEN; HF_ENDPOINT names a mirror. Prints the address with its commit."""
    from tillerman.core.errors import UsageError
    from tillerman.exchange.sharing import address, pushed

    *artefacts, target = files
    if not artefacts:
        raise UsageError(f"{target}: name the artefacts, and at last where to: hf://ORG/NAME or file:///FOLDER")
    address(target)
    pinned = pushed(
        [Path(name) for name in artefacts], target, license_name=license_name, private=private, message=message or ""
    )
    if as_json:
        print_json({"address": pinned, "files": [Path(name).name for name in artefacts]})
        return
    OUT.print(pinned, highlight=False, markup=False, soft_wrap=True)
