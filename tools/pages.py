"""Pages of which parts are measured: each part stands between ``<!-- NAME -->`` and ``<!-- /NAME -->``, what stands
outside the marks is written by hand, and a page that is not what its logs say is stale."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
Made = Mapping[Path, str]  # the whole text of each file


def filled(path: Path, parts: Mapping[str, str]) -> str:
    """The page with every part made anew. Ends where a mark is missing, or is there twice."""
    text = path.read_text(encoding="utf-8")
    for name, made in parts.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if text.count(start) != 1 or text.count(end) != 1:
            sys.exit(f"{path.name}: expected the marks {start} and {end} once each")
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n\n{made}\n{end}{rest.partition(end)[2]}"
    return text


def asked(doc: str | None, what: str, *names: str, several: bool = False) -> argparse.ArgumentParser:
    """The options of every such tool: ``--check``, and ``--add`` with its values' ``names`` and what it takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 where something is stale")
    if several:
        parser.add_argument("--add", nargs="+", metavar=names, help=f"take {what}")
    else:
        parser.add_argument("--add", type=Path, metavar=names[0], help=f"take {what}")
    return parser


def write(tool: str, made: Callable[[], Made], *, check: bool) -> None:
    """Write what is made, or only compare: the first file that is stale is named, with what makes it anew."""
    for path, text in made().items():
        if not check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"stale: {path.relative_to(ROOT)}; run 'python {Path(tool).resolve().relative_to(ROOT)}'")
