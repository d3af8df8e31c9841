"""What became of a made data file, in words and tables. Pure."""

from __future__ import annotations

from tillerman.logs.making import MakingLog, Separation
from tillerman.logs.table import Table
from tillerman.reports.account import Account
from tillerman.reports.numbers import decimal, percent

_SHOWN = 60  # characters of a text in a table
_WHAT = {"texts": "texts"}


def account(log: MakingLog) -> Account:
    """Heading, what was written and dropped, the prompts, and what separates the sides."""
    tables = (_sifted(log), *((_prompts(log),) if log.prompts else ()))
    sentences = tuple(filter(None, (separation_words(log.separation), *log.notes)))
    return Account(_heading(log), tables, sentences, log.refused, title="made data")


def separation_words(found: Separation | None) -> str:
    """How well the sides were told apart before a pair was dropped for it."""
    if found is None:
        return ""
    if found.area is None or found.interval is None:
        return f"{found.scorer}: too few pairs to tell the sides apart by; none was dropped for it"
    low, high = decimal(found.interval.low), decimal(found.interval.high)
    return (
        f"before pairs were dropped for it, {found.scorer} told the two sides apart with AUC {decimal(found.area)} "
        f"({low} to {high}, n = {found.n}); what is fitted on the pairs that are left reads clearer than that"
    )


def _heading(log: MakingLog) -> str:
    what = _WHAT.get(log.source, "pairs of answers")
    about = f'"{log.description}": ' if log.description else ""
    written = f", answers by {log.answered_by}" if log.answered_by else ""
    asked = f", prompts and questions by {log.writer}" if log.writer and log.writer != log.answered_by else ""
    counted = ", ".join(f"{count} {kind}" for kind, count in log.questions.items() if count)
    questions = f"; questions: {counted}" if counted else ""
    return f"{about}{log.kept} of {log.written} {what} kept{written}{asked}{questions}"


def _sifted(log: MakingLog) -> Table:
    def share(count: int) -> str:
        return percent(count / log.written) if log.written else ""

    rows = [
        (one.fault, str(one.count), share(one.count), _short(one.wanted), _short(one.unwanted)) for one in log.dropped
    ]
    kept = ("kept", str(log.kept), share(log.kept), "", "")
    head = ("what became of them", "number", "share", "for example, wanted", "unwanted")
    return Table(f"Of {log.written} written", head, (kept, *rows), strong=(0,))


def _prompts(log: MakingLog) -> Table:
    rows = tuple((_short(p.positive, 90), _short(p.negative, 60), str(p.written), str(p.kept)) for p in log.prompts)
    return Table("Prompts", ("wanted side", "other side", "written", "kept"), rows)


def _short(text: str, most: int = _SHOWN) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most].rpartition(' ')[0]} …"
