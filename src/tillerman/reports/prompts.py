"""How the prompt baseline came about: what was tried, what was taken, or that nothing fair is there. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tillerman.logs.conditions import ConditionName, condition_label
from tillerman.logs.evaluation import Condition, EvaluationLog
from tillerman.logs.evidence import PromptTrial
from tillerman.reports.numbers import decimal, percent

_SHOWN = 160  # characters of a prompt in a sentence; tables have all of it
_NONE_GIVEN = "no fair prompt was given"
_NONE_HELPS = "no prompt tried does better than none"
_NONE_FITS = "none, since no prompt precedes a text"


def has_prompt(conditions: Sequence[Condition]) -> bool:
    """Whether there is a prompt baseline that steering can be compared with."""
    return any(c.name == ConditionName.PROMPT for c in conditions)


def absent_row(log: EvaluationLog) -> str:
    """What stands in the place of the prompt baseline's row; empty where there is one."""
    if has_prompt(log.conditions):
        return ""
    return f"{condition_label(ConditionName.PROMPT)}: {_why_none(log)}"


def prompt_words(log: EvaluationLog) -> str:
    """The prompt and where it comes from, or why there is none; empty for logs of before prompts were searched for."""
    count, seconds = sum(bool(one.text) for one in log.prompts), _seconds(log)
    if not has_prompt(log.conditions):
        tried = f", of {count} tried on validation items{seconds}" if count else ""
        if not log.promptable:
            return f"Prompt baseline: {_why_none(log)}."
        return f"Prompt baseline: {_why_none(log)}{tried}, so steering is compared with none; give one with --prompt."
    if not log.prompts:
        return ""
    taken = log.prompts[0]
    origin = (
        taken.source if taken.score is None else f"{taken.source}, the best of {count} on validation items{seconds}"
    )
    return f"Prompt baseline: {_quoted(taken.text)} ({origin})."


def _why_none(log: EvaluationLog) -> str:
    if not log.promptable:
        return _NONE_FITS
    return _NONE_HELPS if log.prompts else _NONE_GIVEN


def tried_rows(log: EvaluationLog) -> tuple[tuple[str, str], ...]:
    """Every prompt that was tried, with its share right on validation items, or what replies under it score."""
    written = log.objective == "written"
    return tuple(("Prompt tried", _trial(one, written=written)) for one in log.prompts if one.score is not None)


def _trial(one: PromptTrial, *, written: bool) -> str:
    assert one.score is not None
    said = f": {one.text}" if one.text else ""
    if written:
        return f"validation replies score {decimal(one.score)}, {one.source}{said}"
    return f"{percent(one.score, 0)} of validation items right, {one.source}{said}"


def _seconds(log: EvaluationLog) -> str:
    return "" if log.seconds_for_prompt is None else f" in {decimal(log.seconds_for_prompt, 1)} s"


def _quoted(text: str) -> str:
    line = " ".join(text.split())
    return f'"{line}"' if len(line) <= _SHOWN else f'"{line[:_SHOWN].rpartition(" ")[0]} …"'
