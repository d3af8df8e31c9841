"""A text file, read in pieces: unpacked, decoded, with one kind of line end, within limits."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tillerman.core.errors import DataError
from tillerman.data.reading.encodings import encoding_of, not_decoded
from tillerman.data.reading.options import FileOptions, with_option
from tillerman.data.reading.rows import OnBad, raising

_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class TextFile:
    """A file that is read anew each time it is asked for; only a piece of it is held."""

    path: Path
    reading: FileOptions = field(default_factory=FileOptions)
    piece: int = 1 << 16  # bytes read at once

    def pieces(self) -> Iterator[str]:
        """The text in order, without a byte order mark, its line ends ``\\n``."""
        ends = io.IncrementalNewlineDecoder(None, translate=True)
        decoder: codecs.IncrementalDecoder | None = None
        encoding, fed, lines = "", 0, 1
        for data, last in _with_last(self._bytes()):
            if decoder is None:
                encoding, mark = encoding_of(data, self.path, self.reading.encoding)
                decoder = codecs.getincrementaldecoder(encoding)()
                data, fed = data[mark:], mark
            held = len(decoder.getstate()[0])
            try:
                text = ends.decode(decoder.decode(data, last), last)
            except UnicodeDecodeError as error:
                line = lines + error.object[: error.start].count(b"\n")
                raise not_decoded(error, self.path, fed - held + error.start, line, encoding) from None
            fed += len(data)
            lines += text.count("\n")
            yield text

    def head(self, characters: int = 1 << 18) -> tuple[str, bool]:
        """The first characters, from the first that is not blank on, and whether that is all of the text.

        ``DataError`` for a file without any.
        """
        begin = ""
        for piece in self.pieces():
            begin = (begin + piece) if begin.strip() else piece
            if begin.strip() and len(begin) > characters:
                return begin, False
        if not begin.strip():
            raise DataError("the file is empty; expected rows", file=self.path)
        return begin, True

    def lines(self, on_bad: OnBad = raising) -> Iterator[tuple[int, str]]:
        """Every line with its number (from 1); one that is too long goes to ``on_bad`` and is passed over."""
        number, size, held = 1, 0, list[str]()
        for piece in self.pieces():
            parts = piece.split("\n")
            for at, part in enumerate(parts):
                if at:
                    if size <= self.reading.max_row:
                        yield number, "".join(held)
                    number, size, held = number + 1, 0, []
                before, size = size, size + len(part)
                if size <= self.reading.max_row:
                    held.append(part)
                elif before <= self.reading.max_row:
                    on_bad(self.too_long(number))
        if size and size <= self.reading.max_row:
            yield number, "".join(held)

    def too_long(self, line: int) -> DataError:
        most = self.reading.max_row
        message = (
            f"a row of more than {most:,} characters: is this a file of labelled items? "
            f"A longer row is read with {with_option(self.path, max_row=str(10 * most))}"
        )
        return DataError(message, file=self.path, line=line)

    def _bytes(self) -> Iterator[bytes]:
        most, total = self.reading.max_mb * _MEGABYTE, 0
        packed = self.path.suffix.lower() == ".gz"
        try:
            with gzip.open(self.path, "rb") if packed else self.path.open("rb") as file:
                while data := file.read(self.piece):
                    total += len(data)
                    if total > most:
                        raise self._too_large(packed)
                    yield data
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise DataError(f"the gzip archive is damaged or incomplete ({error})", file=self.path) from None
        except OSError as error:
            raise DataError(f"the file cannot be read ({error.strerror})", file=self.path) from None

    def _too_large(self, packed: bool) -> DataError:
        most = self.reading.max_mb
        message = (
            f"the file holds more than {most:,g} MB{' when unpacked' if packed else ''}; to read it all the same, "
            f"with memory for several times as much: {with_option(self.path, max_mb=f'{10 * most:g}')}"
        )
        return DataError(message, file=self.path)


def _with_last(pieces: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Each piece, and whether it is the last; an empty file has one empty piece."""
    held = next(pieces, b"")
    for piece in pieces:
        yield held, False
        held = piece
    yield held, True
