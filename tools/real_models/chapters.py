"""The chapters of ``docs/real-models.md`` that are made of measurements. A cell that was not run says so."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from behaviours import BEHAVIOURS, METHODS, Behaviour
from learned import learned
from measured import Measured
from standing import Standing, by_validation, standing, works
from tuned import fine_tuned, is_held, shown_after

from tillerman.logs.evaluation import EvaluationLog
from tillerman.logs.evidence import WrittenCondition
from tillerman.logs.table import Table
from tillerman.reports.numbers import decimal, points, shown, shown_number, shown_rate
from tillerman.reports.tables import markdown_cell, markdown_table
from tillerman.reports.verdict import judge_log

NOT_RUN = "not run"
HALF = 0.5
EXAMPLES = 2  # prompts of a behaviour, side by side
NAMES = {"smollm2": "SmolLM2-135M-Instruct", "gemma3": "Gemma 3 270M (base)"}
Found = dict[tuple[str, str, str], Measured]


def chapters(many: Sequence[Measured], swept: Sequence[Mapping[str, object]] = ()) -> dict[str, str]:
    """Text by the name of its marks."""
    found = {one.key: one for one in many}
    parts = {"in short": in_short(found), "learned": learned(swept, NAMES)}
    return parts | {model: of_model(model, found) for model in NAMES}


def in_short(found: Found) -> str:
    """Which behaviours stand where, model by model."""
    lines = []
    for model, title in NAMES.items():
        where = {name: standing(_all(found, model, name)) for name in BEHAVIOURS}
        lines.append(f"**{title}**\n")
        for one in Standing:
            names = [
                f"{n} ({b.method})" if b else n for n, place in where.items() if place for s, b in [place] if s is one
            ]
            if names:
                lines.append(f"* {one}: {', '.join(names)}")
        lines += _shown_by_half(found, model)
        missing = [name for name, place in where.items() if place is None]
        if missing:
            lines.append(f"* {NOT_RUN}: {', '.join(missing)}")
        lines.append("")
    return "\n".join(lines)


def _shown_by_half(found: Found, model: str) -> list[str]:
    """Ways of writing that half of the replies show, by what makes them."""
    taken = {name: by_validation(_all(found, model, name)) for name in BEHAVIOURS}
    logs = {name: one.log for name, one in taken.items() if one is not None and one.log is not None}
    written = {name: log.written for name, log in logs.items() if log.written is not None and log.written.conditions}
    if not written:
        return []
    parts = []
    for condition, label in (("steered", "steered"), ("prompt", "under the prompt"), ("icl", "after exemplars")):
        shares = {name: one.condition(condition) for name, one in written.items()}
        names = [name for name, one in shares.items() if one and one.shown and one.shown.value >= HALF]
        parts.append(f"{label} {', '.join(names) or 'none'}")
    mine = [one for key, one in found.items() if key[0] == model and BEHAVIOURS[key[1]].kind == "written"]
    if is_held(mine):
        parts.append(f"after fine-tuning {', '.join(shown_after(mine, HALF)) or 'none'}")
    return [f"* of {len(written)} ways of writing measured, half of the replies or more show: {'; '.join(parts)}"]


def of_model(model: str, found: Found) -> str:
    mine = [one for key, one in found.items() if key[0] == model]
    if not any(one.log for one in mine):
        return "Not run.\n"
    parts = []
    for kind, first in (("written", written_row), ("answered", answered_row)):
        run = [key[1:] for key in found if key[0] == model and BEHAVIOURS[key[1]].kind == kind]
        names = [b for b in BEHAVIOURS.values() if b.name in {name for name, _ in run}]
        methods = [name for name in METHODS if name in {method for _, method in run}]
        if not names:
            parts += [f"{_KIND[kind]}: {NOT_RUN}."]
            continue
        head = HEADS[kind]
        parts += [
            _TITLES[kind],
            markdown_table(Table("", head, tuple(_first(found, model, b, first, head) for b in names))),
        ]
        parts += [_METHODS_TITLE[kind], markdown_table(_methods(found, model, names, methods))]
        left = [name for name in METHODS if name not in methods]
        parts += [f"Methods {NOT_RUN}: {', '.join(left)}."] if left else []
    parts += [part for part in [fine_tuned(mine)] if part]
    parts += ["#### What was chosen, and what it costs", markdown_table(_costs(mine))]
    parts += ["#### Verdicts", *_verdicts(mine), "#### Texts side by side", *_texts(found, model)]
    return "\n\n".join(parts) + "\n"


HEADS = {
    "written": (
        "way of writing",
        "method",
        "n",
        "unsteered",
        "steered",
        "prompt",
        "few-shot",
        "random",
        "steered minus prompt",
        "show it, %: unsteered, steered, prompt, few-shot",
    ),
    "answered": (
        "persona",
        "method",
        "n",
        "right, %: unsteered",
        "steered",
        "prompt",
        "few-shot",
        "effect, pp",
        "steered minus prompt, pp",
        "AUC: unsteered",
        "change",
        "moved the wrong way, %",
        "power",
    ),
}
_KIND = {"written": "Ways of writing", "answered": "Yes/no personas"}
_BEST = "under the method that did best on the validation items, of those that were run"
_TITLES = {
    "written": f"Ways of writing, {_BEST}: mean score of the test replies (0 to 1, by the scorer of the labels), 95 % "
    "intervals",
    "answered": f"Yes/no personas, {_BEST}, 95 % intervals",
}
_METHODS_TITLE = {
    "written": "Change of the mean score by every method, steered minus unsteered on the same prompts:",
    "answered": "Effect by every method, steered minus unsteered on the same items, pp:",
}


def _first(
    found: Found, model: str, b: Behaviour, row: Callable[[EvaluationLog], tuple[str, ...]], head: Sequence[str]
) -> tuple[str, ...]:
    many = _all(found, model, b.name)
    one = by_validation(many)
    refused = ("refused",) if many else (NOT_RUN,)
    cells = refused if one is None or one.log is None else (one.method, *row(one.log))
    return (b.name, *cells, *("",) * (len(head) - 1 - len(cells)))


def written_row(log: EvaluationLog) -> tuple[str, ...]:
    written = log.written
    if written is None or not written.conditions:
        return (f"no scorer: {written.scorer.refused if written else ''}",)
    of = {one.name: one for one in written.conditions}
    scores = [_score(of.get(name)) for name in ("unsteered", "steered", "prompt", "icl", "null:random")]
    told = of.get("prompt")
    lead = "" if told is None or told.lead is None else shown_number(told.lead.value, told.lead.interval, signed=True)
    shares = ", ".join(_share(of.get(name)) for name in ("unsteered", "steered", "prompt", "icl"))
    scores[1] = scores[1] or ("abstains" if log.strength == 0 else "")
    plain = of["unsteered"].score
    return ("0" if plain is None else str(plain.n), *scores, lead, shares)


def _score(one: WrittenCondition | None) -> str:
    return "" if one is None or one.score is None else shown_number(one.score.value, one.score.interval)


def _share(one: WrittenCondition | None) -> str:
    return "none" if one is None or one.shown is None else decimal(100 * one.shown.value, 0)


def answered_row(log: EvaluationLog) -> tuple[str, ...]:
    of = {c.name: c for c in log.conditions}
    rates = [shown_rate(of[name].rate) if name in of else "" for name in ("unsteered", "steered", "prompt", "icl")]
    told = of.get("prompt")
    lead = "" if told is None or told.lead is None else shown(told.lead)
    bias = log.bias
    area = "" if bias is None else decimal(bias.condition("unsteered").auc, 2)
    moved = (
        ""
        if bias is None or bias.change is None
        else shown_number(bias.change.value, bias.change.interval, signed=True)
    )
    wrong = "" if bias is None else decimal(100 * bias.moved_wrong, 0)
    least = "" if log.power is None or log.power.minimum is None else f"{points(log.power.minimum, 0)} or more"
    return (str(log.n_test), *rates, shown(log.effect), lead, area, moved, wrong, least)


def _methods(found: Found, model: str, names: Sequence[Behaviour], methods: Sequence[str]) -> Table:
    """A change per method; in bold where it is the behaviour (see ``standing.works``)."""
    rows = tuple((b.name, *(_change(found.get((model, b.name, method))) for method in methods)) for b in names)
    return Table("", ("behaviour", *methods), rows)


def _change(one: Measured | None) -> str:
    if one is None:
        return NOT_RUN
    if one.log is None:
        return "refused"
    if one.log.strength == 0:
        return "abstains"
    steered = None if one.log.written is None else one.log.written.condition("steered")
    if steered is not None and steered.change is not None:
        said = shown_number(steered.change.value, steered.change.interval, signed=True)
    else:
        said = shown(one.log.effect)
    return f"{said}, works" if works(one.log) else said


def _costs(mine: Sequence[Measured]) -> Table:
    head = (
        "behaviour",
        "method",
        "layer, dose, read at, scope",
        "KL, nats",
        "perplexity",
        "perplexity of replies",
        "repeated, %",
        "scored effect, pp",
        "unrelated task, pp",
        "CPU s",
    )
    order = {name: k for k, name in enumerate(BEHAVIOURS)}
    rows = sorted((one for one in mine if one.log), key=lambda one: (order[one.behaviour], METHODS.index(one.method)))
    return Table("", head, tuple(_cost(one, one.log) for one in rows if one.log is not None))


def _cost(one: Measured, log: EvaluationLog) -> tuple[str, ...]:
    side, steered = log.side_effects, None if log.written is None else log.written.condition("steered")
    plain = None if log.written is None else log.written.condition("unsteered")
    texts = again = ""
    if steered is not None and plain is not None:
        texts = f"{decimal(plain.perplexity, 1)} to {decimal(steered.perplexity, 1)}"
        again = f"{decimal(100 * plain.repetition, 0)} to {decimal(100 * steered.repetition, 0)}"
    elif log.coherence is not None:
        c = log.coherence
        texts = f"{decimal(c.perplexity_unsteered, 1)} to {decimal(c.perplexity_steered, 1)}"
        again = f"{decimal(100 * c.repeated_unsteered, 0)} to {decimal(100 * c.repeated_steered, 0)}"
    where = (
        "abstains"
        if log.strength == 0
        else (f"{log.hook_point}, {decimal(log.dose)}, {log.provenance.get('read_positions', '')}, {log.scope}")
    )
    return (
        one.behaviour,
        one.method,
        where,
        decimal(side.kl, 3),
        f"{decimal(side.perplexity_ratio)} ×",
        texts,
        again,
        shown(log.effect),
        shown(side.unrelated_effect),
        decimal(one.cpu_seconds, 0),
    )


def _verdicts(mine: Sequence[Measured]) -> list[str]:
    lines = []
    for one in mine:
        if one.log is not None:
            verdict = judge_log(one.log)
            lines.append(f"* {one.behaviour}, `{one.method}`: **{verdict.outcome}**. {markdown_cell(verdict.words)}")
        else:
            lines.append(f"* {one.behaviour}, `{one.method}`: refused. {markdown_cell(one.refused)}")
    return ["<details><summary>of every run</summary>\n\n" + "\n".join(lines) + "\n\n</details>"]


def _texts(found: Found, model: str) -> list[str]:
    """Under the method that did best on the validation prompts, beside unsteered, prompted and few-shot."""
    parts = []
    for name, b in BEHAVIOURS.items():
        one = by_validation(_all(found, model, name))
        written = None if one is None or one.log is None else one.log.written
        if b.kind != "written" or one is None or written is None or not written.conditions:
            continue
        named = [
            ("unsteered", "unsteered"),
            ("steered", f"steered, {one.method}"),
            ("prompt", "prompted"),
            ("icl", "few-shot"),
        ]
        rows = []
        for k, prompt in enumerate(written.prompts[:EXAMPLES]):
            for condition, label in named:
                said = written.condition(condition)
                if said is not None and k < len(said.replies):
                    rows.append((prompt, label, said.replies[k]))
        parts += [f"{name}:", markdown_table(Table("", ("question", "model", "reply"), tuple(rows)))]
    return parts or ["None were written."]


def _all(found: Found, model: str, behaviour: str) -> list[Measured]:
    return [found[key] for method in METHODS if (key := (model, behaviour, method)) in found]
