"""Text of others as it may be shown: what would steer a terminal, or cannot be written, is spelt out."""

from __future__ import annotations

import re

# C0 but tab and line feed; DEL and C1 (0x9b begins a command as ESC [ does); overrides of direction, which make a line
# read otherwise than it is; halves of surrogate pairs, which UTF-8 does not have.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """``ESC [ 31 m`` as ``\\x1b[31m``, a lone surrogate as ``\\ud800``; all else as it is."""
    return _UNSEEN.sub(lambda found: _spelt(found[0]), text)


def visible_json(text: str) -> str:
    """JSON text as it may be shown, meaning the same: what JSON leaves as it is comes as ``\\u009b``."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _spelt(sign: str) -> str:
    return f"\\x{ord(sign):02x}" if ord(sign) < 256 else f"\\u{ord(sign):04x}"
