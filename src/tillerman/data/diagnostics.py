"""What is wrong with a data set before a model sees it: imbalance, shortcuts, duplicates, leaks.

A steering vector learns whatever tells the right answers from the wrong ones. If the right letter, the
longest option or the first word does, the vector may hold that and nothing else: in the original of PAS
one shuffle for all questions made the right letter a constant, and a vector for 'answer B' scored 100 %.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from scipy.special import bdtrc

from tillerman.core.finding import Finding
from tillerman.data.confounds import (
    Score,
    by_option,
    chance_level,
    most_frequent,
    option_first_word,
    question_first_word,
    question_length,
)
from tillerman.data.duplicates import Split, near_items
from tillerman.data.examples import Example
from tillerman.data.prompts import LETTERS
from tillerman.data.splits import SPLITS, normalised

SIGNIFICANT = 0.01
GAIN = 0.2  # of the way from chance to certainty: 60 % for two options, 40 % for four
CONSTANT = 0.9
FEWEST = {"train": 20, "validation": 10, "test": 50}
_MARKUP = re.compile(
    r"<\|[\w ]+\|>|\[/?INST\]|<</?SYS>>|</?s>|<(?:start|end)_of_turn>"
    r"|^\s*(?:Human|Assistant|USER|ASSISTANT|### \w+)\s*:",
    re.MULTILINE,
)


def diagnose(examples: Sequence[Example], split: Split, *, orders: Sequence[int] | None = None) -> tuple[Finding, ...]:
    """One finding per check that applies; ``ok`` where nothing was found.

    ``orders`` is what the prompt builder really shows: per multiple-choice item the position of the
    right option. Without it the letters cannot be judged, only the order in the source.
    """
    if not examples:
        return (Finding("size", "error", "there are no examples"),)
    findings = [_sizes(split)]
    choices = [e for e in examples if e.kind == "choice"]
    yes_no = [e for e in examples if e.kind == "yes_no"]
    written = [e for e in examples if e.kind not in ("yes_no", "open")]
    if yes_no:
        findings += [_balance(yes_no), *_question_confounds(yes_no)]
    if orders:
        findings.append(_letters(orders, chance_level(choices or list(examples))))
    if choices:
        findings.append(_source_order(choices, redrawn=orders is not None))
    if written:
        findings += _option_confounds(written)
    return (*findings, *_duplicates(examples), _leakage(split), _template(examples))


def _sizes(split: Split) -> Finding:
    sizes = {name: len(split.part(name)) for name in SPLITS}
    shown = ", ".join(f"{count} {name}" for name, count in sizes.items())
    few = [name for name, fewest in FEWEST.items() if sizes[name] < fewest]
    if few:
        wanted = ", ".join(f"{FEWEST[name]} {name}" for name in few)
        return Finding("size", "warning", f"few items: {shown}; expected at least {wanted}", float(min(sizes.values())))
    return Finding("size", "ok", f"{shown} items", float(min(sizes.values())))


def _balance(examples: Sequence[Example]) -> Finding:
    """Yes/no items: a constant word reaches the share of the commoner answer."""
    counts = Counter(normalised(example.options[example.answer]) for example in examples)
    word, hits = counts.most_common(1)[0]
    return _judged("label-balance", Score(hits, len(examples), 0.5), f"the wanted answer is {word!r}")


def _letters(orders: Sequence[int], chance: float) -> Finding:
    """The fault of PAS: the same shown position is right for every item."""
    position, score = most_frequent(orders, chance)
    letter = LETTERS[position] if position < len(LETTERS) else str(position)
    what = f"as shown, the right letter is {letter}"
    if score.accuracy >= CONSTANT and _p_value(score) < SIGNIFICANT:
        message = (
            f"{what} for {_of(score)}: a vector for 'answer {letter}' would score as well; shuffle the options per item"
        )
        return Finding("constant-letter", "error", message, score.accuracy, CONSTANT)
    return _judged("constant-letter", score, what)


def _source_order(examples: Sequence[Example], *, redrawn: bool) -> Finding:
    position, score = most_frequent([example.answer for example in examples], chance_level(examples))
    finding = _judged("position", score, f"in the source, option {position + 1} is the right one")
    if finding.level == "warning" and redrawn:
        return Finding(
            "position",
            "note",
            f"{finding.message}; options are shuffled per item",
            finding.value,
            finding.threshold,
        )
    return finding


def _option_confounds(examples: Sequence[Example]) -> list[Finding]:
    longest = by_option(examples, len)
    shortest = by_option(examples, lambda option: -len(option))
    return [
        _judged("longest-option", longest, "the right option is the longest"),
        _judged("shortest-option", shortest, "the right option is the shortest"),
        _judged("first-word", option_first_word(examples), "the first word of an option predicts the right one"),
    ]


def _question_confounds(examples: Sequence[Example]) -> list[Finding]:
    return [
        _judged("first-word", question_first_word(examples), "the first word of the question predicts the answer"),
        _judged("length", question_length(examples), "the length of the question predicts the answer"),
    ]


def _judged(check: str, score: Score, what: str) -> Finding:
    """A warning where the rule is clearly and significantly better than chance."""
    threshold = score.chance + GAIN * (1 - score.chance)
    message = f"{what} for {_of(score)} (chance {100 * score.chance:.0f} %)"
    bad = score.accuracy >= threshold and _p_value(score) < SIGNIFICANT
    return Finding(check, "warning" if bad else "ok", message, score.accuracy, threshold)


def _p_value(score: Score) -> float:
    """P(at least so many hits by chance), one-sided, exact."""
    hits = int(score.hits)
    return float(bdtrc(hits - 1, score.n, min(score.chance, 1 - 1e-12))) if hits else 1.0


def _of(score: Score) -> str:
    return f"{100 * score.accuracy:.0f} % of {score.n} items"


def _duplicates(examples: Sequence[Example]) -> list[Finding]:
    answers: dict[str, set[int]] = defaultdict(set)
    for example in examples:
        answers[example.id].add(example.answer)
    repeated = len(examples) - len(answers)
    near = len(near_items(list({example.id: example for example in examples}.values())))
    both = sum(len(found) > 1 for found in answers.values())
    level = "warning" if repeated + near > 0.05 * len(examples) else "note" if repeated + near else "ok"
    message = f"{_counted(repeated, 'exact duplicate')}, {_counted(near, 'pair')} of near-duplicates"
    findings = [Finding("duplicates", level, message, float(repeated + near), 0.05 * len(examples))]
    if both:
        message = f"{_counted(both, 'item')} with contradictory answers; the first answer is kept"
        findings.append(Finding("contradictions", "warning", message, float(both), 0.0))
    return findings


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _leakage(split: Split) -> Finding:
    """The same or nearly the same question on both sides of a border; never after ``clean_split``."""
    items = [(example, name) for name in SPLITS for example in split.part(name)]
    shares: dict[str, set[str]] = defaultdict(set)
    for example, name in items:
        shares[normalised(example.key)].add(name)
    leaks = sum(len(found) > 1 for found in shares.values())
    near = near_items([example for example, _ in items])
    leaks += sum(
        items[i][1] != items[j][1] and normalised(items[i][0].key) != normalised(items[j][0].key) for i, j in near
    )
    if leaks:
        message = f"{leaks} questions (or near-duplicates) are in two shares; split with clean_split"
        return Finding("leakage", "error", message, float(leaks), 0.0)
    return Finding("leakage", "ok", f"no question in two shares; {split.dropped} near-duplicates dropped", 0.0, 0.0)


def _template(examples: Sequence[Example]) -> Finding:
    found = [m.group().strip() for e in examples if (m := _MARKUP.search("\n".join((e.question, *e.options))))]
    if not found:
        return Finding("template", "ok", "no chat markup inside the items", 0.0, 0.0)
    commonest = Counter(found).most_common(1)[0][0]
    message = f"{len(found)} items contain chat markup such as {commonest!r}; the model's own template adds it again"
    return Finding("template", "warning", message, len(found) / len(examples), 0.0)
