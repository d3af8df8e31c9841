"""Autoencoders by the names that SAELens gives them, as addresses on the hub.

``gemma-scope-2b-pt-res-canonical/layer_20/width_16k/canonical`` is a release and the name of one autoencoder in it.
The table (``releases.json``, made by ``tools/sae/releases.py``) is that of the package ``sae-lens``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from tillerman.core.errors import DataError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.places import HubPlace

_SHOWN = 4
# GemmaScope's files do not say where they belong; its repositories do. Attention's read the heads, before the output
# projection (arXiv 2408.05147, section 3).
_SITES = {"att": "heads", "mlp": "mlp_out", "res": "resid_post"}


@dataclass(frozen=True)
class SaeRelease:
    """Autoencoders of one repository: ``paths`` by name, or ``prefix`` and ``suffix`` of every name."""

    repo: str
    format: str
    paths: Mapping[str, str] = field(default_factory=dict)
    prefix: str = ""
    suffix: str = ""
    example: str = ""

    @property
    def some(self) -> str:
        names = list(self.paths)[:_SHOWN] or [self.example]
        return ", ".join(names) + (", ..." if len(self.paths) != len(names) else "")

    def path(self, name: str) -> str | None:
        """In the repository; None for a name that the release does not have, as far as is known."""
        return self.paths.get(name) if self.paths else f"{self.prefix}{name}{self.suffix}"


@dataclass(frozen=True)
class NamedSae:
    """Where it lies, and its hook point where its files do not say it."""

    place: HubPlace
    at: HookPoint | None = None


def named_sae(source: str) -> NamedSae | None:
    """``RELEASE/NAME``; None for a text that begins with no release. ``DataError`` for a name that it does not have."""
    head, _, name = source.partition("/")
    release = releases().get(head)
    if release is None:
        return None
    path = release.path(name) if name else None
    if path is None:
        raise DataError(f"{source}: the release {head} has {release.some}; write {head}/NAME")
    layer = re.search(r"layer_(\d+)", path) if release.format == "gemmascope" else None
    kind = release.repo.rpartition("-")[2]
    at = HookPoint(int(layer[1]), _SITES[kind]) if layer is not None and kind in _SITES else None
    return NamedSae(HubPlace(release.repo, None, path), at)


def near_releases(source: str) -> str:
    """In words, for an error: releases whose names are near; empty without one."""
    near = get_close_matches(source.partition("/")[0], releases(), n=_SHOWN, cutoff=0.8)
    return f"; releases of nearly this name: {', '.join(near)}" if near else ""


@cache
def releases() -> Mapping[str, SaeRelease]:
    """By name."""
    text = files("tillerman").joinpath("models", "sae", "releases.json").read_text(encoding="utf-8")
    return {name: SaeRelease(**row) for name, row in json.loads(text)["releases"].items()}
