"""The typed log of a study: what was asked, what came out for every item, and what follows from that.

Plain values only, written to JSON and read back without a model. Tables, charts and the verdict are made
of the trials by a pure function (``tillerman.studies``), so a log can be judged again.
"""

from __future__ import annotations

from tillerman.logs.study import StudyLog
from tillerman.reports.tables import markdown_cell, markdown_table


def heading(log: StudyLog) -> str:
    """What was studied, in one line."""
    where = f"{log.method} at {log.hook_point}, strength {log.strength:.3g} (dose {log.dose:.2f})"
    return f"{log.data_name}, {where}, model {log.model_id}"


def to_markdown(log: StudyLog) -> str:
    """Question, verdict, tables and notes as a page can include them."""
    parts = [f"## {log.study}: {log.question}", markdown_cell(heading(log)), f"**{markdown_cell(log.verdict.words)}**"]
    for table in log.tables:
        parts += [f"### {table.title}", markdown_table(table)]
    parts += [f"* {markdown_cell(note)}" for note in log.notes]
    return "\n\n".join(parts) + "\n"
