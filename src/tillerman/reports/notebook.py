"""How logs look in a session: some words as their ``repr``, and in a notebook the page itself, in a frame of its own,
so that no rule of its style sheet reaches the notebook. Loaded with the first public name; pages when one is shown."""

from __future__ import annotations

from collections.abc import Callable
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


def _page(name: str) -> Callable[[Any], str]:
    def html(log: Any) -> str:
        from tillerman.reports import pages

        render: Callable[[Any], str] = getattr(pages, name)
        return _framed(render(log))

    return html


def _comparison_words(log: Any) -> str:
    return "; ".join(f"{one.data_name}: {', '.join(m.method for m in one.methods)}" for one in log.comparisons)[:500]


def _study_words(log: Any) -> str:
    return f"{log.study} of {log.data_name}: {log.verdict.outcome}"


show_with("evaluation", View(_evaluation_words, _page("render_report")))
show_with("comparison", View(_comparison_words, _page("render_comparison")))
show_with("study", View(_study_words, _page("render_study")))
