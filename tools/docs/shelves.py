"""The pages in the order in which a reader wants them: for ``llms.txt`` and for the site. A page that no shelf names
stands on the last one."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LLMS = "llms.txt"
OTHERS = "More"

SHELVES: dict[str, tuple[str, ...]] = {
    "Begin": (
        "docs/tutorial.md",
        "docs/install.md",
        "docs/concepts.md",
        "docs/coming-from.md",
        "docs/errors.md",
        "docs/data-format.md",
        "docs/make.md",
        "docs/frames.md",
    ),
    "Fit and judge": (
        "docs/methods/index.md",
        "docs/compare.md",
        "docs/baselines.md",
        "docs/bases.md",
        "docs/gates.md",
        "docs/monitors.md",
        "docs/scorers.md",
        "docs/studies.md",
        "docs/thoughts.md",
    ),
    "Models": ("docs/opening.md", "docs/models.md", "docs/pilot.md", "docs/pilot-moe.md"),
    "Use": (
        "docs/exchange.md",
        "docs/tracking.md",
        "docs/in-your-code.md",
        "docs/harnesses.md",
        "docs/serving.md",
        "docs/vllm.md",
        "docs/fleet.md",
        "docs/operations.md",
        "docs/security.md",
    ),
    "Reference": ("docs/cli.md", "docs/config.md", "docs/api.md", "CHANGELOG.md"),
    "Evidence": (
        "docs/leaderboard.md",
        "docs/real-models.md",
        "docs/forecast.md",
        "docs/detection.md",
        "docs/results.md",
        "docs/reproductions.md",
        "docs/second-look.md",
        "benchmarks/RESULTS.md",
        "docs/LOG.md",
    ),
    "Inside": ("docs/design/house.md", "docs/design/decisions.md", "CONTRIBUTING.md"),
}
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_LONGEST = 240  # characters of what a page is said to be about


def shelved() -> dict[str, tuple[str, ...]]:
    """Every page once, those that are there."""
    listed = {page for pages in SHELVES.values() for page in pages}
    found = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    shelves = {name: tuple(page for page in pages if (ROOT / page).is_file()) for name, pages in SHELVES.items()}
    others = tuple(page for page in found if page not in listed)
    return {**shelves, OTHERS: others} if others else shelves


def title_of(page: str) -> str:
    found = _TITLE.search((ROOT / page).read_text(encoding="utf-8"))
    return plain(found[1]) if found else page


def about(page: str) -> str:
    """A page's first paragraph after its title, as plain text on one line; its first sentence where it is long."""
    text = (ROOT / page).read_text(encoding="utf-8").partition("\n")[2]
    parts = [part.strip("\n") for part in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL).split("\n\n")]
    first = next((part for part in parts if part and not re.match(r"[#|`*!<>1-9-]| {4}", part)), "")
    prose = " ".join(plain(first).split())
    return prose if len(prose) <= _LONGEST else prose.split(". ")[0].rstrip(".")[:_LONGEST] + "."


def plain(text: str) -> str:
    return _LINK.sub(r"\1", text).replace("**", "").replace("`", "")


def llms_txt() -> str:
    """What a language model is to read first (llmstxt.org): what this is, the shortest use, and every page."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    summary = next(part for part in readme.split("\n\n") if part.startswith("**"))
    (example,) = re.findall(r"```python\n(import tillerman\n.*?)```", readme, re.DOTALL)
    parts = [
        "# Tillerman",
        f"> {plain(summary)}",
        "In Python:",
        f"```python\n{example}```",
        "On the command line, offline, with the embedded model `pilot` and the embedded samples:",
        "```console\n$ tillerman fit sample:interest-in-science --out science.safetensors\n"
        "$ tillerman eval science.safetensors sample:interest-in-science\n"
        '$ tillerman generate "Tell me about yourself." -a science.safetensors\n```',
        "Exit codes: 0 as asked, 1 an error that names thing, choices and remedy, 2 options that contradict each "
        "other, 3 no effect was found. `--json` prints stable keys.",
    ]
    for name, pages in shelved().items():
        lines = [f"- [{title_of(page)}]({page}): {about(page)}".rstrip(": ") for page in pages]
        parts += [f"## {name if name != OTHERS else 'Optional'}", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"
