"""What a study's log says, beside its own tables and verdict. Pure."""

from __future__ import annotations

from tillerman.logs.study import StudyLog
from tillerman.reports.account import Account, Named
from tillerman.reports.numbers import compact
from tillerman.reports.tables import to_markdown as account_markdown


def account(log: StudyLog) -> Account:
    """Tables, notes and verdict are the study's own."""
    notes = tuple(f"Note: {note}" for note in log.notes)
    judged = (Named(log.study, log.verdict),)
    return Account(heading(log), log.tables, notes, verdicts=judged, title=f"{log.study}: {log.question}")


def heading(log: StudyLog) -> str:
    """What was studied, in one line."""
    where = f"{log.method} at {log.hook_point}, strength {compact(log.strength)} (dose {compact(log.dose)})"
    return f"{log.data_name}, {where}, model {log.model_id}"


def to_markdown(log: StudyLog) -> str:
    """Question, verdict, tables and notes as a page can include them."""
    return account_markdown(account(log))
