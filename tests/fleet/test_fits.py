"""Plans of fits: which jobs they make, and that each is run until it has ended by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tillerman.cli.commands.fleet import FleetAction, fleet
from tillerman.core.errors import DataError, UsageError
from tillerman.fleet.fits import FitJob, FitOutcome, Processes, read_plan, run_fits
from tillerman.reports.fleet import fits_table

PLAN = """
[each]
model = ["pilot", "large/model"]
data = ["sample:interest-in-science"]
method = ["caa", "pas"]
[fit]
limit = 40
layers = [2, 3]
fast = true
[[job]]
name = "mine"
data = "my.jsonl"
max_kl = 0.2
"""
CARD = {"effect": 0.2, "interval": [0.1, 0.3], "method": "caa", "hook_point": "layers.3.resid_post", "dose": 0.2}


@dataclass
class Pretended:
    """Ends each command as it is told to: by exit codes in turn, 0 after the last."""

    codes: dict[str, list[int]] = field(default_factory=dict)
    run_: list[str] = field(default_factory=list)

    async def run(self, command: Sequence[str], out: Path, err: Path) -> int:
        name = out.stem
        self.run_.append(name)
        code = self.codes.get(name, [0]).pop(0) if self.codes.get(name) else 0
        out.write_text(json.dumps({**CARD, "verdict": "good"}) if code in (0, 3) else "")
        err.write_text("error: it is broken\n")
        Path(command[command.index("--out") + 1]).write_text("vector")
        return code


def plan(path: Path, text: str) -> tuple[FitJob, ...]:
    (path / "plan.toml").write_text(text)
    return read_plan(path / "plan.toml")


def run(jobs: Sequence[FitJob], folder: Path, runner: Pretended) -> list[FitOutcome]:
    return list(asyncio.run(run_fits(jobs, folder, runner, lambda outcome: None)))


def test_every_combination_is_a_job_and_single_ones_are_added(tmp_path: Path) -> None:
    jobs = plan(tmp_path, PLAN)
    assert [job.name for job in jobs] == [
        "pilot.interest-in-science.caa",
        "pilot.interest-in-science.pas",
        "model.interest-in-science.caa",
        "model.interest-in-science.pas",
        "mine",
    ]
    assert jobs[2].arguments() == [
        "sample:interest-in-science",
        *("--limit", "40", "--layers", "2,3", "--fast", "--model", "large/model", "--method", "caa"),
    ]
    assert jobs[4].options["max-kl"] == 0.2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[fit]\nlimit = 3", "no job; write"),
        ("[fits]\n", "no table 'fits'"),
        ('[each]\nlayers = ["2"]', r"each.layers: .*put it into \[fit\]"),
        ("[[job]]\nlimit = 3", "a job needs data"),
        ('[[job]]\ndata = "a"\nout = "b"', "--out is the fleet's own"),
        ('[[job]]\ndata = "a"\nname = "../b"', "a name has letters"),
        ('[[job]]\ndata = "a"\n[[job]]\ndata = "a"', "two jobs are named 'pilot.a.auto'"),
        ("[each", "cannot read the plan"),
    ],
)
def test_what_is_no_plan_is_told(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        plan(tmp_path, text)


def test_a_fit_that_is_killed_is_run_again_and_one_that_fails_takes_none_with_it(tmp_path: Path) -> None:
    jobs = plan(tmp_path, '[each]\ndata = ["a", "b", "c", "d"]')
    runner = Pretended({"pilot.a.auto": [-9, 3], "pilot.b.auto": [1], "pilot.c.auto": [-9, -9, -9]})
    made = run(jobs, tmp_path, runner)
    assert [one.card is None for one in made] == [False, True, True, False]
    assert made[1].why == "error: it is broken" and made[2].why == "killed by signal 9 each time"
    assert [runner.run_.count(job.name) for job in jobs] == [2, 1, 3, 1]
    again = Pretended()
    assert all(one.card is not None for one in run(jobs, tmp_path, again))
    assert sorted(again.run_) == ["pilot.b.auto", "pilot.c.auto"]  # what was finished is not done twice
    changed = plan(tmp_path, '[each]\ndata = ["a", "b", "c", "d"]\n[fit]\nlimit = 3')
    run(changed, tmp_path, again)
    assert len(again.run_) == 6


def test_processes_are_so_many_at_a_time(tmp_path: Path) -> None:
    async def both() -> list[int]:
        runner = Processes(1)
        script = "test ! -e busy && touch busy && sleep 0.2 && rm busy && exit 3"
        command = ["sh", "-c", f"cd {tmp_path}; {script}"]
        return list(await asyncio.gather(*(runner.run(command, tmp_path / f"{i}", tmp_path / f"{i}e") for i in "ab")))

    assert asyncio.run(both()) == [3, 3]


def test_a_plan_is_checked_before_the_first_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "plan.toml"
    for text, words in (
        ('[each]\ndata = ["sample:nothing"]', "job pilot.nothing.auto: .*nothing"),
        ('[each]\ndata = ["sample:interest-in-science"]\nmethod = ["caaa"]', "no method named 'caaa'"),
        ('[each]\ndata = ["sample:interest-in-science"]\n[fit]\nlimmit = 3', "[Nn]o such option: --limmit"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            fleet(FleetAction.RUN, path, tmp_path / "out")
    path.write_text('[each]\ndata = ["sample:interest-in-science"]\nmethod = ["caa"]')
    fleet(FleetAction.CHECK, path)
    assert "1 fits can be begun" in capsys.readouterr().out
    with pytest.raises(UsageError, match="options of fits stand in the plan"):
        fleet(FleetAction.RUN, path, tmp_path / "out", model="pilot")


def test_a_table_says_what_came_of_each() -> None:
    table = fits_table([("a", {**CARD, "verdict": "good"}, ""), ("b", None, "it broke")])
    assert table.rows == (
        ("a", "+20 (+10 to +30)", "caa, layers.3.resid_post, dose 0.2", "good"),
        ("b", "failed", "it broke", ""),
    )
