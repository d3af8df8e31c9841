"""Autoencoders that lie elsewhere: the files of one, never a whole repository of hundreds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

from tillerman.core.errors import DataError
from tillerman.core.hub import Fetched, fetched_file, fetched_folder, names_in
from tillerman.core.places import FilePlace, HubPlace, place_of

_ONE_FILE = (".npz", ".pt")  # formats that are whole in one
_WEIGHTS = (*_ONE_FILE, ".safetensors")
_SHOWN = 4


def fetched_sae(source: str | HubPlace) -> Fetched | None:
    """Where the files of an autoencoder with this address lie; None for what is no address.

    ``DataError`` for a repository of several, with some of the folders in it."""
    place = source if isinstance(source, HubPlace) else place_of(source)
    if place is None:
        return None
    if isinstance(place, FilePlace):
        return fetched_folder(place) if place.path.is_dir() else fetched_file(place)
    return _from_hub(place)


def _from_hub(place: HubPlace) -> Fetched:
    path = PurePosixPath(place.path)
    if path.suffix in _ONE_FILE:
        return fetched_file(place)
    if path.suffix in (".safetensors", ".json"):
        parent = path.parent.as_posix()
        place = replace(place, path="" if parent == "." else parent)
    begin = f"{place.path}/" if place.path else ""
    inside = [name for name in names_in(place) if name.endswith(_WEIGHTS)]
    # LlamaScope keeps its weights one folder further down.
    homes = {
        PurePosixPath(name).parent.as_posix().removesuffix("/checkpoints").removesuffix("checkpoints")
        for name in inside
    }
    here = {place.path or "."}
    if homes - here:
        some = ", ".join(f"hf://{place.repo}/{home}" for home in sorted(homes)[:_SHOWN])
        raise DataError(
            f"{place}: {len(homes)} autoencoders lie there; name the folder of one: {some}", file=str(place)
        )
    if not inside:
        raise DataError("no autoencoder there (params.npz, *.safetensors, *.pt)", file=str(place))
    own = [name.removeprefix(begin) for name in inside if name.endswith(_ONE_FILE)]
    if len(own) > 1:
        raise DataError(f"{len(own)} autoencoders, one per layer; name one, e.g. {place}/{min(own)}", file=str(place))
    return fetched_folder(place, ("*.json", "*.safetensors", *own))
