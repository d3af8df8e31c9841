"""What a user may say about a file, after its name: ``condition.json:rows=train``, ``export.csv:encoding=cp1252``."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.core.spec import checked, option, read_options, read_spec

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
_SPEC = re.compile(r"(.+?):(\w+\s*=.*)", re.DOTALL)


@dataclass(frozen=True)
class FileOptions:
    """What a file does not say of itself, or says in two ways. None: found from the file."""

    rows: str | None = option(None, "which rows, where a file or folder holds several sets: a key, a.b, or a split")
    header: str | None = option(None, "names of the columns of a table without a header, as text+label")
    delimiter: str | None = option(None, "what parts the cells of a table", choices=tuple(DELIMITERS))
    quotes: str | None = option(None, "quote marks wrap cells (csv) or are text", choices=("csv", "text"))
    encoding: str | None = option(None, "how the bytes are text, e.g. cp1252")
    escapes: bool | None = option(None, "in a text file, \\n stands for a line break")
    max_row: int = option(1_000_000, "characters of one row", least=1)
    max_rows: int = option(2_000_000, "rows of one file", least=1)
    max_mb: float = option(1000.0, "megabytes of one file, unpacked", above=0)

    def __post_init__(self) -> None:
        for name, value in checked("a file's options", self).items():
            object.__setattr__(self, name, value)


def file_and_reading(source: str | Path) -> tuple[Path, FileOptions]:
    """A path, and the options after its last colon, unless a file has the whole as its name.

    ``DataError`` for no path at all; ``UsageError`` for an option that is none.
    """
    text = str(source)
    if not text.strip():
        raise DataError("the name of the data is empty; give a file, a folder, or sample:NAME")
    if "\x00" in text:
        raise DataError(f"the path {text!r} holds a NUL character, which no file's name can have")
    found = _SPEC.fullmatch(text) if isinstance(source, str) else None
    if found is None or exists(Path(text)):
        return Path(text), FileOptions()
    name = Path(found[1]).name
    _, given = read_spec(f"{name.replace(':', '_')}:{found[2]}")
    return Path(found[1]), FileOptions(**read_options(name, FileOptions, given))


def with_option(path: Path, **said: str) -> str:
    """How a user writes this file with an option: the remedy in an error."""
    assert set(said) <= {one.name for one in fields(FileOptions)}
    return f"{short(path)}:" + ",".join(f"{name}={value}" for name, value in said.items())


def short(path: Path) -> str:
    """The path as it was given, so that advice can be pasted; of a long one the name, so that it can be read."""
    return str(path) if len(str(path)) <= 100 else path.name


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; a name that none can have has none."""
    try:
        return path.exists()
    except OSError:  # e.g. a name too long for a file
        return False
