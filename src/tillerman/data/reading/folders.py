"""What of a folder is data: its files, the splits of a hub repository, a saved ``Dataset``, a pair of text files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tillerman.core.errors import DataError
from tillerman.data.reading.options import FileOptions, short, with_option
from tillerman.data.reading.text_pair import pair_in

JSON_KINDS = (".jsonl", ".json", ".ndjson")
SUFFIXES = (*JSON_KINDS, ".csv", ".tsv", ".parquet", ".arrow")
READABLE = "expected one of .jsonl, .ndjson, .json, .csv, .tsv (each also .gz), .parquet or .arrow"
# What libraries keep beside the rows.
_ABOUT = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json"})
_BESIDE = (".making.json", ".writer.jsonl", ".judge.jsonl")  # what our own commands keep beside a file
# train-00000-of-00003.parquet, test.jsonl, validation_1.csv: the split before the number.
_SPLIT = re.compile(r"([A-Za-z][\w.]*?)(?:[-_.]\d[\w-]*)?")

Place = tuple[Path, FileOptions]


def suffix_of(path: Path) -> str:
    """The suffix that says the format, without ``.gz``."""
    return Path(path.stem).suffix.lower() if path.suffix.lower() == ".gz" else path.suffix.lower()


def places_in(folder: Path, reading: FileOptions) -> list[Place]:
    """The files of a folder that are one data set, in order, each with how it is read.

    The folder itself stands for ``positive.txt`` with ``negative.txt``. ``DataError`` where there are none, or several
    sets of which ``rows=`` has to name one.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = _known(folder / "dataset_dict.json", "splits")
        chosen = _chosen({str(name): str(name) for name in splits}, folder, reading)
        return places_in(folder / chosen, replace(reading, rows=None))
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _saved(folder, reading)
    if pair_in(folder) is not None:
        return [(folder, reading)]
    if files := _data_files(folder):
        return [(file, reading) for file in files]
    return _below(folder, reading)


def _data_files(folder: Path) -> list[Path]:
    found = (p for p in folder.iterdir() if p.is_file() and suffix_of(p) in SUFFIXES and p.name not in _ABOUT)
    return sorted(p for p in found if not p.name.endswith(_BESIDE))


def _saved(folder: Path, reading: FileOptions) -> list[Place]:
    """The Arrow files of ``Dataset.save_to_disk``, in their order."""
    if _known(folder / "state.json", "_indices_data_files"):
        message = "a saved dataset with indices beside it; save it again with a datasets library of today"
        raise DataError(message, file=folder)
    names = [str(one.get("filename")) for one in _known(folder / "state.json", "_data_files")]
    missing = [name for name in names if not (folder / name).is_file()]
    if missing or not names:
        raise DataError(f"a saved dataset without its {missing[0] if missing else 'files'}", file=folder)
    return [(folder / name, reading) for name in names]


def _known(path: Path, key: str) -> list[Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", file=path) from None
    values = found.get(key) if isinstance(found, dict) else None
    return values if isinstance(values, list) else []


def _below(folder: Path, reading: FileOptions) -> list[Place]:
    """The files one folder down, where a hub repository keeps them: data/train-00000-of-00002.parquet."""
    inner = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    holding = {p.name: files for p in inner if (files := _data_files(p))}
    if not holding:
        raise DataError(f"no data file in this folder; {READABLE}{_texts_hint(folder)}", file=folder)
    if len(holding) > 1:
        shown = ", ".join(f"{name} ({len(files)} files)" for name, files in list(holding.items())[:6])
        first, files = next(iter(holding.items()))
        raise DataError(
            f"the data files lie one folder down, in {shown}: give one of these folders, or a pattern, e.g. "
            f"{short(folder)}/{first}/*{''.join(files[0].suffixes[-1:])}",
            file=folder,
        )
    [(name, files)] = holding.items()
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_split_of(file), []).append(file)
    patterns = {split: f"{name}/{split}*{found[0].suffix}" for split, found in splits.items()}
    chosen = _chosen(patterns, folder, reading)
    split = next(split for split, pattern in patterns.items() if pattern == chosen)
    return [(file, replace(reading, rows=None)) for file in splits[split]]


def _split_of(file: Path) -> str:
    stem = file.name
    while Path(stem).suffix.lower() in (*SUFFIXES, ".gz"):
        stem = Path(stem).stem
    found = _SPLIT.fullmatch(stem)
    return found[1] if found else stem


def _chosen(splits: dict[str, str], folder: Path, reading: FileOptions) -> str:
    """The place of the split that is wanted: the only one, or the one that ``rows=`` names."""
    if reading.rows is not None and reading.rows not in splits:
        raise DataError(f"rows={reading.rows}: no such split; found {', '.join(splits)}", file=folder)
    if reading.rows is not None:
        return splits[reading.rows]
    if len(splits) == 1:
        return next(iter(splits.values()))
    first = next(iter(splits))
    raise DataError(
        f"several splits: {', '.join(list(splits)[:8])}; choose, e.g. {with_option(folder, rows=first)} "
        f"or {short(folder)}/{splits[first]}",
        file=folder,
    )


def _texts_hint(folder: Path) -> str:
    texts = sorted(p.name for p in folder.iterdir() if p.is_file() and suffix_of(p) == ".txt")
    return f"; of the texts in {_listed(texts)} make positive.txt and negative.txt, a text per line" if texts else ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(list(names)[:4])
