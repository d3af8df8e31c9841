"""The command line: parses, calls, renders. ``main`` turns errors into one line and an exit code.

A command per file of ``commands``; what they run is imported when they are called, so that the help is quick.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

import tillerman
from tillerman.cli.commands.audit import audit
from tillerman.cli.commands.audit_log import audit_log
from tillerman.cli.commands.certify import certify
from tillerman.cli.commands.chat import chat
from tillerman.cli.commands.check import check
from tillerman.cli.commands.compare import compare
from tillerman.cli.commands.demo import demo
from tillerman.cli.commands.evaluate import evaluate
from tillerman.cli.commands.export import export
from tillerman.cli.commands.export_task import export_task
from tillerman.cli.commands.fit import fit
from tillerman.cli.commands.fleet import fleet
from tillerman.cli.commands.generate import generate
from tillerman.cli.commands.import_vector import import_vector
from tillerman.cli.commands.keys import keys
from tillerman.cli.commands.make import make
from tillerman.cli.commands.monitor import monitor
from tillerman.cli.commands.pack import pack
from tillerman.cli.commands.pull import pull
from tillerman.cli.commands.push import push
from tillerman.cli.commands.reproduce import reproduce
from tillerman.cli.commands.restest import restest
from tillerman.cli.commands.samples import samples
from tillerman.cli.commands.score import score
from tillerman.cli.commands.serve import serve
from tillerman.cli.commands.show import show
from tillerman.cli.commands.study import study
from tillerman.cli.commands.validate_scorer import validate_scorer
from tillerman.cli.commands.verify import verify
from tillerman.cli.common import dressed
from tillerman.cli.libraries import quiet_libraries
from tillerman.cli.output import ERR, OUT
from tillerman.cli.parsing import Program
from tillerman.cli.stopping import Stopped, stoppable
from tillerman.cli.terminal import close_output, ready_output
from tillerman.core.errors import TillermanError
from tillerman.core.files import system_words

app = typer.Typer(
    name="tillerman",
    cls=Program,
    help="Labelled examples in, an evaluated steering vector out. Exit codes: 0 done, 1 bad input, "
    "2 usage, 3 no effect found, or one that the controls explain; 130 and 143 stopped by Ctrl-C or SIGTERM; 141 the "
    "reader of the output went away.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def main() -> None:
    """Entry point."""
    quiet_libraries()
    code = 0
    try:
        with stoppable():
            ready_output()
            app()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except TillermanError as error:
        code = _told(f"error: {error}", error.exit_code)
    except (Stopped, KeyboardInterrupt) as stopped:
        stop = stopped if isinstance(stopped, Stopped) else Stopped(2)
        code = _told(stop.words(), stop.exit_code, style="yellow")
    except OSError as error:
        code = _told(_system_error(error), 1)
    sys.exit(_flushed(code))


def _told(words: str, code: int, *, style: str = "red") -> int:
    ERR.quiet = False
    with suppress(OSError):  # nobody is there to be told
        ERR.print(words, style=style, soft_wrap=True)
    return code


def _flushed(code: int) -> int:
    """The exit code, once all output is out. 141 where its reader went away, as of programs that a pipe ends."""
    if OUT.deserted:
        return 141
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        close_output(1)
        return 141
    except OSError as error:
        close_output(1)
        return code or _told(_system_error(error), 1)
    return code


def _system_error(error: OSError) -> str:
    if error.filename is None:
        close_output(1)
        return f"error: the output cannot be written: {system_words(error)}; files of this command are written"
    return f"error: {error.filename}: {system_words(error)}"


def _version(asked: bool) -> None:
    if asked:
        OUT.print(f"tillerman {tillerman.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Labelled examples in, an evaluated steering vector out."""


app.command()(dressed("demo", demo))
app.command()(dressed("samples", samples))
app.command()(dressed("make", make, config=True, exit_zero=True))
app.command()(dressed("check", check, config=True))
app.command()(dressed("fit", fit, config=True, exit_zero=True))
app.command()(dressed("compare", compare, config=True, exit_zero=True))
app.command()(dressed("study", study, config=True))
app.command()(dressed("certify", certify, config=True, exit_zero=True))
app.command(name="eval")(dressed("eval", evaluate, config=True, exit_zero=True))
app.command()(dressed("reproduce", reproduce, config=True))
app.command()(dressed("score", score, config=True))
app.command(name="validate-scorer")(dressed("validate-scorer", validate_scorer, config=True))
app.command()(dressed("restest", restest, config=True))
app.command()(dressed("show", show))
app.command()(dressed("monitor", monitor, config=True, exit_zero=True))
app.command()(dressed("generate", generate, config=True))
app.command(name="export-task")(dressed("export-task", export_task, config=True))
app.command(name="import")(dressed("import", import_vector))
app.command()(dressed("export", export))
app.command()(dressed("push", push))
app.command()(dressed("pull", pull))
app.command()(dressed("pack", pack))
app.command()(dressed("audit", audit))
app.command()(dressed("serve", serve))
app.command()(dressed("verify", verify))
app.command()(dressed("chat", chat))
app.command()(dressed("keys", keys))
app.command(name="audit-log")(dressed("audit-log", audit_log))
app.command()(dressed("fleet", fleet))
