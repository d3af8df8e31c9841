"""``tillerman pack``: a folder of artefacts with a signed index."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o
from tillerman.cli.output import OUT, print_json
from tillerman.core.errors import UsageError


def pack(
    folder: Annotated[Path, typer.Argument(help="folder of artefacts", metavar="FOLDER")],
    sign: Annotated[
        Path | None, typer.Option(help="file of a private key (Ed25519, PEM) that signs the index", metavar="KEYFILE")
    ] = None,
    make_key: Annotated[bool, typer.Option("--new-key", help="make the key of --sign first, in a new file")] = False,
    check: Annotated[bool, typer.Option("--check", help="write nothing; hold the files against the index")] = False,
    trust: Annotated[
        str | None, typer.Option(help="with --check: the public key that must have signed, or its file", metavar="KEY")
    ] = None,
    as_json: o.Json = False,
) -> None:
    """Index a folder of artefacts, and sign the index.

    pack.json has the sha256 of every file, pack.sig its signature. An artefact that is read from such a folder is held
    against the index, and a changed file is refused by name. Prints the public key, for those who trust it."""
    from tillerman.core.packs import check_pack, write_pack
    from tillerman.core.signatures import new_key

    if check and (sign is not None or make_key):
        raise UsageError("--check writes nothing; leave --sign and --new-key out")
    if trust is not None and not check:
        raise UsageError("--trust is asked with --check")
    if make_key:
        if sign is None:
            raise UsageError("--new-key makes the key of --sign KEYFILE; give its file")
        new_key(sign)
    found = check_pack(folder, trust) if check else write_pack(folder, sign)
    if as_json:
        print_json({"folder": str(folder), "files": dict(found.files), "key": found.key})
        return
    done = "as indexed" if check else "indexed"
    by = "not signed" if found.key is None else f"signed by {found.key}"
    OUT.print(f"{folder}: {len(found.files)} files {done}, {by}", highlight=False, markup=False, soft_wrap=True)
