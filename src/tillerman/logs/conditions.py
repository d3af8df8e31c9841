"""The ways of running a model that are compared, by name. A log holds the name; readers see the label."""

from __future__ import annotations

from enum import StrEnum

NULL = "null:"  # before the name of a control that must show no effect


class ConditionName(StrEnum):
    """A text that compares, hashes and is written to JSON as its value."""

    UNSTEERED = "unsteered"
    STEERED = "steered"
    UNGATED = "ungated"  # steered without the gate
    TURNED = "turned"  # steered, every item in every order of its options
    CONSTANT = "constant"  # the commonest right answer of the training items, always
    PROMPT = "prompt"
    BOTH = "both"  # prompt and steered
    ICL = "icl"  # few-shot exemplars
    LORA = "lora"  # fine-tuned
    RANDOM = "null:random"
    SHUFFLED = "null:shuffled"
    ZERO = "null:zero"


_LABELS = {
    ConditionName.UNSTEERED: "Unsteered",
    ConditionName.STEERED: "Steered",
    ConditionName.UNGATED: "Steered, no gate",
    ConditionName.TURNED: "Steered, all option orders",
    ConditionName.CONSTANT: "Constant answer",
    ConditionName.PROMPT: "Prompt baseline",
    ConditionName.BOTH: "Prompt and steered",
    ConditionName.ICL: "Few-shot baseline",
    ConditionName.LORA: "Fine-tuned",
    ConditionName.RANDOM: "Random direction",
    ConditionName.SHUFFLED: "Shuffled labels",
    ConditionName.ZERO: "Strength 0",
}

UNSTEERED, STEERED = ConditionName.UNSTEERED, ConditionName.STEERED


def is_null(name: str) -> bool:
    """Whether a condition is a control that must show no effect."""
    return name.startswith(NULL)


def condition_label(name: str) -> str:
    """``null:random`` as ``Random direction``; a name we do not know stays itself."""
    if name in _LABELS:
        return _LABELS[ConditionName(name)]
    return f"Null: {name.removeprefix(NULL)}" if is_null(name) else name
