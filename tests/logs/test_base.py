"""Every kind of log: written, read back, and refused with one error where it is another's, damaged or too new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tillerman.core.errors import LogError
from tillerman.logs.base import Log
from tillerman.logs.evaluation import EvaluationLog

from ..reports.examples import LOGS

ROOT = Path(__file__).resolve().parents[2]
each = pytest.mark.parametrize("log", LOGS, ids=lambda log: log.kind)


def test_there_is_an_example_of_every_kind_and_no_kind_has_two_classes() -> None:
    assert {type(log) for log in LOGS} == set(Log.__subclasses__())
    assert len({log.kind for log in LOGS}) == len(LOGS)


@each
def test_a_log_is_written_with_its_kind_and_version_and_read_back(log: Log, tmp_path: Path) -> None:
    log.write(tmp_path / "log.json")
    assert type(log).read(tmp_path / "log.json") == log
    values = json.loads((tmp_path / "log.json").read_text())
    assert (values["kind"], values["version"]) == (log.kind, 1)


@each
def test_a_log_from_before_kinds_were_written_is_read(log: Log) -> None:
    values = {name: value for name, value in log.to_json().items() if name != "kind"}
    assert type(log).from_json(json.loads(json.dumps(values))) == log


@each
def test_a_log_of_an_unknown_version_is_refused_by_file_version_and_remedy(log: Log, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps({**log.to_json(), "version": 99}))
    with pytest.raises(LogError) as refused:
        type(log).read(path)
    for part in (str(path), "version 99", "reads version 1", log.maker):
        assert part in str(refused.value)


@each
def test_a_log_that_is_cut_off_is_refused(log: Log, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    log.write(path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(LogError, match=f"{path}: no log of kind {log.kind}") as refused:
        type(log).read(path)
    assert log.maker in str(refused.value)


@each
def test_a_damaged_log_is_refused(log: Log) -> None:
    broken = {name: 7 if isinstance(value, tuple | list) else value for name, value in log.to_json().items()}
    with pytest.raises(LogError, match=f"log.json: a damaged log of kind {log.kind}"):
        type(log).from_json(broken, "log.json")


@each
def test_a_log_of_another_kind_is_refused_with_or_without_its_kind(log: Log) -> None:
    for other in LOGS:
        if other is not log:
            values = json.loads(json.dumps(other.to_json()))
            with pytest.raises(LogError, match=f"no log of kind {log.kind} but of kind {other.kind}"):
                type(log).from_json(values)
            del values["kind"]
            with pytest.raises(LogError, match=f"no log of kind {log.kind}: without"):
                type(log).from_json(values)


@pytest.mark.parametrize("text", ["[]", "7", "null", "{}", '{"version": "one"}', "", "\udcff"])
def test_what_is_no_log_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LogError, match="no log of kind evaluation"):
        EvaluationLog.read(tmp_path / "log.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"none\.json: no log of kind evaluation .*'tillerman fit' writes one"):
        EvaluationLog.read(tmp_path / "none.json")


def test_logs_of_before_logs_had_kinds_are_read() -> None:
    stored = json.loads((Path(__file__).parent / "files/before_kinds.json").read_text())
    assert "kind" not in stored
    assert EvaluationLog.from_json(stored).n_test == 191


def test_the_stored_logs_of_the_demo_are_read() -> None:
    stored = json.loads((ROOT / "docs/logs/demo.json").read_text())
    assert [EvaluationLog.from_json(values).n_test for values in stored] == [191, 172, 203, 209, 212]
