"""How fields of values that Python users make are spelt on the command line."""

from __future__ import annotations

import re

# Where the flag is not the field's name with dashes: (command, or "" for all) -> field -> flag.
_SPELT: dict[str, dict[str, str]] = {
    "": {
        "base_shots": "--on-shots",
        "base_lora": "--on-lora",
        "lora": "--lora-baseline",
        "url": "--judge",
        "replay": "--judge-replay",
        "calibration": "--calibrate",
    },
    "compare": {"method": "--methods"},
    "make": {"url": "--writer", "replay": "--replay"},
}
_FIELD = re.compile(r"`(\w+)`")


def in_flags(text: str, command: str = "") -> str:
    """Python's fields stand in backticks in a message; here they are flags."""
    return _FIELD.sub(lambda field: flag_of(command, field[1]), text)


def flag_of(command: str, field: str) -> str:
    """``max_kl`` -> ``--max-kl``."""
    return _SPELT.get(command, {}).get(field) or _SPELT[""].get(field) or "--" + field.replace("_", "-")
