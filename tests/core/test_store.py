"""A store goes on where an interrupted run stopped, and only there."""

from __future__ import annotations

import time

import pytest
import torch
from safetensors.torch import save_file

from tillerman.core.errors import UsageError
from tillerman.core.store import Store


class Maker:
    """Counts how often it was asked."""

    def __init__(self, value):
        self.value, self.calls = value, 0

    def __call__(self):
        self.calls += 1
        return self.value


def test_a_second_run_of_the_same_key_finds_what_the_first_made(tmp_path):
    folder = tmp_path / "run"
    first = Store(folder, "key")
    assert first.value("a", Maker({"x": [1, 2.5, None]})) == {"x": [1, 2.5, None]}
    made = first.tensors("t", Maker({"w": torch.arange(3.0)}))
    assert torch.equal(made["w"], torch.arange(3.0))
    first.close(finished=False)

    second, again = Store(folder, "key"), Maker(None)
    assert second.value("a", again) == {"x": [1, 2.5, None]}
    assert torch.equal(second.tensors("t", again)["w"], torch.arange(3.0))
    assert again.calls == 0
    assert second.resumed == 2


def test_a_value_is_made_once_in_a_run_also_in_memory():
    store, maker = Store(None, ""), Maker(3)
    assert [store.value("a", maker), store.value("a", maker)] == [3, 3]
    assert maker.calls == 1


@pytest.mark.parametrize("cut", range(1, 16))
def test_the_line_a_killed_run_was_writing_is_dropped_and_made_again(tmp_path, cut):
    folder = tmp_path / "run"
    first = Store(folder, "key")
    first.value("a", Maker(1))
    first.value("b", Maker([2, 3]))
    first.close(finished=False)
    log = folder / "values.jsonl"
    log.write_bytes(log.read_bytes().rstrip(b"\n")[:-cut] if cut < 12 else log.read_bytes()[:-cut])

    second = Store(folder, "key")
    assert second.value("b", Maker([2, 3])) == [2, 3]
    second.value("c", Maker(4))
    second.close(finished=False)

    third, unasked = Store(folder, "key"), Maker(None)
    assert [third.value(k, unasked) for k in "abc"] == [1, [2, 3], 4]
    assert unasked.calls == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line.replace("0.25", "0.75"),
        lambda line: line.replace('"effect"', '"gain"'),
        lambda line: line.replace('"a"', '"b"'),
        lambda line: "5",
        lambda line: "null",
        lambda line: "[1, 2, 3, 4]",
        lambda line: '[["a"], 1, 2, "x"]',
        lambda line: '["a", 1, "long", 4]',
        lambda line: line[:-1] + ", 1]",
    ],
)
def test_a_line_that_was_changed_by_hand_is_one_error_that_says_what_to_delete(tmp_path, change):
    folder = tmp_path / "run"
    first = Store(folder, "key")
    first.value("a", Maker({"effect": 0.25}))
    first.value("z", Maker(1))
    first.close(finished=False)
    log = folder / "values.jsonl"
    lines = log.read_text().split("\n")
    assert "effect" in lines[1]
    log.write_text("\n".join([lines[0], change(lines[1]), *lines[2:]]))
    with pytest.raises(UsageError, match=r"values\.jsonl: line 2 is not as .*; delete that line, .* or the folder run"):
        Store(folder, "key")
    log.write_text("\n".join([lines[0], *lines[2:]]))
    store, maker = Store(folder, "key"), Maker({"effect": 0.25})
    assert store.value("a", maker) == {"effect": 0.25} and store.value("z", Maker(2)) == 1
    assert maker.calls == 1


def test_tensors_that_were_changed_are_one_error_and_those_without_a_checksum_are_made_again(tmp_path):
    folder = tmp_path / "run"
    Store(folder, "key").tensors("t", Maker({"w": torch.ones(100)}))
    path = folder / "t.safetensors"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(UsageError, match=r"t\.safetensors: it is not as the interrupted run wrote it"):
        Store(folder, "key").tensors("t", Maker({}))
    save_file({"w": torch.zeros(2)}, path, metadata={"seconds": "soon"})
    assert torch.equal(Store(folder, "key").tensors("t", Maker({"w": torch.ones(3)}))["w"], torch.ones(3))


def test_a_folder_of_lines_without_a_checksum_is_begun_anew(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "key").write_text("key")
    (folder / "values.jsonl").write_text('\n["a", 1, 0.5]\n')
    store = Store(folder, "key")
    assert store.resumed == 0 and store.value("a", Maker(2)) == 2


def test_the_name_of_a_run_that_is_no_text_is_the_name_of_another(tmp_path):
    Store(tmp_path / "run", "key").value("a", Maker(1))
    (tmp_path / "run" / "key").write_bytes(b"\xff\xfe")
    assert Store(tmp_path / "run", "key").value("a", Maker(2)) == 2


@pytest.mark.parametrize("length", [0, 4, 8, 40])
def test_a_tensor_file_that_was_cut_off_is_made_again(tmp_path, length):
    folder = tmp_path / "run"
    Store(folder, "key").tensors("t", Maker({"w": torch.ones(100)}))
    path = folder / "t.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    store, maker = Store(folder, "key"), Maker({"w": torch.zeros(2)})
    assert torch.equal(store.tensors("t", maker)["w"], torch.zeros(2))
    assert maker.calls == 1
    assert torch.equal(Store(folder, "key").tensors("t", Maker({}))["w"], torch.zeros(2))


def test_the_folder_of_another_run_is_emptied(tmp_path):
    folder = tmp_path / "run"
    first = Store(folder, "one")
    first.value("a", Maker(1))
    first.tensors("t", Maker({"w": torch.ones(2)}))
    first.close(finished=False)
    second, maker = Store(folder, "two"), Maker(2)
    assert second.resumed == 0
    assert second.value("a", maker) == 2
    assert torch.equal(second.tensors("t", Maker({"w": torch.zeros(1)}))["w"], torch.zeros(1))


def test_a_folder_that_is_no_runs_is_refused_and_left_alone(tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    with pytest.raises(UsageError, match="not the folder of an interrupted run"):
        Store(folder, "key")
    assert (folder / "chapter.txt").read_text() == "years of work"


def test_a_store_in_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        Store(tmp_path / "no" / "run", "key")


def test_a_finished_run_leaves_nothing_and_an_unfinished_one_its_pieces(tmp_path):
    for finished in (False, True):
        store = Store(tmp_path / "run", "key")
        store.value("a", Maker(1))
        store.close(finished=finished)
        assert (tmp_path / "run").exists() is not finished


def test_what_is_found_says_how_long_it_took_to_make(tmp_path):
    def slow(value):
        time.sleep(0.05)
        return value

    for folder in (tmp_path / "run", None):
        first = Store(folder, "key")
        first.value("a", lambda: slow(1))
        assert first.saved == 0
        first.value("a", Maker(None))
        assert 0.05 <= first.saved < 1
    Store(tmp_path / "run", "key").tensors("t", lambda: slow({"w": torch.ones(2)}))
    later = Store(tmp_path / "run", "key")
    later.value("a", Maker(None))
    later.tensors("t", Maker(None))
    assert 0.1 <= later.saved < 2


def test_pieces_of_other_facts_are_other_pieces_and_the_same_facts_share_theirs(tmp_path):
    store, tensors = Store(tmp_path / "run", "key"), {"w": torch.ones(2)}
    one, other = store.scoped("model", [1, 2]), store.scoped("model", [1, 3])
    assert one.value("a", Maker(1)) == 1
    assert other.value("a", Maker(2)) == 2
    assert store.value("a", Maker(3)) == 3
    assert one.scoped("b").value("a", Maker(4)) == 4
    one.tensors("t", Maker(tensors))
    unasked = Maker(None)
    assert store.scoped("model", [1, 2]).value("a", unasked) == 1
    assert torch.equal(store.scoped("model", [1, 2]).tensors("t", unasked)["w"], tensors["w"])
    assert unasked.calls == 0
    assert other.resumed == store.resumed == 1
    store.close(finished=False)
    assert Store(tmp_path / "run", "key").scoped("model", [1, 3]).value("a", unasked) == 2
