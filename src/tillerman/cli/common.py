"""What every command has besides its own options: panels of its help, a configuration file, quiet, log level, and
errors that speak of flags."""

from __future__ import annotations

import inspect
import logging
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from tillerman.cli.config import read_config, write_config
from tillerman.cli.faults import explained
from tillerman.cli.flags import in_flags
from tillerman.cli.libraries import NOISY
from tillerman.cli.opening import device_of, opening_of, parameters_of, with_opening
from tillerman.cli.output import ERR, NO_EFFECT
from tillerman.cli.panels import RUN, panel_of, place
from tillerman.core.errors import TillermanError, UnknownNameError
from tillerman.core.escaping import visible

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_CONFIG = Annotated[
    Path | None,
    typer.Option(
        "--config",
        callback=read_config,
        is_eager=True,
        help="TOML file with options of this command, without their dashes; the command line has precedence",
        metavar="FILE",
        rich_help_panel=RUN,
    ),
]
_WRITE_CONFIG = Annotated[
    str | None,
    typer.Option(
        "--write-config",
        help="write the options that would be used, as a file for --config, and stop; - is the output",
        metavar="FILE",
        rich_help_panel=RUN,
    ),
]
_QUIET = Annotated[
    bool, typer.Option("--quiet", "-q", help="no progress and no notes, only results and errors", rich_help_panel=RUN)
]
_LOG_LEVEL = Annotated[
    str, typer.Option(help=f"messages of libraries on the error stream: {', '.join(_LEVELS)}", rich_help_panel=RUN)
]
_EXIT_ZERO = Annotated[
    bool, typer.Option("--exit-zero", help=f"exit code 0 instead of {NO_EFFECT}", rich_help_panel=RUN)
]


def dressed(
    command: str, function: Callable[..., None], *, config: bool = False, exit_zero: bool = False
) -> Callable[..., None]:
    """``function`` with the options of all commands after its own. ``config``: it can be written down; ``exit_zero``:
    it tells by its exit code whether there is an effect."""
    extra: dict[str, Any] = {"quiet": (_QUIET, False), "log_level": (_LOG_LEVEL, "error")}
    if exit_zero:
        extra["exit_zero"] = (_EXIT_ZERO, False)
    if config:
        extra |= {"config": (_CONFIG, None), "write_config": (_WRITE_CONFIG, None)}

    @wraps(function)
    def run(ctx: typer.Context, **given: Any) -> None:
        asked = {name: given.pop(name) for name in extra}
        ERR.quiet = asked["quiet"]
        _set_log_level(asked["log_level"])
        if asked.get("write_config") is not None:
            write_config(ctx, asked["write_config"], leave_out=frozenset(extra))
            return
        try:
            function(**opening_of(given))
        except TillermanError as error:
            raise _in_flags(error, command) from None
        except typer.Exit as ended:
            raise typer.Exit(
                0 if asked.get("exit_zero") and ended.exit_code == NO_EFFECT else ended.exit_code
            ) from None
        except (RuntimeError, MemoryError) as error:  # typer.Exit is one, too
            known = explained(error, device_of(given))
            if known is None:
                raise
            raise known from error

    hints = {
        **with_opening(get_type_hints(function, include_extras=True)),
        **{name: kind for name, (kind, _) in extra.items()},
    }
    own = [one.replace(annotation=panel_of(command, one.name, hints[one.name])) for one in parameters_of(function)]
    own.sort(key=lambda one: place(command, one.name, one.annotation))
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in extra.items()
    ]
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    run.__annotations__ = {one.name: one.annotation for one in (context, *own, *added)} | {"return": None}
    run.__signature__ = inspect.Signature([context, *own, *added])  # type: ignore[attr-defined]  # read by typer
    return run


def _set_log_level(name: str) -> None:
    if name not in _LEVELS:
        raise UnknownNameError("log level", name, _LEVELS)
    handler = logging.StreamHandler()
    handler.setFormatter(Plain("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler])
    for logger in (None, "transformers", *NOISY):
        logging.getLogger(logger).setLevel(_LEVELS[name])
    if _LEVELS[name] > logging.WARNING and not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", module=r"tillerman\.")


class Plain(logging.Formatter):
    """Messages of libraries, which may hold names of models and data, as text."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def _in_flags(error: TillermanError, command: str) -> TillermanError:
    error.args = (in_flags(str(error), command),)
    return error
