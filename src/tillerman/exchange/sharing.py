"""Artefacts to and from the hub: with a card made of what was measured, by a revision that is written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tillerman.core.artefact import Artefact, save
from tillerman.core.errors import UsageError
from tillerman.core.files import make_folder, replacing
from tillerman.core.hub import fetched_folder, names_in, upload
from tillerman.core.packs import INDEX, SIGNATURE, check_pack, in_pack
from tillerman.core.places import FilePlace, HubPlace, place_of
from tillerman.evaluation.cards import evaluation_of, studies_of
from tillerman.models.artefacts import load
from tillerman.reports.evaluation import account
from tillerman.reports.model_card import Shared, model_card
from tillerman.reports.numbers import compact

CARD = "README.md"
SUFFIX = ".safetensors"


def pushed(
    artefacts: Sequence[Path], target: str, *, license_name: str | None = None, private: bool = False, message: str = ""
) -> str:
    """Put artefacts with a card made of theirs into a repository or a ``file://`` folder, with index and signature
    where they are the artefacts of a pack. The pinned address.

    ``UsageError`` for a target that is none, and for two files of one name."""
    place = address(target)
    artefacts = _files_of(artefacts)
    names = [path.name for path in artefacts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"{twice}: two files of this name; rename one")
    loaded = {path: load(path) for path in artefacts}
    beside = _index_beside(artefacts)
    repo = place.repo if isinstance(place, HubPlace) else place.path.name
    card = model_card(repo, [shared(path.name, one) for path, one in loaded.items()], license_name)
    files = {CARD: card.encode(), **{path.name: path.read_bytes() for path in (*artefacts, *beside)}}
    return upload(place, files, message or f"{', '.join(names)}"[:200], private=private)


def pulled(source: str, out: Path, trust: str | None = None) -> tuple[str, tuple[Path, ...]]:
    """One artefact to a file, with its origin in the provenance; or, to a folder, all files as they are. Of a pack
    what its index has, and signed by ``trust``, a public key, if one is given.

    The pinned address, and what was written. ``ArtefactError`` before anything is, where a file is not as indexed."""
    place = address(source)
    if out.suffix == SUFFIX:
        artefact = load(str(place), trust=trust)
        save(out, artefact)
        return artefact.steering.provenance.origin, (out,)
    found = fetched_folder(place, _names_at(place))
    if trust is not None or (found.path / INDEX).is_file():
        check_pack(found.path, trust)
    make_folder(out)
    written = []
    for file in sorted(path for path in found.path.iterdir() if path.is_file()):
        with replacing(out / file.name) as part:
            part.write_bytes(file.read_bytes())
        written.append(out / file.name)
    return found.origin, tuple(written)


def _names_at(place: HubPlace | FilePlace) -> tuple[str, ...]:
    """Files of the folder or repository, those in folders of it left out."""
    if isinstance(place, FilePlace):
        return ("*",)
    begin = f"{place.path}/" if place.path else ""
    names = [name.removeprefix(begin) for name in names_in(place)]
    return tuple(name for name in names if "/" not in name)


def _index_beside(artefacts: Sequence[Path]) -> tuple[Path, ...]:
    """Index, signature and other files of the one pack whose artefacts these are, all of them."""
    folders = {path.parent for path in artefacts}
    if len(folders) != 1 or not in_pack(artefacts[0]):
        return ()
    (folder,) = folders
    names = set(check_pack(folder).files)
    if {name for name in names if name.endswith(SUFFIX)} != {path.name for path in artefacts}:
        return ()
    more = names - {path.name for path in artefacts} | {INDEX, SIGNATURE}
    return tuple(folder / name for name in sorted(more) if (folder / name).is_file())


def _files_of(given: Sequence[Path]) -> list[Path]:
    """A folder stands for the artefacts in it."""
    found: list[Path] = []
    for path in given:
        inside = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
        if not inside:
            raise UsageError(f"{path}: holds no artefact (*{SUFFIX})")
        found += inside
    return found


def address(name: str) -> HubPlace | FilePlace:
    """``UsageError`` for what is no address."""
    place = place_of(name)
    if place is None:
        raise UsageError(f"{name}: expected hf://ORG/NAME or file:///FOLDER")
    return place


def shared(file: str, artefact: Artefact) -> Shared:
    """An artefact for its model card."""
    measured = artefact.card is not None and bool(artefact.card.report)
    return Shared(
        file,
        artefact.steering.provenance,
        str(artefact.cell),
        compact(artefact.dose),
        account(evaluation_of(artefact), studies_of(artefact)) if measured else None,
    )
