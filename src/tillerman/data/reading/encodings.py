"""Which encoding a file's bytes are in, and what to say where they are not."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

from tillerman.core.errors import DataError, UsageError
from tillerman.data.reading.options import short, with_option

# Longer marks first: a mark of UTF-32 begins with one of UTF-16.
_MARKS = (
    (b"\xef\xbb\xbf", "utf-8"),
    (b"\xff\xfe\x00\x00", "utf-32-le"),
    (b"\x00\x00\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_OTHER_KINDS = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook: unpack it, or save it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook: save it as CSV"),
    (b"PAR1", "a Parquet file: let its name end in .parquet"),
    (b"\x1f\x8b", "packed with gzip: let its name end in .gz"),
    (b"BZh", "packed with bzip2: unpack it first"),
    (b"\xfd7zXZ", "packed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "packed with zstd: unpack it first (zstd -d)"),
    (b"%PDF", "a PDF: save its text"),
    (b"SQLite format 3", "an SQLite database: export a table as CSV"),
    (b"\x89HDF", "an HDF5 file: save its rows as JSON lines"),
)


def encoding_of(begin: bytes, path: Path, given: str | None) -> tuple[str, int]:
    """The encoding, and how many bytes of a byte order mark come before the text.

    ``DataError`` where the file is of another kind, or is UTF-16 without its mark.
    """
    for magic, what in _OTHER_KINDS:
        if begin.startswith(magic):
            raise DataError(f"not a text file but {what}", file=path)
    marked = next(((name, len(mark)) for mark, name in _MARKS if begin.startswith(mark)), None)
    if given is not None:
        return _named(given, path), marked[1] if marked else 0
    if marked is not None:
        return marked
    for start, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros = begin[start::2].count(0)
        if len(begin) > 3 and 2 * zeros > len(begin[start::2]) and begin[1 - start :: 2].count(0) < zeros / 2:
            message = f"UTF-16 without a byte order mark: give {with_option(path, encoding=name)}, or convert it: "
            raise DataError(message + _iconv(path, name.upper().replace("-LE", "LE").replace("-BE", "BE")), file=path)
    return "utf-8", 0


def _named(encoding: str, path: Path) -> str:
    try:
        io.TextIOWrapper(io.BytesIO(), encoding=encoding)  # which takes encodings of text only
    except (LookupError, ValueError):
        raise UsageError(f"{path.name}: no text encoding {encoding!r}; e.g. utf-8, utf-16, cp1252, shift_jis") from None
    return encoding


def not_decoded(error: UnicodeDecodeError, path: Path, offset: int, line: int, encoding: str) -> DataError:
    """What the bytes are not, what they may be, and how to say so."""
    said = f"byte {offset} (0x{error.object[error.start]:02x}) is not {encoding.upper()}"
    around = error.object[max(error.start - 16, 0) : error.start + 16]
    try:
        shown = around.decode("cp1252").replace("\r", "\n").split("\n")
    except UnicodeDecodeError:
        remedy = f"name its encoding, e.g. {with_option(path, encoding='shift_jis')}"
        return DataError(f"{said}; {remedy}", file=path, line=line)
    at = error.object[max(error.start - 16, 0) : error.start].decode("cp1252").replace("\r", "\n").count("\n")
    remedy = (
        f"in Windows-1252 it reads {shown[at]!r}: if that is right, give {with_option(path, encoding='cp1252')}, "
        f"or convert it: {_iconv(path, 'WINDOWS-1252')}"
    )
    return DataError(f"{said}; {remedy}", file=path, line=line)


def _iconv(path: Path, encoding: str) -> str:
    name, out = shlex.quote(short(path)), shlex.quote(f"utf8-{path.name.removesuffix('.gz')}")
    if path.suffix.lower() == ".gz":
        return f"gzip -dc {name} | iconv -f {encoding} -t UTF-8 > {out}"
    return f"iconv -f {encoding} -t UTF-8 {name} > {out}"
