"""Writes ``src/tillerman/models/sae/releases.json``: which repository and folder of the hub an SAELens name means.

    python tools/sae/releases.py pretrained_saes.yaml VERSION

The table is that of the package ``sae-lens`` (MIT licence). Taken are releases in formats that ``open_sae`` reads, at
sites that there are; transcoders are no autoencoders of one hook point.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

FORMATS = {None: "saelens", "gemma_2": "gemmascope", "gemma_3": "gemmascope2", "llama_scope": "llamascope"}
FORMATS["qwen_scope"] = "qwenscope"
TARGET = Path(__file__).resolve().parents[2] / "src/tillerman/models/sae/releases.json"
LEFT_OUT = ("transcoder", "resid-mid", "resid-post-v5-32k")  # the last: folders whose names end in .pt


def release(given: dict[str, Any]) -> dict[str, Any] | None:
    """One row: ``paths`` by id, or what stands before and behind every id."""
    ids = {one["id"]: one["path"] for one in given["saes"] if not one["id"].startswith("embedding")}
    if not ids:
        return None
    row: dict[str, Any] = {"repo": given["repo_id"], "format": FORMATS[given.get("conversion_func")]}
    first = next(iter(ids))
    prefix, found, suffix = ids[first].partition(first)
    if found and all(path == prefix + name + suffix for name, path in ids.items()):
        return {**row, "prefix": prefix, "suffix": suffix, "example": first}
    return {**row, "paths": ids}


def main(source: str, version: str) -> None:
    every = yaml.safe_load(Path(source).read_text(encoding="utf-8"))
    kept = {
        name: release(given)
        for name, given in every.items()
        if given.get("conversion_func") in FORMATS and not any(word in name for word in LEFT_OUT)
    }
    rows = {name: row for name, row in sorted(kept.items()) if row is not None}
    whole = {"source": f"pretrained_saes.yaml of sae-lens {version} (MIT)", "releases": rows}
    TARGET.write_text(json.dumps(whole, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
