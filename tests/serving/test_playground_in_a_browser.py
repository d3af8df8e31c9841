"""The playground in a real browser: what is asked and shown, copied, saved and read by others."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tillerman.serving.engines.local import LocalEngine
from tillerman.serving.settings import read_settings

from .. import tiny
from . import made

pytestmark = pytest.mark.slow

AXE = "axe.min.js"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium of the system; its sandbox needs rights that containers do not have."""
    driver = pytest.importorskip("playwright.sync_api", reason="needs: pip install playwright")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with driver.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


def beside(work: Coroutine[Any, Any, None]) -> None:
    """In another thread: the browser's driver has an event loop in this one."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


def answered(page: Any) -> None:
    page.locator("#status", has_text=re.compile("^(Answered|Not all)")).wait_for(timeout=60_000)


@contextmanager
def served(path: Path, text: str = "") -> Iterator[str]:
    """The tiny model behind a door; its address."""
    engine = LocalEngine(tiny.opened())
    beside(engine.start())
    try:
        with made.listening(made.opened(path, engine, text, audited=False)) as url:
            yield url
    finally:
        beside(engine.close())


def test_in_a_browser_a_slider_changes_the_answer_and_a_refusal_is_told(tmp_path: Path, browser: Any) -> None:
    with served(tmp_path, "[policy]\nmax_total_dose = 0.8\n") as url:
        page, logged = browser.new_page(viewport={"width": 390, "height": 844}), list[str]()
        page.on("console", lambda message: logged.append(message.text))
        page.on("pageerror", lambda error: logged.append(str(error)))
        page.goto(url)
        texts, receipts = page.locator(".text"), page.locator(".receipt")
        page.locator("#dose-1").wait_for()
        page.locator("#clear").click()
        page.locator("#send").click()
        answered(page)
        plain = texts.nth(0).inner_text()
        assert plain and texts.nth(1).inner_text() == plain and "nothing was applied" in receipts.nth(1).inner_text()

        page.locator("#dose-1").focus()
        for _ in range(7):
            page.keyboard.press("PageUp")
        page.locator("#send").click()
        answered(page)
        page.locator("#legend").wait_for()
        assert texts.nth(0).inner_text() == plain != texts.nth(1).inner_text()
        assert "honesty@0.7 add" in receipts.nth(1).inner_text()
        assert page.locator(".text span:not(.d0)").count() > 0
        texts.nth(1).focus()
        page.keyboard.press("ArrowRight")
        assert "steered" in page.locator(".token").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

        page.locator("#save").click()
        page.reload()
        page.locator("#dose-1").wait_for()
        page.locator("#open").click()
        assert "honesty@0.7 add" in receipts.nth(1).inner_text() and logged == []

        page.locator("#dose-1").focus()
        for _ in range(3):
            page.keyboard.press("PageUp")
        page.locator("#send").click()
        answered(page)
        assert "all together reach dose 1 " in page.locator("#problem").inner_text()
        assert texts.nth(1).inner_text() == "" and texts.nth(0).inner_text() == plain
        page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_a_browser_axe_finds_no_fault_and_a_key_is_asked_for(tmp_path: Path, browser: Any, scheme: str) -> None:
    axe = pytest.importorskip("axe_core_python", reason="needs: pip install axe-core-python")
    (script,) = Path(axe.__file__).parent.rglob(AXE)
    door = made.opened(tmp_path, text=made.keyed(), audited=False)
    with made.listening(door) as url:
        # What axe runs the page's policy forbids, as it should; here it is set aside.
        around = browser.new_context(color_scheme=scheme, bypass_csp=True)
        page = around.new_page()
        page.goto(url)
        page.locator("#key").fill(made.KEY)
        page.get_by_text("Use this key").click()
        page.locator("#dose-0").wait_for()
        assert page.locator(".artefact").count() == 1  # calm is not for this key
        page.locator("#send").click()
        answered(page)
        page.add_script_tag(content=script.read_text())
        found = page.evaluate("axe.run().then(told => told.violations.map(one => [one.id, one.nodes[0].html]))")
        assert found == []
        assert page.evaluate("[Object.values(sessionStorage), Object.values(localStorage)]") == [[made.KEY], []]
        around.close()


PROMPT = 'It\'s "the" cat\\dog\nand ünder'


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl here")
def test_what_is_copied_gives_the_answer_that_is_shown(tmp_path: Path, browser: Any) -> None:
    with served(tmp_path) as url:
        page = browser.new_page()
        page.goto(url)
        page.locator("#dose-1").wait_for()
        page.locator("#clear").click()
        page.locator("summary").click()
        page.locator("#form").select_option("text")
        page.locator("#tokens").fill("8")
        page.locator("#prompt").fill(PROMPT)
        page.locator("#dose-1").focus()
        for _ in range(6):
            page.keyboard.press("PageUp")
        page.locator("#send").click()
        answered(page)
        shown = page.locator(".text").nth(1).inner_text()
        assert "honesty@0.6 add" in page.locator(".receipt").nth(1).inner_text()

        def copied(form: str) -> str:
            page.get_by_label(f"Copy Column A as {form}").click()
            return str(page.locator("#copied").text_content())

        curl, *rest = shlex.split(copied("curl"))
        told = json.loads(subprocess.run([curl, "-s", *rest], capture_output=True, check=True).stdout)
        assert told["choices"][0]["text"].strip() == shown.strip() and shown.strip()
        assert told["steering"]["applied"][0]["dose"] == pytest.approx(0.6)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            exec(compile(copied("Python"), "copied", "exec"), {})
        assert shown.strip() in said.getvalue() and "'artefact': 'honesty'" in said.getvalue()
        (tmp_path / "copied.toml").write_text(copied("serve.toml"))
        assert read_settings(tmp_path / "copied.toml").presets == {"mine": "honesty@0.6"}
        page.close()


def test_sessions_are_exported_and_imported_by_another_browser(tmp_path: Path, browser: Any) -> None:
    with served(tmp_path) as url:
        first, second = browser.new_context(), browser.new_context()
        page = first.new_page()
        page.goto(url)
        page.locator("#dose-1").wait_for()
        page.locator("#prompt").fill("the cat")
        page.locator("#send").click()
        answered(page)
        shown = page.locator(".text").all_inner_texts()
        page.locator("#save").click()
        with page.expect_download() as download:
            page.locator("#export").click()
        file = tmp_path / "sessions.json"
        download.value.save_as(file)

        page = second.new_page()
        page.goto(url)
        page.locator("#dose-1").wait_for()
        assert page.locator("#open").is_disabled()
        page.locator("#import").set_input_files(file)
        page.locator("#open:enabled").click()
        assert page.locator("#prompt").input_value() == "the cat"
        assert page.locator(".text").all_inner_texts() == shown and shown[0]
        wrong = tmp_path / "wrong.json"
        for text in ("no JSON", "{}", '[{"name": "x", "fields": {}, "columns": [{}]}]', '[{"columns": "<b>"}]'):
            wrong.write_text(text)
            page.locator("#import").set_input_files(wrong)
            page.locator("#problem", has_text="wrong.json holds no sessions of this page").wait_for()
            page.locator("#import").set_input_files(file)  # and the fault is gone
            page.locator("#problem:empty").wait_for(state="attached")
        first.close()
        second.close()
