"""Walk through a page: run the commands of its console blocks, in order, and write the outputs that it shows.

``python tools/docs/walk.py`` (``make tutorial``) does so with ``docs/tutorial.md``, in a fresh folder, and writes the
page anew; ``tests/test_tutorial.py`` compares. In a block of kind ``console`` a line that begins with ``$ `` is a
command, the lines after one that ends in ``<< 'END'`` belong to it up to ``END``, all others are output. What is shown
of the output of a block's last command is said above the block:

    <!-- shows: all -->                 the whole output
    <!-- shows: 6 from "Effect" -->     six lines, from the one that holds this text on
    <!-- shows: last 3 -->              the last three lines
    <!-- shows: errors -->              the error stream

``$ echo $?`` shows the exit code of the command before it; a command without it must end with 0. A block below
``<!-- not run: reason -->`` is left as it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/tutorial.md"
STATUS = "echo $?"
_BLOCK = re.compile(
    r"(?P<mark><!-- (?P<kind>shows|not run): (?P<what>[^\n]*) -->\n)?```console\n(?P<text>.*?)```\n", re.S
)
_HERE = re.compile(r"<< '(\w+)'$")
_FROM = re.compile(r'(\d+) from "([^"]+)"')
_LOGGED = re.compile(r"^[WIE]\d{4} [\d:.]+ .*\n", re.MULTILINE)  # what torch logs of packages that happen to be there
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SECONDS = re.compile(r"\b\d+(?:\.\d+)? s\b")


@dataclass(frozen=True)
class Command:
    """As the page prints it: its first line, and the lines of a here-document."""

    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"

    @property
    def printed(self) -> list[str]:
        return [f"$ {self.lines[0]}", *self.lines[1:]]


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    errors: str


def main() -> None:
    before = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        made = walked(before, Path(folder))
    if not same(before, made):
        PAGE.write_text(made, encoding="utf-8")
        sys.stdout.write(f"written: {PAGE.relative_to(ROOT)}\n")


def commands(block: str) -> list[Command]:
    """The commands of a block, without what it shows of their outputs."""
    found: list[list[str]] = []
    ending = None  # of the here-document that we are in
    for line in block.splitlines():
        if ending is not None:
            found[-1].append(line)
            ending = None if line == ending else ending
        elif line.startswith("$ "):
            found.append([line[2:]])
            here = _HERE.search(line)
            ending = here[1] if here else None
    return [Command(tuple(lines)) for lines in found]


def walked(page: str, folder: Path) -> str:
    """The page with the outputs that its commands have in this folder. ``SystemExit`` where a command ends with an exit
    code that the page does not show, or a block shows what the output does not hold."""

    def anew(block: re.Match[str]) -> str:
        if block["kind"] == "not run":
            return block[0]
        asked = commands(block["text"])
        if not asked:
            sys.exit(f"a console block without a command:\n{block[0]}")
        last = max((i for i, one in enumerate(asked) if one.text.strip() != STATUS), default=-1)
        lines: list[str] = []
        result = Result(0, "", "")
        for i, command in enumerate(asked):
            lines += command.printed
            if command.text.strip() == STATUS:
                lines.append(str(result.code))
                continue
            result = run(command.text, folder)
            told = i + 1 < len(asked) and asked[i + 1].text.strip() == STATUS
            if result.code and not told:
                sys.exit(f"$ {command.lines[0]}\nends with {result.code}:\n{result.out}{result.errors}")
            if i == last:
                lines += shown(result, block["what"] if block["kind"] else None)
        return f"{block['mark'] or ''}```console\n" + "\n".join(lines) + "\n```\n"

    return _BLOCK.sub(anew, page)


def run(text: str, folder: Path) -> Result:
    """In a shell in this folder, with the tillerman of this interpreter, 80 columns wide, without colours."""
    places = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    plain = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS")}
    settings = {**plain, "PATH": places, "NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "80", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=folder,
        env={**settings, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return Result(done.returncode, done.stdout, _LOGGED.sub("", done.stderr))


def shown(result: Result, what: str | None) -> list[str]:
    """The lines that a block shows; ``...`` stands for those before and after."""
    if what is None:
        return []
    lines = [line.rstrip() for line in (result.errors if what == "errors" else result.out).splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if what in ("all", "errors"):
        return lines
    if what.startswith("last "):
        count = int(what.removeprefix("last "))
        return (["..."] if len(lines) > count else []) + lines[-count:]
    found = _FROM.fullmatch(what)
    if found is None:
        sys.exit(f'shows: {what}: write all, errors, last N or N from "text"')
    count, text = int(found[1]), found[2]
    first = next((i for i, line in enumerate(lines) if text in line), None)
    if first is None:
        sys.exit(f"shows: {what}: no such line in\n{result.out}{result.errors}")
    kept = lines[first : first + count]
    return (["..."] if first else []) + kept + (["..."] if first + count < len(lines) else [])


def same(one: str, other: str) -> bool:
    """Whether two pages say the same: words, and numbers up to a twentieth, since another processor rounds elsewhere.
    Seconds and where lines break do not count."""
    left, right = (_SECONDS.sub("", text) for text in (one, other))
    if [re.sub(r"[\s─]+", " ", part) for part in _NUMBER.split(left)] != [
        re.sub(r"[\s─]+", " ", part) for part in _NUMBER.split(right)
    ]:
        return False
    pairs = zip(map(float, _NUMBER.findall(left)), map(float, _NUMBER.findall(right)), strict=True)
    return all(abs(a - b) <= 0.02 + 0.05 * max(a, b) for a, b in pairs)


if __name__ == "__main__":
    main()
