"""The measured part of ``docs/make.md``: what came of each description. What was not run says so."""

from __future__ import annotations

from collections.abc import Sequence

from cases import CASES, Case
from tried import Tried

from tillerman.logs.evidence import WrittenReplies
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal, shown_number
from tillerman.reports.tables import markdown_table

NOT_RUN, NOT_FITTED = "not run", "not fitted"


def chapter(many: Sequence[Tried]) -> str:
    """Three tables: the data, what was fitted on them, texts."""
    found = {one.case: one for one in many}
    tables = (_data(found), _fits(found), _texts(found))
    return "\n".join(f"{table.title}\n\n{markdown_table(table)}\n" for table in tables)


def _data(found: dict[str, Tried]) -> Table:
    head = ("description", "made of", "written", "kept", "AUC of the sides", "dropped most for", "CPU s")
    return Table("The data:", head, tuple(_data_row(case, found.get(name)) for name, case in CASES.items()))


def _data_row(case: Case, one: Tried | None) -> tuple[str, ...]:
    made_of = "two prompts" if case.words else "the description"
    if one is None:
        return case.description, made_of, NOT_RUN, "", "", "", ""
    log = one.log
    told = log.separation
    area = shown_number(told.area, told.interval) if told and told.area is not None and told.interval else ""
    worst = sorted(log.dropped, key=lambda dropped: -dropped.count)[:2]
    reasons = ", ".join(f"{dropped.fault} ({dropped.count})" for dropped in worst)
    kept = "refused" if log.refused else str(log.kept)
    return case.description, made_of, str(log.written), kept, area, reasons, f"{one.cpu_seconds:.0f}"


def _fits(found: dict[str, Tried]) -> Table:
    title = "What a vector fitted on them makes the model write to held-out questions (mean score, 95 % interval):"
    head = (
        "description",
        "made of",
        "n",
        "unsteered",
        "steered",
        "change",
        "prompt",
        "random, change",
        "perplexity of replies",
        "KL, nats",
        "show it, %: unsteered, steered, prompt",
        "CPU s",
    )
    rows = tuple(_fit_row(case, found.get(name), len(head)) for name, case in CASES.items())
    return Table(title, head, rows)


def _fit_row(case: Case, one: Tried | None, cells: int) -> tuple[str, ...]:
    start = (case.description, "two prompts" if case.words else "the description")
    if one is None or one.fit is None:
        return (*start, NOT_FITTED if one else NOT_RUN, *[""] * (cells - 3))
    fit, log = one.fit, one.fit.log
    if log is None or log.written is None or not log.written.conditions:
        why = fit.refused or (log.written.scorer.refused if log and log.written else "") or "nothing was written"
        return (*start, f"refused: {_reason(why)}", *[""] * (cells - 4), f"{fit.cpu_seconds:.0f}")
    told = log.written
    steered = told.condition("steered")
    if steered is None:
        plain = told.condition("unsteered")
        score = _score(told, "unsteered")
        n = str(plain.score.n) if plain and plain.score else ""
        return (*start, n, score, "abstains: no dose helps", *[""] * (cells - 6), f"{fit.cpu_seconds:.0f}")
    n = str(steered.score.n) if steered.score else ""
    shares = ", ".join(_share(told, name) for name in ("unsteered", "steered", "prompt"))
    plain = told.condition("unsteered")
    perplexity = f"{decimal(plain.perplexity if plain else None, 1)} to {decimal(steered.perplexity, 1)}"
    return (
        *start,
        n,
        _score(told, "unsteered"),
        _score(told, "steered"),
        _change(told, "steered"),
        _score(told, "prompt"),
        _change(told, "null:random"),
        perplexity,
        decimal(log.side_effects.kl if log.side_effects else None, 2),
        shares,
        f"{fit.cpu_seconds:.0f}",
    )


def _reason(why: str) -> str:
    """The reason itself, without the options and remedies around it."""
    return why.rpartition("of replies: ")[2].partition(";")[0][:120]


def _score(told: WrittenReplies, name: str) -> str:
    one = told.condition(name)
    return "" if one is None or one.score is None else shown_number(one.score.value, one.score.interval)


def _change(told: WrittenReplies, name: str) -> str:
    one = told.condition(name)
    return "" if one is None or one.change is None else shown_number(one.change.value, one.change.interval, signed=True)


def _share(told: WrittenReplies, name: str) -> str:
    one = told.condition(name)
    return "none" if one is None or one.shown is None else f"{100 * one.shown.value:.0f}"


def _texts(found: dict[str, Tried]) -> Table:
    """The first pairs of each data file, and a held-out reply of the fit."""
    rows = []
    for name, case in CASES.items():
        one = found.get(name)
        if one is None:
            continue
        about = f"{case.description} ({'two prompts' if case.words else 'the description'})"
        rows += [(about, row["prompt"], "wanted", _cell(row["chosen"])) for row in one.rows[:1]]
        rows += [(about, row["prompt"], "other", _cell(row["rejected"])) for row in one.rows[:1]]
        log = one.fit.log if one.fit else None
        if log is not None and log.written is not None and log.written.prompts:
            for condition in ("unsteered", "steered"):
                said = log.written.condition(condition)
                rows += [(about, log.written.prompts[0], condition, _cell(said.replies[0]))] if said else []
    return Table(
        "A pair of each data file, and the first held-out reply:", ("about", "question", "what", "text"), tuple(rows)
    )


def _cell(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else line[:160].rpartition(" ")[0] + " …"
