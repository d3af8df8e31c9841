"""Make the pictures of README anew, in a browser: the demo's page and a behaviour's, of ``docs/logs/demo.json``, and
the overview of a real model, of ``benchmarks/real_models``.

``python tools/docs/pictures.py`` (``make pictures``) needs Chromium (``apt-get install chromium``) and no network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
sys.path.insert(0, str(ROOT / "tools" / "real_models"))

from first import taken  # noqa: E402
from measured import unpack  # noqa: E402
from page import LOGS  # noqa: E402

from packed import all_of  # noqa: E402
from tillerman.logs.evaluation import EvaluationLog  # noqa: E402
from tillerman.reports.pages import render_demo_page, render_report  # noqa: E402

LOG = ROOT / "docs/logs/demo.json"
WIDTH = 940
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("no Chromium here; install one, as with apt-get install chromium")
    logs = [EvaluationLog.from_json(values) for values in json.loads(LOG.read_text(encoding="utf-8"))]
    real = [one.log for one in taken(all_of(LOGS, unpack)) if one.log is not None]
    pages = {
        "overview": (render_demo_page(logs), 960),
        "behaviour": (render_report(logs[0]), 2040),
        "real-model": (render_demo_page(real), 960),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, (page, height) in pages.items():
            file = Path(folder) / f"{name}.html"
            file.write_text(page, encoding="utf-8")
            made = ROOT / f"docs/images/{name}.png"
            flags = [f"--user-data-dir={folder}/{name}", f"--screenshot={made}", f"--window-size={WIDTH},{height}"]
            subprocess.run([browser, *FLAGS, *flags, file.as_uri()], check=True, capture_output=True, timeout=120)
            sys.stdout.write(f"written: {made.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()
