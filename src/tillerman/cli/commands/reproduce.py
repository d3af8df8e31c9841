"""``tillerman reproduce``: a paper's protocol, from a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from tillerman.cli import options as o
from tillerman.cli.output import ERR, OUT, ensure_tracker, print_json, send, show_account, watch
from tillerman.cli.resumable import resumable
from tillerman.core.errors import ArtefactError, UsageError
from tillerman.core.files import in_turn, make_folder
from tillerman.core.opening import AS_USUAL, Opening

if TYPE_CHECKING:
    from tillerman.logs.reproduction import ReproductionLog
    from tillerman.recipes.recipe import Recipe
    from tillerman.recipes.run import Request

LOG = "reproduction.json"
PIECES = "pieces"  # what is finished; kept, so that more seeds or items go on from there


def reproduce(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="pas, cae, cold-steer, sta, rice, steerability, or a TOML file of your own"
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="folder with the data files, under the names in the recipe")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="'pilot' (default), a folder or a hub name; of several, each step takes the first that can run it",
        ),
    ] = None,
    sae: Annotated[
        str | None, typer.Option(help="sparse autoencoder of the model; the pilot has its own", metavar="PATH")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder for log and tables; reproduction-RECIPE if not given")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=10, help="maximum items of each data set")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="use only the first N of the recipe's seeds")] = None,
    only: Annotated[str | None, typer.Option(help="run only these tasks, groups or steps", metavar="NAMES")] = None,
    claims: Annotated[
        str | None,
        typer.Option(help="measure only what these claims need: their arms, layers and strengths", metavar="NAMES"),
    ] = None,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="skip the tasks whose files are missing")
    ] = False,
    render: Annotated[
        bool, typer.Option("--render", help="rebuild tables and verdicts from the log in OUT; runs no model")
    ] = False,
    opening: Opening = AS_USUAL,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Run a paper's protocol and test its claims on measured figures.

    Its published figures stand beside the measured ones. Every claim of the paper gets a verdict from its
    interval: holds, does not hold, undecided, or cannot be tested here. A run of the whole protocol takes long;
    it resumes where it stopped when the same command is given again, and --limit and --seeds make it small."""
    from tillerman.recipes.report import account
    from tillerman.recipes.run import Request

    ensure_tracker(track)
    folder = out or Path(f"reproduction-{Path(recipe).stem}")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: is a file; --out wants a folder")
    if render:
        made, log = render_again(recipe, folder)
    else:
        request = Request(data, limit, seeds, _names(only), skip_missing, sae, _names(claims))
        models = [o.ModelChoice(name, opening) for name in model or ["pilot"]]
        made, log = run_reproduce(recipe, request, models, folder, ERR)

    def show() -> None:
        if as_json:
            print_json(log.to_json())
        else:
            show_account(account(made, log))

    in_turn(show, lambda: write_reproduction(made, log, folder))
    if not as_json:
        OUT.print(f"tables: {folder / 'reproduction.md'}")
    send(log, track)


def _names(given: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (given or "").split(",") if name.strip())


def run_reproduce(
    source: str, request: Request, models: Sequence[o.ModelChoice], out: Path, console: Console
) -> tuple[Recipe, ReproductionLog]:
    """Run a recipe; its pieces lie in ``out``."""
    from tillerman.recipes.parse import read_recipe
    from tillerman.recipes.run import reproduce as carried_out

    recipe = read_recipe(source)
    make_folder(out)
    with resumable(out / PIECES, "reproduction", console, keep=True) as store:
        opened = [model.open() for model in models]
        log = carried_out(recipe, opened, request, store=store, watch=watch(console))
    return recipe[0], log


def render_again(source: str, out: Path) -> tuple[Recipe, ReproductionLog]:
    """Tables and verdicts made anew from a log that is there; no model is needed."""
    from tillerman.logs.reproduction import ReproductionLog
    from tillerman.recipes.parse import read_recipe
    from tillerman.recipes.verdicts import verdicts_on

    recipe, digest = read_recipe(source)
    log = ReproductionLog.read(out / LOG)
    if log.recipe != recipe.name:
        raise ArtefactError(f"{out / LOG}: a log of the recipe {log.recipe}, not of {recipe.name}")
    log = replace(log, verdicts=verdicts_on(recipe, log.pieces, log.left_out), recipe_digest=digest)
    return recipe, log


def write_reproduction(recipe: Recipe, log: ReproductionLog, out: Path) -> None:
    from tillerman.core.files import write_text
    from tillerman.recipes.report import to_markdown

    log.write(out / LOG)
    write_text(out / "reproduction.md", f"# {recipe.title}\n\n{recipe.paper}\n\n{to_markdown(recipe, log)}")
