"""The command line: parses, calls, renders. ``main`` turns errors into one line and an exit code.

A command per file of ``commands``; what they run is imported when they are called, so that the help is quick.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

import tillerman
from tillerman.cli.commands.check import check
from tillerman.cli.commands.compare import compare
from tillerman.cli.commands.demo import demo
from tillerman.cli.commands.evaluate import evaluate
from tillerman.cli.commands.export_task import export_task
from tillerman.cli.commands.fit import fit
from tillerman.cli.commands.generate import generate
from tillerman.cli.commands.reproduce import reproduce
from tillerman.cli.commands.score import score
from tillerman.cli.commands.show import show
from tillerman.cli.commands.study import study
from tillerman.cli.common import dressed
from tillerman.cli.output import ERR, OUT
from tillerman.cli.parsing import Program
from tillerman.core.errors import TillermanError

app = typer.Typer(
    name="tillerman",
    cls=Program,
    help="Labelled examples in, an evaluated steering vector out. Exit codes: 0 done, 1 bad input, "
    "2 usage, 3 no effect found, or one that the controls explain.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Entry point."""
    quiet_libraries()
    try:
        app()
    except TillermanError as error:
        ERR.quiet = False
        ERR.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        ERR.print("stopped; finished work is kept, run the same command to go on", style="yellow")
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output went away
        os._exit(0)


def quiet_libraries() -> None:
    """Loading bars and advice of transformers are not ours to show."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("transformers").setLevel(logging.ERROR)


def _version(asked: bool) -> None:
    if asked:
        OUT.print(f"tillerman {tillerman.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Labelled examples in, an evaluated steering vector out."""


app.command()(dressed("demo", demo))
app.command()(dressed("check", check, config=True))
app.command()(dressed("fit", fit, config=True, exit_zero=True))
app.command()(dressed("compare", compare, config=True, exit_zero=True))
app.command()(dressed("study", study, config=True))
app.command(name="eval")(dressed("eval", evaluate, config=True, exit_zero=True))
app.command()(dressed("reproduce", reproduce, config=True))
app.command()(dressed("score", score, config=True))
app.command()(dressed("show", show))
app.command()(dressed("generate", generate, config=True))
app.command(name="export-task")(dressed("export-task", export_task, config=True))
