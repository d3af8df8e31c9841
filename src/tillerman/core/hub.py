"""Files from the Hugging Face hub (or a mirror: ``HF_ENDPOINT``) and from ``file://`` folders, by a revision that is
written down. Everything lies in the hub's own cache, which also serves without a network."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from tillerman.core.errors import FileError, UsageError
from tillerman.core.files import as_ours, make_folder, replacing, sha256_of
from tillerman.core.places import FilePlace, HubPlace, place_of

ARTEFACTS = "*.safetensors"
_SHOWN = 5


@dataclass(frozen=True)
class Fetched:
    """``path`` is where it lies here, ``origin`` its address with the revision that was found: a commit, or a
    digest."""

    path: Path
    origin: str


def fetched_file(place: HubPlace | FilePlace, pattern: str = ARTEFACTS) -> Fetched:
    """The file that is named, or the only one at the top of the folder or repository that fits ``pattern``.

    ``FileError`` where there is none, several, or no way to it."""
    if isinstance(place, FilePlace):
        return _pinned(place, pattern)
    if PurePosixPath(place.path).suffix:
        return _downloaded(place)
    begin = f"{place.path}/" if place.path else ""
    inside = [name.removeprefix(begin) for name in names_in(place)]
    fitting = [begin + name for name in inside if fnmatch(name, pattern) and "/" not in name]
    name = _only(fitting, str(place), pattern)
    return _downloaded(replace(place, path=name))


def fetched_folder(place: HubPlace | FilePlace, patterns: Sequence[str] = ("*",)) -> Fetched:
    """The folder that is named, with the files of it that fit one of ``patterns``; of a hub, all below it."""
    if isinstance(place, FilePlace):
        if place.sha256 or not place.path.is_dir():
            raise FileError(f"{place}: expected a folder; a digest pins a file")
        return Fetched(place.path, str(place))
    from huggingface_hub import snapshot_download

    begin = f"{place.path}/" if place.path else ""
    with _as_ours(place):
        root = Path(
            snapshot_download(
                place.repo,
                revision=place.revision,
                allow_patterns=[begin + pattern for pattern in patterns],
                endpoint=_endpoint(),
            )
        )
    found = root / place.path
    if not found.is_dir() or not any(found.iterdir()):
        raise FileError(f"{place}: no files ({', '.join(patterns)}) there; the hub shows what the repository holds")
    return Fetched(found, str(HubPlace(place.repo, _commit_of(root), place.path)))


def upload(place: HubPlace | FilePlace, files: Mapping[str, bytes], message: str, *, private: bool = False) -> str:
    """Write the files to the repository, which is made where there is none, or to the folder. Their address, pinned.

    ``FileError`` says what is missing: a login, the right to write, the network."""
    if place.path and isinstance(place, HubPlace):
        raise UsageError(f"{place}: name the repository alone, e.g. hf://{place.repo}")
    if isinstance(place, FilePlace):
        make_folder(place.path)
        for name, content in files.items():
            with replacing(place.path / name) as part:
                part.write_bytes(content)
        return str(place)
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=_endpoint())
    with _as_ours(place):
        api.create_repo(place.repo, private=private or None, exist_ok=True)
        done = api.create_commit(
            place.repo,
            [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in files.items()],
            commit_message=message,
            revision=place.revision,
        )
    return str(HubPlace(place.repo, done.oid))


def local_file(name: str | Path, pattern: str = ARTEFACTS) -> Fetched:
    """An ordinary path as it is (with no origin), an address as it was fetched."""
    place = place_of(name)
    return Fetched(Path(name), "") if place is None else fetched_file(place, pattern)


def fetch_beside(fetched: Fetched, names: Sequence[str]) -> None:
    """Of a file of the hub also what lies beside it under these names in the same commit, as far as there is such.

    Without a network what the cache knows; ``FileError`` where the hub refuses."""
    from huggingface_hub import try_to_load_from_cache

    place = place_of(fetched.origin) if fetched.origin else None
    if not isinstance(place, HubPlace):
        return
    for name in names:
        beside = replace(place, path=PurePosixPath(place.path).with_name(name).as_posix())
        if try_to_load_from_cache(beside.repo, beside.path, revision=beside.revision) is None:
            with suppress(_NoSuchFileError, _UnreachableError):
                _downloaded(beside)


def names_in(place: HubPlace) -> tuple[str, ...]:
    """Files of the repository below the path, by their whole names; without a network those in the cache."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    begin = f"{place.path}/" if place.path else ""
    with _as_ours(place):
        try:
            info = HfApi(endpoint=_endpoint()).model_info(place.repo, revision=place.revision)
            names = [one.rfilename for one in info.siblings or ()]
        except HfHubHTTPError:
            raise
        except (OSError, _transport()):  # no network: the cache may know
            root = Path(snapshot_download(place.repo, revision=place.revision, local_files_only=True))
            names = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    return tuple(name for name in names if name.startswith(begin))


def _downloaded(place: HubPlace) -> Fetched:
    from huggingface_hub import hf_hub_download

    with _as_ours(place):
        path = Path(hf_hub_download(place.repo, place.path, revision=place.revision, endpoint=_endpoint()))
    return Fetched(path, str(HubPlace(place.repo, _commit_of(path), place.path)))


def _pinned(place: FilePlace, pattern: str) -> Fetched:
    path = place.path
    with as_ours(path):
        if path.is_dir():
            path = path / _only([one.name for one in path.iterdir() if fnmatch(one.name, pattern)], str(place), pattern)
        digest = sha256_of(path)
    if not digest.startswith(place.sha256):
        raise FileError(f"{path}: its sha256 is {digest[:12]}..., {place.sha256[:12]}... was asked for")
    return Fetched(path, str(FilePlace(path, digest)))


def _only(names: Sequence[str], where: str, pattern: str) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise FileError(f"{where}: no {pattern} there; name a file, as {where}/FILE")
    some = ", ".join(sorted(names)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    raise FileError(f"{where}: {len(names)} files ({some}); name one, as {where}/{min(names)}")


def _commit_of(path: Path) -> str | None:
    """Out of the cache's own folders: ``snapshots/COMMIT/...``."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _transport() -> type[Exception]:
    """The base of what the hub library's client raises where there is no connection."""
    from huggingface_hub.errors import HfHubHTTPError

    return next(base for base in HfHubHTTPError.__mro__[1:] if base.__name__ == "HTTPError")  # httpx's, whichever


class _NoSuchFileError(FileError):
    """The repository can be read, and has no such file."""


class _UnreachableError(FileError):
    """There is no way to the hub."""


@contextmanager
def _as_ours(place: HubPlace) -> Iterator[None]:
    """Errors of the hub and of the network in our words, with the remedy."""
    from huggingface_hub import errors as of_hub

    named = str(HubPlace(place.repo, place.revision))
    try:
        yield
    except of_hub.GatedRepoError as error:
        raise FileError(
            f"{named}: its owners ask for your consent first, on its page on the hub; then log in: "
            "'hf auth login', or HF_TOKEN"
        ) from error
    except of_hub.RepositoryNotFoundError as error:
        raise FileError(
            f"{named}: there is no such repository, or you may not read it; check the name, or log in: "
            "'hf auth login', or HF_TOKEN"
        ) from error
    except of_hub.RevisionNotFoundError as error:
        raise FileError(f"{named}: the repository has no branch, tag or commit of this name") from error
    except of_hub.RemoteEntryNotFoundError as error:
        raise _NoSuchFileError(f"{place}: the repository has no such file") from error
    except of_hub.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else None
        remedy = "log in with the right to write: 'hf auth login', or HF_TOKEN" if status in (401, 403) else "try again"
        raise FileError(f"{named}: the hub refuses ({status}: {str(error)[:200]}); {remedy}") from error
    except of_hub.HFValidationError as error:
        raise UsageError(f"{named}: {str(error)[:200]}") from error
    except of_hub.LocalTokenNotFoundError as error:
        raise FileError(f"{named}: you are not logged in; 'hf auth login', or HF_TOKEN") from error
    except (OSError, _transport()) as error:
        raise _UnreachableError(
            f"{place}: the hub cannot be reached, and the cache does not have it. With a network: check the connection "
            "and that HF_HUB_OFFLINE is not set. Without: a mirror (HF_ENDPOINT=URL), or a folder (file:///FOLDER)"
        ) from error
