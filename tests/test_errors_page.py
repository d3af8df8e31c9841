"""The page of errors quotes errors that happen: each row's text is what the row's case really says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tillerman.core.errors import TillermanError

from .provoked import PROVOKED

PAGE = Path(__file__).resolve().parents[1] / "docs/errors.md"
ROWS = re.findall(r"^\| `(\w+): (.+?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def test_the_page_has_a_row_per_case_that_is_provoked() -> None:
    assert len(ROWS) == len(PROVOKED)


@pytest.mark.parametrize(("row", "name"), list(zip(ROWS, PROVOKED, strict=False)), ids=list(PROVOKED))
def test_a_row_says_what_the_error_says(row: tuple[str, str], name: str, tmp_path: Path) -> None:
    kind, text = row
    with pytest.raises(TillermanError) as raised:
        PROVOKED[name](tmp_path)
    pattern = ".*".join(re.escape(part) for part in text.split("…"))
    assert type(raised.value).__name__ == kind
    assert re.fullmatch(pattern + ("" if text.endswith("…") else ".*"), str(raised.value), re.DOTALL), str(raised.value)
