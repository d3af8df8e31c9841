"""Build the docs site: every page as it stands in the repository, and a gallery of reports, rendered from the logs that
are committed.

``python tools/docs/make_site.py`` stages the pages in ``build/site`` and runs Zensical in strict mode, where a warning
is an error. Zensical is the successor of Material for MkDocs by the same people, who end that in May 2027; the
configuration is one that both read.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # where a test loads this file by its path

from shelves import OTHERS, ROOT, shelved, title_of

from tillerman.logs.evaluation import EvaluationLog
from tillerman.reports.pages import render_demo_page, render_report

OUT = ROOT / "build/site"
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/RESULTS.md", "LICENSE", "llms.txt")
GALLERY = "docs/gallery.md"


def main() -> None:
    config = stage(OUT)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "-f", str(config)], cwd=OUT, check=False
    )
    if done.returncode:
        sys.exit(done.returncode)
    print(f"written: {OUT.relative_to(ROOT)}/html")


def stage(out: Path) -> Path:
    """The pages at the same places as in the repository, README as the first, so that links need no change; only what
    leads to source files becomes plain text. Returns the configuration's path."""
    pages = out / "pages"
    shutil.rmtree(pages, ignore_errors=True)
    shutil.copytree(ROOT / "docs", pages / "docs")
    for name in BESIDE:
        (pages / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, pages / name)
    shutil.copy(ROOT / "README.md", pages / "index.md")
    gallery(pages)
    for page in pages.rglob("*.md"):
        page.write_text(_without_source_links(page, pages), encoding="utf-8")
    config = out / "mkdocs.yml"
    config.write_text(json.dumps(settings(), indent=2), encoding="utf-8")  # JSON is YAML
    return config


def settings() -> dict[str, Any]:
    shelves = shelved()
    nav: list[Any] = [{"Tillerman": "index.md"}]
    for name, listed in shelves.items():
        entries = [{title_of(page): page} for page in listed]
        if name == "Evidence":
            entries.append({"Gallery of reports": GALLERY})
        nav.append({"Methods and designs" if name == OTHERS else name: entries})
    return {
        "site_name": "Tillerman",
        "site_description": "Activation steering for language models, with the evidence of whether it worked.",
        "docs_dir": "pages",
        "site_dir": "html",
        "use_directory_urls": False,
        "theme": {
            "name": "material",
            "features": ["navigation.sections", "content.code.copy", "search.highlight"],
            "palette": [_palette("light", "default", "sun"), _palette("dark", "slate", "moon")],
        },
        "markdown_extensions": ["tables", "admonition", "toc", "pymdownx.superfences"],
        "nav": nav,
    }


def _palette(system: str, scheme: str, icon: str) -> dict[str, Any]:
    """The colours of readers whose system is so, with a switch to the others."""
    other = "dark" if system == "light" else "light"
    return {
        "media": f"(prefers-color-scheme: {system})",
        "scheme": scheme,
        "toggle": {"icon": f"lucide/{icon}", "name": f"Switch to {other}"},
    }


def gallery(pages: Path) -> None:
    """Reports of the demo's log, a page each, and the page that lists them."""
    logs = [EvaluationLog.from_json(one) for one in json.loads((ROOT / "docs/logs/demo.json").read_text("utf-8"))]
    folder = pages / "docs/gallery"
    folder.mkdir()
    (folder / "demo.html").write_text(render_demo_page(logs), encoding="utf-8")
    lines = [
        "# Gallery of reports",
        "",
        "Pages that Tillerman writes, made anew from committed logs of the embedded model:",
        "",
    ]
    lines.append("* [the demo: five behaviours side by side](gallery/demo.html)")
    for log in logs:
        (folder / f"{log.data_name}.html").write_text(render_report(log), encoding="utf-8")
        lines.append(f"* [{log.data_name}](gallery/{log.data_name}.html): `{log.method}` at `{log.hook_point}`")
    lines += [
        "",
        "What a real model writes under steering, with texts side by side: [real models](real-models.md).",
        "",
    ]
    (pages / GALLERY).write_text("\n".join(lines), encoding="utf-8")


def _without_source_links(page: Path, pages: Path) -> str:
    """A link to a file that the site does not hold becomes the file's name as code."""

    def plain(found: re.Match[str]) -> str:
        words, target = found[1], found[2].partition("#")[0]
        here = not target or ":" in target or (page.parent / target).exists()
        return found[0] if here else words

    text = re.sub(r"(?<!!)\[((?:[^\]\[]|\[[^\]]*\])*)\]\(([^)\s]+)\)", plain, page.read_text(encoding="utf-8"))
    return text


if __name__ == "__main__":
    main()
