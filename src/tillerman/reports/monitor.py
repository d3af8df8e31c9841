"""What a monitor's calibration found: its tables and sentences. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tillerman.logs.conditions import condition_label
from tillerman.logs.monitor import MonitorLog, ReadingTest
from tillerman.logs.table import Table
from tillerman.reports.account import Account
from tillerman.reports.numbers import compact, decimal, interval_words, percent, said_rate, shown_number, shown_rate

READS = {
    "prompt": "the prompt's last token",
    "mean": "mean over the answer so far",
    "token": "each token of the answer",
}


def account(log: MonitorLog) -> Account:
    heading = f"{log.data_name}, {log.chosen.area.n} test items, model {log.model_id}; {log.method}"
    tables = (_readings(log), *((_live(log),) if log.live else ()))
    return Account(heading, tables, _sentences(log), verdict(log), title="monitor")


def _readings(log: MonitorLog) -> Table:
    head = (
        "reading",
        "hook point",
        "threshold",
        "AUC (95 %)",
        "detected, % (95 %)",
        "false alarms, % (95 %)",
        "random directions: AUC",
        "detected, %",
        "false alarms, %",
    )
    rows = tuple(_row(one) for one in log.readings)
    strong = tuple(k for k, one in enumerate(log.readings) if one.name == log.reading)
    return Table("On test items", head, rows, strong)


def _row(one: ReadingTest) -> tuple[str, ...]:
    areas = [draw.area for draw in one.random]
    mean, most = decimal(sum(areas) / len(areas)), decimal(max(areas))
    rates = (sum(draw.detected for draw in one.random), sum(draw.false_alarms for draw in one.random))
    return (
        one.name,
        one.hook_point,
        compact(one.threshold),
        shown_number(one.area.value, one.area.interval),
        shown_rate(one.detected, 0),
        shown_rate(one.false_alarms, 0),
        f"{mean}, best {most}",
        *(decimal(100 * rate / len(areas), 0) for rate in rates),
    )


def _live(log: MonitorLog) -> Table:
    rows = tuple(
        (
            condition_label(one.name),
            str(one.crossed.n),
            shown_rate(one.crossed, 0),
            "" if one.median_token is None else f"token {compact(one.median_token)}",
        )
        for one in log.live
    )
    head = ("the model's own replies", "n", "crossed, % (95 %)", "where (median)")
    return Table("Live, on replies to the test prompts", head, rows)


def _sentences(log: MonitorLog) -> tuple[str, ...]:
    one = log.chosen
    side = "above" if log.above else "below"
    least = f", from token {log.least} on" if log.least > 1 else ""
    own = f", {log.own} of the model's own replies among the unwanted ones" if log.own else ""
    asked = f"asked for {percent(log.false_alarms, 0)} of false alarms"
    if log.vouched > log.false_alarms:
        asked += f", and so few validation items vouch for {percent(log.vouched)} only"
    told = (
        f"Wanted and unwanted prompts: with and without {log.prompt!r}; one prompt against none, which much else than "
        "the behaviour tells apart"
    )
    return (
        f"Monitor: {log.reading} ({READS.get(log.reading, log.reading)}{least}), {side} {compact(one.threshold)} at "
        f"{one.hook_point}; hook point and threshold from {log.validation} validation items{own}; {asked}",
        "Wanted and unwanted answers: the labels'. An answer is detected where the monitor would have crossed at any "
        "of its tokens. Random directions had hook point, side and threshold chosen as the vector had",
        *((told,) if log.prompt else ()),
        *(f"Note: {note}" for note in log.notes),
    )


def crossing_words(name: str, crossings: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """A line per crossing of an answer, or that there was none."""
    if not crossings:
        return (f"{name}: no monitor was crossed",)
    return tuple(f"{name}: monitor {one['monitor']} crossed {_where(one)}" for one in crossings)


def _where(one: Mapping[str, Any]) -> str:
    at = "by the prompt" if one["token"] == 0 else f"at token {one['token']} of the answer"
    done = {"abort": "; the answer ends there", "steer": f"; steered from token {one['token'] + 1} on"}
    return f"{at} ({compact(one['value'])}, threshold {compact(one['threshold'])}){done.get(one['action'], '')}"


def verdict(log: MonitorLog) -> str:
    """Whether the monitor tells wanted from unwanted, better than random directions do."""
    one = log.chosen
    area = f"AUC {decimal(one.area.value)} ({interval_words(one.area.interval, 1.0, 2)}, n = {one.area.n} a side)"
    best = decimal(one.best_random)
    if one.tells:
        return (
            f"It tells wanted from unwanted: {area}, random directions at most {best}; detected "
            f"{said_rate(one.detected)}, false alarms {said_rate(one.false_alarms)}."
        )
    if one.area.interval.low > 0.5:
        return f"No sign that the vector's own direction is what tells: {area}, and a random direction {best}."
    return f"It does not tell wanted from unwanted: {area}."
