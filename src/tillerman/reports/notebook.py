"""How logs look in a session: some words as their ``repr``, and in a notebook the page itself, in a frame of its own,
so that no rule of its style sheet reaches the notebook. Loaded with the first public name; pages when one is shown."""

from __future__ import annotations

from html import escape
from typing import Any

from tillerman.logs.base import View, show_with

_HEIGHT = 640  # pixels


def _framed(page: str) -> str:
    style = "width:100%;border:0"
    return f'<iframe sandbox srcdoc="{escape(page, quote=True)}" height="{_HEIGHT}" style="{style}"></iframe>'


def _evaluation_words(log: Any) -> str:
    from tillerman.reports.evaluation import short

    return short(log)


def _evaluation_page(log: Any) -> str:
    from tillerman.reports.pages import render_report

    return _framed(render_report(log))


def _comparison_words(log: Any) -> str:
    return "; ".join(f"{one.data_name}: {', '.join(m.method for m in one.methods)}" for one in log.comparisons)[:500]


def _comparison_page(log: Any) -> str:
    from tillerman.reports.pages import render_comparison

    return _framed(render_comparison(log))


def _study_words(log: Any) -> str:
    return f"{log.study} of {log.data_name}: {log.verdict.outcome}"


def _study_page(log: Any) -> str:
    from tillerman.reports.pages import render_study

    return _framed(render_study(log))


def _thoughts_words(log: Any) -> str:
    return f"{log.data_name}, {log.method} at {log.hook_point}, n = {log.n}"


def _thoughts_page(log: Any) -> str:
    from tillerman.reports.pages import render_account
    from tillerman.reports.thoughts import account

    return _framed(render_account(account(log)))


def _monitor_words(log: Any) -> str:
    return f"{log.data_name}, {log.method}, {log.reading} at {log.chosen.hook_point}: AUC {log.chosen.area.value:.2f}"


def _monitor_page(log: Any) -> str:
    from tillerman.reports.monitor import account
    from tillerman.reports.pages import render_account

    return _framed(render_account(account(log)))


def _scores_words(log: Any) -> str:
    return f"{log.method} at {log.hook_point}, {len(log.prompts)} prompts: {', '.join(s.scorer for s in log.scored)}"


def _scores_page(log: Any) -> str:
    from tillerman.reports.pages import render_account
    from tillerman.reports.scores import account

    return _framed(render_account(account(log)))


def _making_words(log: Any) -> str:
    return f"{log.description or log.source}: {log.kept} of {log.written} kept"


def _making_page(log: Any) -> str:
    from tillerman.reports.making import account
    from tillerman.reports.pages import render_account

    return _framed(render_account(account(log)))


def _second_look_words(log: Any) -> str:
    from tillerman.reports.second_look import short

    return short(log)


def _second_look_page(log: Any) -> str:
    from tillerman.reports.pages import render_account
    from tillerman.reports.second_look import account

    return _framed(render_account(account(log)))


def _validation_words(log: Any) -> str:
    from tillerman.reports.validation import short

    return short(log)


def _validation_page(log: Any) -> str:
    from tillerman.reports.pages import render_account
    from tillerman.reports.validation import account

    return _framed(render_account(account(log)))


show_with("evaluation", View(_evaluation_words, _evaluation_page))
show_with("comparison", View(_comparison_words, _comparison_page))
show_with("second-look", View(_second_look_words, _second_look_page))
show_with("validation", View(_validation_words, _validation_page))
show_with("study", View(_study_words, _study_page))
show_with("monitor", View(_monitor_words, _monitor_page))
show_with("thoughts", View(_thoughts_words, _thoughts_page))
show_with("scores", View(_scores_words, _scores_page))
show_with("making", View(_making_words, _making_page))
