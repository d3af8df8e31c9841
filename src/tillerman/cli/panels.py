"""The panels of ``--help``: what people use first stands first, the rest by subject. A line per subject."""

from __future__ import annotations

from copy import copy
from typing import Annotated, Any, get_args, get_origin

from typer.models import ArgumentInfo, OptionInfo

RUN, OF_ONE_STUDY = "This run", "Options of one study"
GATES = "What the gates ask"
# Of a command with many options: those that stand first, in the panel without a name.
FIRST = {
    "fit": ("model", "method", "out", "layers", "doses", "max_kl", "limit", "seed", "report", "as_json"),
    "compare": ("methods", "model", "out", "equal_kl", "layers", "doses", "max_kl", "limit", "seed", "as_json"),
    "eval": ("model", "metric", "strength", "all_items", "limit", "card", "report", "samples", "as_json"),
    "study": ("artefact", "method", "model", "out", "limit", "seed", "draws", "card", "rejudge", "as_json"),
    "certify": ("model", "sign", "make_key", "check", "trust", "out", "limit", "seed", "as_json"),
    "make": (
        "model",
        "items",
        "out",
        "positive_prompt",
        "negative_prompt",
        "texts",
        "objective",
        "fit",
        "tokens",
        "seed",
        "as_json",
    ),
    "validate-scorer": (
        "wanted",
        "label",
        "text",
        "prompt_column",
        "id_column",
        "annotators",
        "threshold",
        "below",
        "texts",
        "top",
        "rejudge",
        "out",
        "as_json",
    ),
    "score": ("prompts", "scorer", "model", "doses", "at", "samples", "tokens", "seed", "out", "as_json"),
}
_ONLY = {OF_ONE_STUDY: ("study",), GATES: ("certify",)}  # panels of one command
PANELS = {
    OF_ONE_STUDY: (
        "sources",
        "others",
        "matrix",
        "context_tokens",
        "counts",
        "steps",
        "factors",
        "to",
        "prompts",
        "safe_prompts",
        "max_change",
        "turns",
        "off_after",
        "precisions",
        "tuned",
        "models",
        "characters",
        "doses",
        "max_loss",
        "text_tokens",
        "tokens",
        "iterations",
        "children",
    ),
    GATES: (
        "draws",
        "context_tokens",
        "counts",
        "max_kl",
        "max_perplexity_ratio",
        "max_loss",
        "text_tokens",
        "prompts",
        "safe_prompts",
        "max_change",
    ),
    "Data": ("layout", "columns", "positive", "limit", "max_train", "skip_bad_rows", "skip_long", "shares"),
    "Prompt": (
        "template",
        "template_args",
        "system",
        "as_choice",
        "keep_order",
        "calibrate",
        "answer_tokens",
        "on_shots",
    ),
    "Search": (
        "grid",
        "together",
        "budget",
        "fast",
        "objective",
        "strengths",
        "scope",
        "site",
        "read",
        "max_kl",
        "max_perplexity_ratio",
        "nested",
        "seeds",
        "pas_paper",
    ),
    "Baselines and side effects": (
        "prompt",
        "behaviour",
        "shots",
        "lora_baseline",
        "neutral",
        "unrelated",
        "null_draws",
        "written_prompts",
        "written_tokens",
    ),
    "Output": ("samples", "track"),
    "Gate": ("gate", "gate_at", "gate_positive"),
    "Replies": ("rescore", "temperature"),
    "Judge": (
        "behaviour",
        "judge",
        "judge_model",
        "judge_scores",
        "judge_repeats",
        "judge_temperature",
        "judge_key",
        "judge_cache",
        "judge_replay",
    ),
    "Prompts and questions": ("write_prompts", "prompt_in", "questions", "write_questions"),
    "Answers": ("answers_by", "best_of"),
    "Filters": ("scorer", "margin", "min_words", "max_words"),
    "Another writer": ("writer", "writer_model", "writer_key", "record", "replay"),
    "Model": (
        "device",
        "device_map",
        "dtype",
        "quantize",
        "revision",
        "attention",
        "trust_remote_code",
        "guess_layout",
        "allow_mismatch",
        "on_lora",
        "save_model",
    ),
}


def panel_name(command: str, option: str) -> str | None:
    """None: the panel that stands first."""
    if command not in FIRST or option in FIRST[command]:
        return None
    names = [name for name in PANELS if option in PANELS[name] and command in _ONLY.get(name, (command,))]
    return names[0] if names else None


def place(command: str, option: str, annotation: Any) -> tuple[int, int]:
    """Where a parameter stands: arguments first, then panel by panel."""
    if any(isinstance(mark, ArgumentInfo) for mark in get_args(annotation)[1:]):
        return 0, 0
    name, first = panel_name(command, option), FIRST.get(command, ())
    if name is None:
        return 1, first.index(option) if option in first else len(first)
    return 2 + list(PANELS).index(name), 0


def panel_of(command: str, option: str, annotation: Any) -> Any:
    """The annotation of a parameter, with its panel written into it."""
    name = panel_name(command, option)
    if name is None or get_origin(annotation) is not Annotated:
        return annotation
    kind, *marks = get_args(annotation)
    return Annotated[(kind, *(_in_panel(mark, name) for mark in marks))]


def _in_panel(mark: Any, name: str) -> Any:
    """A copy: options are shared by commands."""
    if not isinstance(mark, OptionInfo):
        return mark
    made = copy(mark)
    made.rich_help_panel = name
    return made
