"""What a file is that is no artefact: named by its first bytes, and never unpickled."""

from __future__ import annotations

import json
import shlex
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEAD = 4096  # bytes that are looked at
_LONGEST_HEADER = 1 << 32  # bytes; a safetensors file of 100 MB of header is refused by its library
_LONGEST_JSON = 1 << 26  # bytes; a file of vectors is smaller
_PAGE = "docs/exchange.md has every format"


@dataclass(frozen=True)
class Foreign:
    """What a file is, and by which reader of ``tillerman import`` its directions come in; empty where it holds none."""

    what: str
    reader: str = ""
    remedy: str = ""  # where it is no vector at all

    def words(self, path: Path) -> str:
        """One sentence of what it is, and how it comes in."""
        said = f"{_short(path)}: {self.what}, not an artefact of Tillerman's"
        if not self.reader:
            return f"{said}; {self.remedy or 'tillerman fit writes artefacts'}"
        name = shlex.quote(_short(path))
        return f"{said}. To bring it in: tillerman import {name} --model MODEL --out mine.safetensors; {_PAGE}"


_TORCH = Foreign("a PyTorch file (torch.save)", "torch")
_PICKLE = Foreign("a Python pickle", remedy="it may run code when opened; take its numbers out where you trust it")
_NUMPY = Foreign("a NumPy array", "numpy")
_NPZ = Foreign("a NumPy archive (.npz)", "numpy")
_GGUF = Foreign("a GGUF file (repeng, llama.cpp)", "gguf")
_SVEC = Foreign("a vector in JSON (.svec)", "json")
_LENS = Foreign("a steering vector of vllm-lens", "json")
_JSON_LIST = Foreign("a JSON list of numbers", "json")

# First bytes -> what begins so. The longest match is meant.
_MAGIC: Mapping[bytes, Foreign] = {
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19": _TORCH,  # before PyTorch 1.6
    **{b"\x80" + bytes([protocol]): _PICKLE for protocol in range(2, 6)},
    b"\x93NUMPY": _NUMPY,
    b"GGUF": _GGUF,
    b"\x89HDF\r\n\x1a\n": Foreign("an HDF5 file", remedy="read its arrays with h5py and give them to model.vector"),
    b"PAR1": Foreign("a parquet file", remedy="as labelled data it is what 'tillerman fit' reads"),
    b"\x1f\x8b": Foreign("a gzip file", remedy="unpack it first"),
    b"7z\xbc\xaf'\x1c": Foreign("a 7z archive", remedy="unpack it first"),
    b"\x28\xb5\x2f\xfd": Foreign("a zstd file", remedy="unpack it first"),
    b"BZh": Foreign("a bzip2 file", remedy="unpack it first"),
    b"\xfd7zXZ\x00": Foreign("an xz file", remedy="unpack it first"),
    b"version https://git-lfs": Foreign("a Git LFS pointer, not the file", remedy="fetch the file with 'git lfs pull'"),
    b"%PDF": Foreign("a PDF"),
}


def foreign_file(path: Path) -> Foreign | None:
    """What a file is that the safetensors library cannot open; None for what may be a damaged safetensors file.

    ``OSError`` where it cannot be read."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        return Foreign("an empty file", remedy="copy or fit it again")
    if len(head) < 9 or (head[8:9] == b"{" and int.from_bytes(head[:8], "little") < _LONGEST_HEADER):
        return None  # too short, or safetensors: the length of a JSON header, whose bytes may look like those of gzip
    if head.startswith(b"PK\x03\x04"):
        return _archive(path)
    known = [magic for magic in _MAGIC if head.startswith(magic)]
    if known:
        return _MAGIC[max(known, key=len)]
    if head[257:262] == b"ustar":
        return Foreign("a tar archive", remedy="unpack it first")
    return _text(path, head)


def foreign_tensors(shapes: Mapping[str, tuple[int, ...]]) -> Foreign:
    """What a safetensors file without our head is, by its tensors' names and shapes."""
    what = "a plain safetensors file"
    if any("lora_" in name for name in shapes):
        return Foreign("a LoRA adapter", remedy="a PEFT folder is opened as a model: --model FOLDER")
    if any(name.endswith(("W_enc", "w_enc", "W_dec", "w_dec", "encoder.weight")) for name in shapes):
        return Foreign("a sparse autoencoder", remedy="methods read one: --method sta:sae=PATH")
    if any("embed" in name or "lm_head" in name for name in shapes):
        return Foreign("the weights of a model", remedy="its folder is opened as a model: --model FOLDER")
    return Foreign(what, "safetensors") if shapes else Foreign(f"{what} without tensors")


def _archive(path: Path) -> Foreign:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return Foreign("a damaged zip archive", remedy="copy it again")
    if any(name.endswith("data.pkl") for name in names):
        return _TORCH
    if names and all(name.endswith(".npy") for name in names):
        return _NPZ
    return Foreign("a zip archive", remedy="unpack it first")


def _text(path: Path, head: bytes) -> Foreign | None:
    """JSON by its keys, other text by its beginning; None for bytes that are no text."""
    try:
        start = head[:-4].decode("utf-8-sig", "strict") if len(head) == _HEAD else head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if len(head) < _HEAD or error.start < len(head) - 8:
            return None
        start = head.decode("utf-8-sig", "ignore")
    if any(ord(sign) < 32 and sign not in "\t\r\n\f" for sign in start):
        return None  # a safetensors file begins with a length in binary
    start = start.lstrip()
    if start[:1] in ("{", "["):
        return _json(path)
    if start[:9].lower() in ("<!doctype", "<html") or start[:5].lower() == "<html":
        return Foreign(
            "a web page, not the file", remedy="download the file itself (on the hub: 'resolve', not 'blob')"
        )
    return Foreign("a text file")


def _json(path: Path) -> Foreign:
    try:
        found: Any = json.loads(path.read_bytes()) if path.stat().st_size < _LONGEST_JSON else None
    except (ValueError, RecursionError):
        return Foreign("a file of JSON lines, or damaged JSON", remedy="as labelled data it is for 'tillerman fit'")
    if isinstance(found, dict) and isinstance(found.get("directions"), dict):
        return _SVEC
    if isinstance(found, dict) and "activations" in found and "layer_indices" in found:
        return _LENS
    if isinstance(found, dict) and isinstance(found.get("kind"), str) and "version" in found:
        return Foreign(f"a log of kind {found['kind'][:20]}", remedy="the artefact is the safetensors file beside it")
    if isinstance(found, list) and found and _numbers(found[0]):
        return _JSON_LIST
    return Foreign("a JSON file")


def _numbers(value: Any) -> bool:
    """A number, or a list of them."""
    return all(type(one) in (int, float) for one in (value if isinstance(value, list) else [value]))


def _short(path: Path) -> str:
    """As given, where a message has room for it twice."""
    return str(path) if len(str(path)) <= 60 else path.name[-60:]
