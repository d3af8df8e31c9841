"""Open a sparse autoencoder: the embedded ``pilot``, or files as GemmaScope (1 and 2), SAELens, LlamaScope and
Qwen-Scope publish them. What lies on disk decides which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.hub import local_file
from tillerman.models.opened import PILOT
from tillerman.models.sae import gemmascope, gemmascope2, llamascope, qwenscope, saelens
from tillerman.models.sae.autoencoder import SAE
from tillerman.models.sae.fetching import fetched_sae
from tillerman.models.sae.labels import read_labels
from tillerman.models.sae.parts import SaeSource
from tillerman.models.sae.releases import named_sae, near_releases

Reader = Callable[[SaeSource], SAE]


def open_sae(source: str | Path, *, at: HookPoint | None = None, labels: str | Path | None = None) -> SAE:
    """``source`` is ``pilot``, a file or a folder of one autoencoder, the address of one
    (``hf://org/name/folder``), or a release and a name in it as SAELens has them
    (``gpt2-small-res-jb/blocks.8.hook_resid_pre``); of the last two the name is then the address with its commit.
    ``at`` names the hook point where the files do not. ``labels`` is a file with what atoms mean, see ``read_labels``;
    it may be an address, too. ``DataError`` for what cannot be read.

    Whether it belongs to a model is for ``models.sae.quality`` to say.
    """
    path, name, point = _located(source)
    read, file = _found(path)
    sae = read(SaeSource(file, at or point))
    named = replace(sae, name=name or sae.name)
    return (
        named if labels is None else replace(named, labels=read_labels(local_file(labels, "*.json*").path, sae.atoms))
    )


def _located(source: str | Path) -> tuple[Path, str, HookPoint | None]:
    """Where it lies here, its name where the files have none of their own, its hook point where a release says it."""
    if str(source) == PILOT:
        return Path(str(files("tillerman").joinpath("pilot", "sae"))), PILOT, None
    known = None if Path(source).exists() else named_sae(Path(source).as_posix())
    fetched = fetched_sae(str(source) if known is None else known.place)
    if fetched is None:
        return Path(source), "", None
    return fetched.path, fetched.origin, None if known is None else known.at


def _found(path: Path) -> tuple[Reader, Path]:
    """Which reader, and the file or folder it reads."""
    if path.is_file():
        if path.suffix == ".npz":
            return gemmascope.read, path
        if path.suffix == ".pt":
            return qwenscope.read, path
        if path.name in (saelens.CONFIG, saelens.WEIGHTS):
            return saelens.read, path.parent
        if path.name == gemmascope2.WEIGHTS:
            return gemmascope2.read, path.parent
    elif (path / saelens.CONFIG).is_file() and (path / saelens.WEIGHTS).is_file():
        return saelens.read, path
    elif (path / llamascope.CONFIG).is_file() and (path / llamascope.WEIGHTS).is_file():
        return llamascope.read, path
    elif (path / gemmascope2.CONFIG).is_file() and (path / gemmascope2.WEIGHTS).is_file():
        return gemmascope2.read, path
    elif (path / gemmascope.FILE).is_file():
        return gemmascope.read, path / gemmascope.FILE
    elif path.is_dir():
        single = [file for file in path.iterdir() if qwenscope.FILE.fullmatch(file.name)]
        if len(single) == 1:
            return qwenscope.read, single[0]
        if single:
            raise DataError(f"{len(single)} autoencoders, one per layer; name one, e.g. {min(single).name}", file=path)
    else:
        near = near_releases(path.as_posix())
        raise DataError(f"no such file or folder; give the files of an autoencoder, or 'pilot'{near}", file=path)
    raise DataError(
        "no autoencoder found; supported are params.npz (GemmaScope), config.json + params.safetensors (GemmaScope 2), "
        "cfg.json + sae_weights.safetensors (SAELens), "
        "hyperparams.json + checkpoints/final.safetensors (LlamaScope) and layerN.sae.pt (Qwen-Scope)",
        file=path,
    )
