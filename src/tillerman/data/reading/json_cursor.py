"""A place in a JSON text that arrives in pieces: values are decoded one by one, each with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tillerman.core.errors import DataError
from tillerman.data.reading.rows import OnBad
from tillerman.data.reading.text import TextFile

# A value and the line it begins in.
Numbered = tuple[Any, int]

_BLANK = " \t\r\n"
_ENDS = tuple(" \t\r\n,]}:")  # what may follow a whole number
_CUT = 16  # characters: a fault so near the end of what has come may be a value that goes on


class TwiceError(ValueError):
    """An object that names a key twice: which of its values is meant, nobody can say."""

    def __init__(self, key: str) -> None:
        super().__init__(f"the key {key!r} occurs twice in one object; keep one of them")
        self.key = key


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object's members; ``TwiceError`` where a key comes again (``json`` would keep the last)."""
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        raise TwiceError(next(key for key in keys if keys.count(key) > 1))
    return made


DECODER = json.JSONDecoder(object_pairs_hook=object_of)


class JsonCursor:
    """Reads forward only. Values are whole, at most ``max_row`` characters; containers can be stepped into."""

    def __init__(self, file: TextFile) -> None:
        self._file, self._pieces = file, file.pieces()
        self._text, self._at, self.line = "", 0, 1
        self._passed: DataError | None = None

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            start = self._at
            while start < len(self._text) and self._text[start] in _BLANK:
                start += 1
            self._move(start)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def accept(self, character: str) -> bool:
        """Step over ``character`` if it comes next."""
        if self.peek() != character:
            return False
        self._move(self._at + 1)
        return True

    def expect(self, character: str, where: str) -> None:
        if not self.accept(character):
            got = repr(self.peek()) if self.peek() else "the end of the file"
            raise self.broken(f"expected {character!r} {where}, got {got}")

    def value(self) -> Any:
        """The next value, decoded, and the cursor behind it. ``DataError`` where it is broken, too long, or an object
        names a key twice; behind the last two, ``numbered`` goes on."""
        self.peek()
        file, line = self._file, self.line
        while True:
            try:
                found, end = DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                self._go_on(error, line)
                continue
            except RecursionError:
                raise self.broken("nested too deeply") from None
            except TwiceError as error:
                try:
                    end = json.JSONDecoder().raw_decode(self._text, self._at)[1]
                except json.JSONDecodeError as broken:  # the object goes on in the next piece, or is broken further on
                    self._go_on(broken, line)
                    continue
                except (RecursionError, ValueError) as broken:
                    raise self.broken(str(broken)) from None
                self._move(end)
                raise self._pass(DataError(str(error), file=file.path, line=line, field=error.key)) from None
            except ValueError as error:
                raise self.broken(str(error)) from None
            # A number may go on in the next piece, also where "0" is followed by the "." that begins its fraction.
            if self._text[end - 1] not in '}]"' and self._text[end : end + 1] not in _ENDS and self._grow():
                continue
            too_long = end - self._at > file.reading.max_row
            self._move(end)
            if too_long:
                raise self._pass(file.too_long(line))
            return found

    def _go_on(self, error: json.JSONDecodeError, line: int) -> None:
        """Read more of the file where a value only breaks off at the end of what was read; else it is broken."""
        file = self._file
        cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _CUT
        if cut and len(self._text) - self._at > file.reading.max_row:
            raise file.too_long(line) from None
        if not cut or not self._grow():
            raise self.broken(error.msg, error.pos) from None

    def numbered(self, on_bad: OnBad) -> Iterator[Numbered]:
        """The next value with its line; none where it goes to ``on_bad`` and reading can go on behind it."""
        self.peek()
        line = self.line
        try:
            found = self.value()
        except DataError as error:
            if error is not self._passed:
                raise
            on_bad(error)
        else:
            yield found, line

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; the caller takes each value before the next key."""
        self.expect("{", "at the start of an object")
        seen = set[str]()
        while not self.accept("}"):
            if seen:
                self.expect(",", "between the members of an object")
            if self.peek() != '"':
                raise self.broken("expected a key in double quotes")
            key = str(self.value())
            if key in seen:
                raise DataError(str(TwiceError(key)), file=self._file.path, line=self.line, field=key)
            seen.add(key)
            self.expect(":", f"after the key {key!r}")
            yield key

    def items(self) -> Iterator[int]:
        """Positions in the list that comes next; the caller takes each item before the next. A comma may end it."""
        self.expect("[", "at the start of a list")
        count = 0
        while not self.accept("]"):
            if not self.peek():
                raise DataError("invalid JSON (the list is not closed)", file=self._file.path, line=self.line)
            if count:
                self.expect(",", f"between the items of a list, before item {count + 1}")
                if self.accept("]"):
                    return
            yield count
            count += 1

    def broken(self, reason: str, at: int | None = None) -> DataError:
        line = self.line + (self._text.count("\n", self._at, at) if at is not None else 0)
        return DataError(f"broken JSON ({reason})", file=self._file.path, line=line)

    def _pass(self, error: DataError) -> DataError:
        self._passed = error
        return error

    def _move(self, to: int) -> None:
        self.line += self._text.count("\n", self._at, to)
        self._at = to

    def _more(self) -> bool:
        """One piece more behind what is not yet read; False at the end."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._text, self._at = self._text[self._at :] + piece, 0
        return True

    def _grow(self) -> bool:
        """Twice as much text as is held, so that a long value is not decoded once per piece."""
        wanted = 2 * (len(self._text) - self._at)
        grew = self._more()
        while grew and len(self._text) < wanted and self._more():
            pass
        return grew
