"""A folder of artefacts with an index, ``pack.json``: the sha256 of every file, and who signed the index.

Every artefact that is read from such a folder is held against the index; who signed it is asked where somebody is
trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tillerman.core.errors import ArtefactError, UsageError
from tillerman.core.files import as_ours, sha256_of, write_text
from tillerman.core.signatures import is_signed, public_key, signed

INDEX, SIGNATURE = "pack.json", "pack.sig"
_APART = (INDEX, SIGNATURE, "README.md")  # the page of a repository is made anew by the hub's users
_FORMAT, _VERSION = "tillerman-pack", 1
_SUFFIX = ".safetensors"
_AGAIN = "if the change is meant, index the folder again (tillerman pack); else copy the file again"


@dataclass(frozen=True)
class Pack:
    """``files``: sha256 by name. ``key`` is the public key that signed the index; None: nobody has."""

    files: Mapping[str, str]
    key: str | None = None


def write_pack(folder: Path, private_key: Path | None = None) -> Pack:
    """Index every file of the folder but README.md, and sign the index. ``UsageError`` for one without an artefact."""
    with as_ours(folder):
        files = sorted(path for path in folder.iterdir() if _counts(path))
    if not any(path.suffix == _SUFFIX for path in files):
        raise UsageError(f"{folder}: holds no artefact (*{_SUFFIX})")
    digests = {path.name: sha256_of(path) for path in files}
    text = json.dumps({"format": _FORMAT, "version": _VERSION, "files": digests}, indent=1) + "\n"
    key = signature = None
    if private_key is not None:
        key, signature = signed(text.encode(), private_key)
    write_text(folder / INDEX, text)
    if key is None:
        (folder / SIGNATURE).unlink(missing_ok=True)
    else:
        write_text(folder / SIGNATURE, json.dumps({"key": key, "signature": signature}, indent=1) + "\n")
    return Pack(digests, key)


def check_pack(folder: Path, trust: str | None = None) -> Pack:
    """Every file as the index has it, no artefact besides, and the index signed by ``trust``, a public key.

    ``ArtefactError`` names the file that is not."""
    pack = _read(folder, None if trust is None else public_key(trust))
    for name in pack.files:
        _check(folder / name, pack)
    with as_ours(folder):
        more = sorted(path.name for path in folder.iterdir() if path.suffix == _SUFFIX and path.name not in pack.files)
    if more:
        raise ArtefactError(f"{folder / more[0]}: is not in the index of its pack; {_AGAIN}")
    return pack


def check_member(path: Path, trust: str | None = None) -> None:
    """An artefact that lies beside an index is the one that was indexed, and the index is signed by ``trust``, a public
    key, if one is given; without one, nothing is asked of a file elsewhere, nor who signed.

    ``ArtefactError`` names the file that is not."""
    if in_pack(path):
        key = None if trust is None else public_key(trust)
        _check(path, _read(path.parent, key, signature=key is not None))
    elif trust is not None:
        raise ArtefactError(f"{path}: is not in a pack, so nobody signed it; 'tillerman pack --sign' makes one")


def in_pack(path: Path) -> bool:
    """Whether the file lies beside an index."""
    return (path.parent / INDEX).is_file()


def _check(path: Path, pack: Pack) -> None:
    if path.name not in pack.files:
        raise ArtefactError(f"{path}: is not in the index of its pack; {_AGAIN}")
    if not path.is_file():
        raise ArtefactError(f"{path}: is in the index of its pack, and not there; copy it again")
    if sha256_of(path) != pack.files[path.name]:
        raise ArtefactError(f"{path}: was changed since its pack was indexed (its sha256 is another); {_AGAIN}")


def _read(folder: Path, trust: str | None, *, signature: bool = True) -> Pack:
    """The index, and whose it is; a signature that is not the index's is refused whoever is trusted."""
    path = folder / INDEX
    with as_ours(path):
        content = path.read_bytes()
    files = _json(path, content).get("files")
    if not isinstance(files, dict) or not all(_is_name(n) and isinstance(d, str) for n, d in files.items()):
        raise ArtefactError(f"{path}: no index of a pack; make one: tillerman pack {folder}")
    key = _signer(folder, content) if signature else None
    if trust is not None and key != trust:
        by = "is not signed" if key is None else f"is signed by {key}"
        raise ArtefactError(f"{path}: {by}, and {trust} is trusted; get the pack from where that key is used")
    return Pack(files, key)


def _signer(folder: Path, content: bytes) -> str | None:
    path = folder / SIGNATURE
    if not path.is_file():
        return None
    with as_ours(path):
        found = _json(path, path.read_bytes())
    key, signature = str(found.get("key")), str(found.get("signature"))
    if not is_signed(content, signature, key):
        raise ArtefactError(f"{folder / INDEX}: was changed since it was signed by {key[:60]}; get the pack again")
    return key


def _json(path: Path, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArtefactError(f"{path}: is damaged ({error}); get the pack again, or index it: tillerman pack") from None
    if not isinstance(found, dict):
        raise ArtefactError(f"{path}: is damaged (no object); get the pack again, or index it: tillerman pack")
    return found


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and Path(name).name == name


def _counts(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(".") and path.name not in _APART
