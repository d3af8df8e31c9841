"""What a GGUF file says of itself, read without its weights: keys with one value, and how many weights there are.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from tillerman.core.errors import ModelError

_PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_NO_MODEL = {  # values of general.architecture and general.type
    "controlvector": "a control vector; tillerman fits its own: give the GGUF of the model",
    "clip": "the part of a model that sees (mmproj); give the GGUF of its language model",
    "mmproj": "the part of a model that sees (mmproj); give the GGUF of its language model",
    "adapter": "an adapter; give the GGUF of the whole model, or the adapter's folder as peft writes it",
    "imatrix": "an importance matrix; give the GGUF of the model",
}


@dataclass(frozen=True)
class GgufHeader:
    """``values`` holds the keys that have one value."""

    values: dict[str, str | int | float | bool] = field(default_factory=dict)
    parameters: int = 0

    @property
    def architecture(self) -> str:
        return str(self.values.get("general.architecture", ""))


def read_header(path: Path) -> GgufHeader:
    """``ModelError`` for a file that is no GGUF, that is cut off, or that holds no model or a part of one."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            header = _Reader(content).header()
    except (ValueError, struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise ModelError(f"{path}: is no GGUF file, or only the beginning of one; download it again") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check path and permissions") from error
    for key in ("general.architecture", "general.type"):
        what = _NO_MODEL.get(str(header.values.get(key, "")))
        if what is not None:
            raise ModelError(f"{path}: is {what}")
    if int(header.values.get("split.count", 1)) > 1:
        raise ModelError(
            f"{path}: is one of {header.values['split.count']} parts of a model; join them first: "
            "llama-gguf-split --merge FIRST_PART WHOLE.gguf"
        )
    return header


class _Reader:
    def __init__(self, content: mmap.mmap) -> None:
        self.content, self.at = content, 0

    def header(self) -> GgufHeader:
        if self.content[:4] != b"GGUF":
            raise ValueError("magic")
        self.at = 4
        version, tensors, keys = self.number("I"), self.number("Q"), self.number("Q")
        if version not in (2, 3):
            raise ValueError("version")
        values = {}
        for _ in range(int(keys)):
            name, kind = self.text(), int(self.number("I"))
            if kind == _ARRAY:
                self.skip_array()
            else:
                values[name] = self.text() if kind == _STRING else self.number(_PLAIN.get(kind, ""))
        return GgufHeader(values, sum(self.tensor() for _ in range(int(tensors))))

    def tensor(self) -> int:
        """Its number of weights."""
        self.text()
        sizes = [int(self.number("Q")) for _ in range(int(self.number("I")))]
        self.at += 12  # type and place
        return prod(sizes)

    def number(self, code: str) -> int | float | bool:
        if not code:
            raise ValueError("type of value")
        (value,) = struct.unpack_from(f"<{code}", self.content, self.at)
        self.at += struct.calcsize(f"<{code}")
        return value  # type: ignore[no-any-return]

    def text(self) -> str:
        size = int(self.number("Q"))
        if self.at + size > len(self.content):
            raise ValueError("cut off")
        found = self.content[self.at : self.at + size].decode()
        self.at += size
        return found

    def skip_array(self) -> None:
        kind, count = int(self.number("I")), int(self.number("Q"))
        if kind == _ARRAY or count > len(self.content):
            raise ValueError("array")
        if kind == _STRING:
            for _ in range(count):
                self.at += 8 + struct.unpack_from("<Q", self.content, self.at)[0]
        elif kind in _PLAIN:
            self.at += count * struct.calcsize(f"<{_PLAIN[kind]}")
        else:
            raise ValueError("type of value")
