"""What the demo promises, on the embedded model and data: effects on unseen items, and nulls that show none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from rich.console import Console

import tillerman
from tillerman.cli.commands.demo import BEHAVIOURS, run_demo, write_demo
from tillerman.data.samples import SAMPLES
from tillerman.reports.overview import account

STORED = Path(__file__).resolve().parents[2] / "docs/logs/demo.json"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pas", "caa"])
def test_the_demo_finds_effects_where_the_nulls_find_none(method: str, tmp_path: Path) -> None:
    logs = run_demo(tmp_path, method, Console(quiet=True))
    write_demo(logs, tmp_path)
    if method == "pas":  # the log that README's excerpt is made of
        stored = [tillerman.EvaluationLog.from_json(values) for values in json.loads(STORED.read_text())]
        assert [table.rows for table in account(stored).tables] == [table.rows for table in account(logs).tables]
    found = [log.effect.interval.low > 0 for log in logs]
    silent = [
        all(null.effect is not None and null.effect.interval.low <= 0 for null in log.conditions if "null" in null.name)
        for log in logs
    ]
    assert sum(f and s for f, s in zip(found, silent, strict=True)) >= 3, (found, silent)
    unseen = [f for name, f in zip(BEHAVIOURS, found, strict=True) if not SAMPLES[name].trained]
    assert unseen == [True, True]
    assert len(json.loads((tmp_path / "log.json").read_text())) == len(BEHAVIOURS)
    assert "<svg" in (tmp_path / "report.html").read_text()
    for name in BEHAVIOURS:
        assert tillerman.load(tmp_path / f"{name}.safetensors").card is not None
