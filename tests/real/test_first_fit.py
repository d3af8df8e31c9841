"""The first fit on a pretrained model, as the tutorial prints it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tillerman.core.artefact import load

from .conftest import ROOT

pytestmark = pytest.mark.real
PAGES = ("docs/tutorial.md", "docs/opening.md")
_OURS = "$ .venv/bin/tillerman "
_MODEL = re.compile(r"\S*\.real-models/\S+\.gguf")


def _printed(page: str, model: Path) -> list[list[str]]:
    """The commands of the page's block that fits a GGUF file, with the file that was fetched in its place."""
    blocks = re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), flags=re.S)
    (block,) = [one for one in blocks if _MODEL.search(one)]
    lines = [line.removeprefix(_OURS) for line in block.splitlines() if line.startswith(_OURS)]
    return [shlex.split(_MODEL.sub(str(model), line)) for line in lines]


def test_both_pages_print_the_same_commands(smollm2):
    one, other = (_printed(page, smollm2) for page in PAGES)
    assert one == other
    assert [words[0] for words in one] == ["samples", "fit"]


def test_the_printed_commands_fit_a_vector_to_a_gguf_file(smollm2, tmp_path):
    environment = {**os.environ, "TILLERMAN_CACHE": str(tmp_path / "cache")}
    environment.pop("PYTHONWARNINGS", None)
    for words in _printed(PAGES[0], smollm2):
        done = subprocess.run(
            [sys.executable, "-c", "from tillerman.cli.app import main; main()", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        # 3: measured to its end, and no effect found, as the page says; anything else is a fault.
        assert done.returncode in ((0, 3) if words[0] == "fit" else (0,)), done.stderr
        assert "Warning" not in done.stderr
    assert "evaluation: " in done.stdout
    made = load(tmp_path / "my.safetensors")
    assert made.card is not None
    assert made.steering.provenance.model_id.endswith(".gguf")
