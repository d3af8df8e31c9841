"""What the system refuses, and signals: real programs, real devices, one line each."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import FileError, UsageError
from tillerman.core.files import in_turn, make_folder, replacing, write_text
from tillerman.core.provenance import Card

from .. import tiny
from ..reports.example_log import example_log

FULL = Path("/dev/full")
MAIN = [sys.executable, "-c", "from tillerman.cli.app import main; main()"]
pytestmark = pytest.mark.skipif(not FULL.exists(), reason="a system without /dev/full")


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "a.safetensors"
    report = json.loads(json.dumps(example_log().to_json()))
    save(path, Artefact(tiny.vector(0), Cell.of(tiny.vector(0)), card=Card(report)))
    return path


def told(done: subprocess.CompletedProcess[str]) -> str:
    """The one line on the error stream."""
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("error")]
    return line


def shell(command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    quoted = " ".join(f"'{word}'" for word in (*MAIN, *arguments))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.replace("PROGRAM", quoted)], capture_output=True, text=True
    )


@pytest.mark.slow
def test_a_full_output_is_one_error_and_files_are_written_all_the_same(measured: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = shell("PROGRAM > /dev/full", "show", str(measured), "--report", str(page))
    assert done.returncode == 1 and "the output cannot be written: the disk is full; make room" in told(done)
    assert example_log().data_name in page.read_text()
    assert "the disk is full" in told(shell("PROGRAM > /dev/full", "--help"))


def test_a_closed_output_is_told_before_any_work(measured: Path) -> None:
    done = shell("PROGRAM >&-", "show", str(measured))
    assert done.returncode == 2 and "the standard output is closed" in told(done) and "> FILE" in told(done)


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_output_quietly(measured: Path) -> None:
    done = shell("PROGRAM | head -1", "show", str(measured))
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (141, 1, "")


@pytest.mark.slow
def test_a_report_that_cannot_be_written_costs_no_result(measured: Path) -> None:
    done = shell("PROGRAM", "show", str(measured), "--report", "/dev/full")
    assert done.returncode == 1 and told(done).startswith("error: /dev/full: the disk is full")
    assert example_log().data_name in done.stdout
    assert FULL.is_char_device()


@pytest.mark.slow
def test_an_output_without_the_letters_spells_them_out(measured: Path) -> None:
    done = shell("PYTHONIOENCODING=ascii PROGRAM", "show", str(measured))
    assert done.returncode == 0 and done.stdout.isascii()


NAMES: list[tuple[str, Callable[[Path], Path], str]] = [
    ("a long name", lambda folder: folder / ("x" * 300), "the name is too long"),
    ("a circle", lambda folder: circle(folder / "a"), "lead in a circle"),
    ("a path through a file", lambda folder: through_file(folder), "does not exist"),
    ("a folder", lambda folder: folder, "is a folder"),
]


def circle(path: Path) -> Path:
    path.symlink_to(path.name)
    return path


def through_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "page.html"


@pytest.mark.parametrize(("name", "make", "said"), NAMES, ids=[name for name, _, _ in NAMES])
def test_a_path_that_cannot_be_written_is_one_error(name, make, said, tmp_path: Path) -> None:
    for act in (lambda path: write_text(path, "x"), lambda path: save(path, some())):
        path = make(tmp_path) if not (tmp_path / "a").is_symlink() else tmp_path / "a"
        with pytest.raises((FileError, UsageError), match=said) as refused:
            act(path)
        assert len(str(refused.value)) < 600


def some() -> Artefact:
    return Artefact(tiny.vector(0), Cell.of(tiny.vector(0)))


@pytest.mark.slow
def test_a_file_that_grows_too_large_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    """As on a full disk: the system stops the writing in the middle."""
    code = (
        "import sys, torch, tillerman\nfrom tillerman.core.files import write_text\nfrom pathlib import Path\n"
        "from tests import tiny\nfrom tests.cli.test_system import some\n"
        "for act in (lambda p: tillerman.save(p, some()), lambda p: write_text(p, 'x' * 9000)):\n"
        "    try: act(Path(sys.argv[1]))\n"
        "    except tillerman.FileError as error: print(error)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        cwd=root,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600)),
    )
    assert done.stdout.count("file: the system allows no file of this size") == 2, done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told_before_any_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(FileError, match="read-only; name a file in a folder of yours"):
        write_text(tmp_path / "a", "x")


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    target, link = tmp_path / "far" / "target", tmp_path / "link"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(Path("far") / "target")
    write_text(link, "new")
    assert link.is_symlink() and target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    dangling = tmp_path / "dangling"
    dangling.symlink_to("new-one")
    save(dangling, some())
    assert dangling.is_symlink() and load(tmp_path / "new-one").steering.points == some().steering.points


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    write_text(pipe, "through")
    assert reader.communicate(timeout=20)[0] == b"through"
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE)
    save(pipe, some())
    (tmp_path / "copy").write_bytes(reader.communicate(timeout=20)[0])
    assert load(tmp_path / "copy").cell == some().cell


def test_devices_are_written_to() -> None:
    write_text(Path("/dev/null"), "x")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(FileError, match="/dev/full: the disk is full"):
        write_text(FULL, "x")


def test_a_block_that_fails_leaves_a_device_alone(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), replacing(Path("/dev/null")):
        raise RuntimeError("inside")


def test_a_file_in_a_folders_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        make_folder(tmp_path / "file")


def test_every_step_is_taken_and_the_first_error_told() -> None:
    taken: list[str] = []

    def fails(words: str) -> None:
        taken.append(words)
        raise FileError(words)

    with pytest.raises(FileError, match=r"^one$"):
        in_turn(lambda: fails("one"), lambda: taken.append("two"), lambda: fails("three"))
    assert taken == ["one", "two", "three"]


FIT = ["fit", "sample:agreeableness", "--method", "caa", "--limit", "150", "--layers", "3,4", "-o", "v.safetensors"]


def listens() -> None:
    """Also where the tests themselves run in the background of a shell, which has its children ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(arguments: list[str], folder: Path, ready: Callable[[], bool]) -> subprocess.Popen[str]:
    running = subprocess.Popen([*MAIN, *arguments], cwd=folder, text=True, stdout=-1, stderr=-1, preexec_fn=listens)
    until = time.monotonic() + 240
    while not ready() and running.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    return running


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_fit_with_the_line_that_says_how_to_go_on(number: int, code: int, tmp_path: Path) -> None:
    partial = tmp_path / "v.safetensors.partial"
    pieces = partial / "values.jsonl"
    running = started(FIT, tmp_path, lambda: pieces.exists() and pieces.stat().st_size > 0)
    running.send_signal(number)
    said = running.communicate(timeout=120)[1]
    assert running.returncode == code, said
    assert "stopped; finished work is kept in v.safetensors.partial: run the same command to go on" in said
    assert "Traceback" not in said and not (tmp_path / "v.safetensors").exists()
    again = subprocess.run([*MAIN, *FIT], cwd=tmp_path, text=True, capture_output=True)
    assert again.returncode in (0, 3) and "resuming from" in again.stderr, again.stderr
    assert load(tmp_path / "v.safetensors").card is not None and not partial.exists()


def test_a_signal_before_any_work_says_that_nothing_is_kept(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "slow.toml")  # the command waits for its configuration
    with (
        subprocess.Popen(
            [*MAIN, "fit", "sample:agreeableness", "--config", "slow.toml"],
            cwd=tmp_path,
            text=True,
            stdout=-1,
            stderr=-1,
        ) as running,
        (tmp_path / "slow.toml").open("w"),
    ):  # opens when the reader is there
        time.sleep(0.2)
        running.send_signal(signal.SIGTERM)
        said = running.communicate(timeout=60)[1]
    assert running.returncode == 143
    assert said.strip() == "stopped; nothing is kept of unfinished work: run the same command to begin again"


def test_a_signal_that_was_ignored_stays_ignored() -> None:
    code = (
        "import signal, os\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from tillerman.cli.stopping import stoppable\n"
        "with stoppable(): os.kill(os.getpid(), signal.SIGINT)\nprint('went on')"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "went on\n"
