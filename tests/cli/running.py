"""The command line in this process, as a user calls it."""

from __future__ import annotations

from typer.testing import CliRunner

from tillerman.cli.app import app
from tillerman.core.errors import TillermanError


def run(*call: object, code: int | None = 0) -> str:
    """What a command prints, or what its error says; it must end with this exit code (None: with any but 0)."""
    done = CliRunner().invoke(app, [str(part) for part in call], env={"COLUMNS": "160", "TERM": "dumb"})
    error = done.exception if isinstance(done.exception, TillermanError) else None
    ended = done.exit_code if error is None else error.exit_code
    assert ended if code is None else ended == code, (done.output, done.exception)
    return done.stdout if error is None else str(error)
