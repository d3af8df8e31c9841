"""``tillerman reproduce``: a paper's protocol, from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tillerman.cli import options as o
from tillerman.cli.output import ERR, OUT, print_json
from tillerman.core.errors import UsageError


def reproduce(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="pas, cae, cold-steer, sta, rice, or a TOML file of your own")
    ],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with the data files, named as the recipe names them")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="'pilot' (default), a folder, or a hub name; of several each step takes the first that can do it",
        ),
    ] = None,
    sae: Annotated[
        str | None, typer.Option(help="sparse autoencoder of the model; the pilot brings its own", metavar="PATH")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for log and tables; reproduction-RECIPE if not given")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=10, help="most items of each data set")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="only the first so many of the recipe's seeds")] = None,
    only: Annotated[str | None, typer.Option(help="only these tasks, groups or steps", metavar="NAMES")] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="run without the tasks whose files are missing")
    ] = False,
    render: Annotated[
        bool, typer.Option("--render", help="make tables and verdicts anew from OUT's log; runs nothing")
    ] = False,
    device: o.Device = "cpu",
    guess_layout: o.GuessLayout = False,
    as_json: o.Json = False,
) -> None:
    """Run a paper's protocol and set its published figures beside the measured ones.

    Every claim of the paper gets a verdict from its interval: holds, does not hold, undecided, or cannot be tested
    here. A run of the whole protocol takes long; it goes on where it stopped when the same command is given again,
    and --limit and --seeds make it small."""
    from tillerman.cli.reproducing import print_reproduction, render_again, run_reproduce
    from tillerman.recipes.run import Request

    folder = out or Path(f"reproduction-{Path(recipe).stem}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; --out wants a folder")
    if render:
        made, log = render_again(recipe, folder)
    else:
        names = tuple(name.strip() for name in (only or "").split(",") if name.strip())
        request = Request(data, limit, seeds, names, skip_missing, sae)
        models = [o.ModelChoice(name, device, guess_layout) for name in model or ["pilot"]]
        made, log = run_reproduce(recipe, request, models, folder, ERR)
    if as_json:
        print_json(log.to_json())
    else:
        print_reproduction(OUT, made, log)
        OUT.print(f"tables: {folder / 'reproduction.md'}", highlight=False)
