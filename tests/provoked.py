"""Errors as users meet them, each provoked in a folder of its own: what ``docs/errors.md`` is held against."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

import tillerman
from tillerman.core.provenance import Provenance

from . import tiny

Provoke = Callable[[Path], object]


def _rows(count: int, **fields: object) -> list[dict[str, object]]:
    return [{"question": f"Is {k} even?", "answer": "yes" if k % 2 else "no", **fields} for k in range(count)]


def _vector(model: tillerman.OpenModel, width: int | None = None) -> tillerman.Artefact:
    point = tillerman.HookPoint(1)
    wide = width or model.parts.width
    made = Provenance(model.id, "another", wide, len(model.parts.blocks), "t", "c", "none", "caa")
    vector = tillerman.SteeringVector({point: torch.ones(wide)}, {point: 1.0}, made)
    return tillerman.Artefact(vector, tillerman.Cell.of(vector))


def _model() -> tillerman.OpenModel:
    return tillerman.open_model(tiny.new_model("llama"), tiny.new_tokenizer(tiny.CHAT))


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def _never_called(folder: Path) -> None:
    model = _model()
    with tillerman.steer(model, _vector(model), allow_mismatch=True):
        pass


PROVOKED: dict[str, Provoke] = {
    "missing-file": lambda folder: tillerman.load_examples(folder / "nothing.jsonl"),
    "layout": lambda folder: tillerman.load_examples([{"a": 1, "b": 2}] * 8),
    "label": lambda folder: tillerman.load_examples([*_rows(8), {"question": "Is 8 even?", "answer": None}]),
    "one-class": lambda folder: tillerman.load_examples([{**row, "answer": "yes"} for row in _rows(8)]),
    "which-label": lambda folder: tillerman.load_examples(
        [{"text": f"text {k}", "label": "ab"[k % 2]} for k in range(8)]
    ),
    "encoding": lambda folder: tillerman.load_examples(_latin(folder / "export.csv")),
    "few": lambda folder: tillerman.fit(tillerman.Experiment(method="caa"), _model(), _rows(3)),
    "method": lambda folder: tillerman.fit(tillerman.Experiment(method="caa+pac"), _model(), _rows(40)),
    "site": lambda folder: tillerman.HookPoint(3, "resid_end"),
    "layer": lambda folder: tillerman.fit(tillerman.Experiment(method="caa", layers=(99,)), _model(), _rows(40)),
    "model": lambda folder: tillerman.open_model(str(folder / "no-such-model")),
    "artefact": lambda folder: tillerman.load(_write(folder / "cut.safetensors", "no tensors")),
    "mismatch": lambda folder: _of_another_model(folder / "theirs.safetensors"),
    "not-applied": _never_called,
    "log": lambda folder: tillerman.EvaluationLog.read(_write(folder / "log.json", json.dumps({"a": 1}))),
    "tracker": lambda folder: tillerman.track(None, "mlfow"),  # type: ignore[arg-type]  # the name is looked at first
}


def _latin(path: Path) -> Path:
    path.write_bytes("question,answer\nIst das schön?,yes\n".encode("cp1252") * 4)
    return path


def _of_another_model(path: Path) -> None:
    model = _model()
    tillerman.save(path, _vector(model))
    model.load_artefact(path)
