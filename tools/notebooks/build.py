"""Run the notebooks: each ``notebooks/NAME.py`` (cells between ``# %%``) becomes ``NAME.ipynb`` with its outputs.

``python tools/notebooks/build.py [NAME ...]`` runs them in a temporary folder and writes those that say something new.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "notebooks"
SECONDS = 600  # of a cell


def main() -> None:
    names = sys.argv[1:] or [path.stem for path in sorted(FOLDER.glob("*.py"))]
    for name in names:
        done = executed(FOLDER / f"{name}.py")
        (FOLDER / f"{name}.ipynb").write_text(json.dumps(done, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sys.stdout.write(f"written: notebooks/{name}.ipynb\n")


def notebook(source: Path) -> Any:
    """The notebook of a source, without outputs."""
    cells = []
    for number, part in enumerate(re.split(r"^# %%", source.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]):
        head, _, body = part.partition("\n")
        words = body.strip()
        if "[markdown]" in head:
            text = "\n".join(line.removeprefix("#").removeprefix(" ") for line in words.splitlines())
            made = nbformat.v4.new_markdown_cell(text)
        else:
            made = nbformat.v4.new_code_cell(words)
        made.id = f"cell-{number}"
        cells.append(made)
    return nbformat.v4.new_notebook(cells=cells)


def executed(source: Path) -> Any:
    """The same with outputs: no times, no warnings of libraries, nothing that differs from run to run."""
    made = notebook(source)
    os.environ |= {"PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(made, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    for cell in made.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    made.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return made


if __name__ == "__main__":
    main()
