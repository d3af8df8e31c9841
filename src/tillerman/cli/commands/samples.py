"""``tillerman samples``: the embedded samples, and one of them as a file of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o, values
from tillerman.cli.output import OUT, print_json
from tillerman.core.errors import UsageError


def samples(
    name: Annotated[
        str | None, typer.Argument(help="a sample to write as a file; all are listed if not given", metavar="NAME")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="file to write: jsonl, csv or parquet; neutral samples are written as text"),
    ] = None,
    limit: o.Limit = None,
    as_json: o.Json = False,
) -> None:
    """List the embedded samples, or write one as a file to try commands on.

    Every command takes them without a file too, as sample:NAME."""
    if name is None:
        if out is not None or limit is not None:
            raise UsageError("--out and --limit are about one sample; name it, as in 'tillerman samples agreeableness'")
        list_samples(as_json=as_json)
    elif out is None:
        raise UsageError(f"name the file that the sample is written to, as in --out {name}.jsonl")
    else:
        write_sample(name, out, limit)


def list_samples(*, as_json: bool) -> None:
    from tillerman.cli.render import print_table
    from tillerman.data.samples import SAMPLES
    from tillerman.logs.table import Table

    found = list(SAMPLES.values())
    if as_json:
        print_json([{"name": s.name, "kind": s.kind, "items": s.items, "licence": s.licence} for s in found])
        return
    rows = tuple((s.name, s.kind, str(s.items), s.licence) for s in found)
    print_table(OUT, Table("Embedded samples, for DATA as sample:NAME", ("name", "kind", "items", "licence"), rows))


def write_sample(name: str, out: Path, limit: int | None) -> None:
    from tillerman.core.files import write_text
    from tillerman.core.row_files import write_rows
    from tillerman.data.samples import SAMPLES, sample_rows

    values.writable(out)
    rows = sample_rows(name, limit)
    if SAMPLES[name].kind == "neutral":
        write_text(out, "".join(f"{row}\n" for row in rows))
    else:
        write_rows(out, [json.loads(row) for row in rows])
    OUT.print(f"written: {out} ({len(rows)} items)", highlight=False, markup=False, soft_wrap=True)
