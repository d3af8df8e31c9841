"""``tillerman compare``: files, tables, exit codes, and going on after an interruption."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest
from typer.testing import CliRunner

import tillerman
from tillerman.cli.app import app
from tillerman.pipeline import compare

SMALL = ["--limit", "120", "--layers", "2,3", "--doses", "0.2,0.4", "--neutral", "sample:tinystories"]
DATA = ["sample:interest-in-science", "sample:agreeableness"]


@pytest.mark.slow
def test_a_comparison_of_two_data_sets_is_written_and_read_back(tmp_path):
    out = tmp_path / "new" / "out"
    command = ["compare", *DATA, "--methods", "caa,ipas-wrong", "--equal-kl", "0.05", "-o", str(out), *SMALL]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "120"})
    assert result.exit_code in (0, 3), result.output
    log = tillerman.ComparisonLog.from_json(json.loads((out / "compare.json").read_text()))
    assert [c.data_name for c in log.comparisons] == ["interest-in-science", "agreeableness"]
    assert [m.method for m in log.comparisons[0].methods] == ["caa", "ipas-wrong"]
    assert (result.exit_code == 0) == any(c.standing for c in log.comparisons)
    for name in ("1-interest-in-science.svg", "2-agreeableness.svg"):
        assert "prefers-color-scheme" in ET.parse(out / name).getroot()[0].text
    assert "## agreeableness" in (out / "compare.md").read_text()
    assert (out / "compare.html").read_text().startswith("<!doctype html>")
    assert sorted(p.suffix for p in out.iterdir()) == [".html", ".json", ".md", ".svg", ".svg"]
    for words in ("interest-in-science on pilot", "At equal cost: KL 0.05", "Few-shot baseline", "compare.html"):
        assert words in result.output


@pytest.mark.slow
def test_the_json_is_the_log_and_no_effect_ends_with_exit_code_three():
    command = ["compare", DATA[0], "--methods", "caa", "--max-kl", "0", "--json", *SMALL]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 3
    (comparison,) = tillerman.ComparisonLog.from_json(json.loads(result.stdout)).comparisons
    assert comparison.method("caa").strength == 0


@pytest.mark.slow
def test_an_interrupted_comparison_keeps_what_is_finished_and_goes_on(tmp_path, monkeypatch):
    out = tmp_path / "out"
    command = ["compare", *DATA, "--methods", "caa,ipas-wrong", "-o", str(out), *SMALL]

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        fitted = []

        def fit(experiment, opened, data, **rest):
            fitted.append((data.name, experiment.method))
            return stop() if len(fitted) == 4 else tillerman.fit(experiment, opened, data, **rest)

        during.setattr(compare, "fit", fit)
        assert CliRunner().invoke(app, command).exit_code == 130
    assert [p.suffix for p in out.iterdir()] == [".partial", ".partial"]
    with monkeypatch.context() as during:
        again = []

        def fit_again(experiment, opened, data, **rest):
            again.append((data.name, experiment.method))
            return tillerman.fit(experiment, opened, data, **rest)

        during.setattr(compare, "fit", fit_again)
        result = CliRunner().invoke(app, command)
    assert result.exit_code in (0, 3), result.output
    assert "resuming from" in result.stderr
    assert again == [("agreeableness", "ipas-wrong")] == fitted[-1:]
    assert not [p for p in out.iterdir() if p.suffix == ".partial"]
