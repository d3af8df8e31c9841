"""Open a sparse autoencoder: the embedded ``pilot``, or files as GemmaScope (1 and 2), SAELens, LlamaScope and
Qwen-Scope publish them. What lies on disk decides which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.models.opened import PILOT
from tillerman.models.sae import gemmascope, gemmascope2, llamascope, qwenscope, saelens
from tillerman.models.sae.autoencoder import SAE
from tillerman.models.sae.fetching import fetched_sae
from tillerman.models.sae.labels import read_labels
from tillerman.models.sae.parts import SaeSource

Reader = Callable[[SaeSource], SAE]


def open_sae(source: str | Path, *, at: HookPoint | None = None, labels: str | Path | None = None) -> SAE:
    """``source`` is ``pilot``, a file or a folder of one autoencoder, or the address of one (``hf://org/name/folder``),
    whose name is then that address with its commit. ``at`` names the hook point where the
    files do not. ``labels`` is a JSON file with what atoms mean, ``{"12": "sports"}`` or a list of objects
    with ``index`` and ``description``. ``DataError`` for what cannot be read.

    Whether it belongs to a model is for ``models.sae.quality`` to say.
    """
    embedded = str(source) == PILOT
    fetched = None if embedded else fetched_sae(str(source))
    if fetched is not None:
        path = fetched.path
    else:
        path = Path(str(files("tillerman").joinpath("pilot", "sae"))) if embedded else Path(source)
    read, file = _found(path)
    sae = read(SaeSource(file, at))
    named = replace(sae, name=PILOT if embedded else sae.name if fetched is None else fetched.origin)
    return named if labels is None else replace(named, labels=read_labels(Path(labels), sae.atoms))


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
        raise DataError("no such file or folder; give the files of an autoencoder, or 'pilot'", file=path)
    raise DataError(
        "no autoencoder found; supported are params.npz (GemmaScope), config.json + params.safetensors (GemmaScope 2), "
        "cfg.json + sae_weights.safetensors (SAELens), "
        "hyperparams.json + checkpoints/final.safetensors (LlamaScope) and layerN.sae.pt (Qwen-Scope)",
        file=path,
    )
