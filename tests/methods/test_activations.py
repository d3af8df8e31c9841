"""From contrast sets to activations: the right rows on the right side, read at the right site, each row once."""

from __future__ import annotations

import pytest
import torch

from tillerman.core import scratch
from tillerman.core.errors import UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.core.rows import ContrastSet, Row
from tillerman.core.store import Store
from tillerman.methods import activations
from tillerman.methods.activations import read_contrasts
from tillerman.methods.fit import fit
from tillerman.models.capture import capture

from .. import tiny

ROWS = tuple(Row(t, 1) for t in tiny.random_rows([4, 6, 3, 5, 7]))
POINTS = (HookPoint(0), HookPoint(2))
UNPAIRED = ContrastSet(ROWS[:2], ROWS[2:], paired=False)
PAIRED = ContrastSet((ROWS[4], ROWS[0], ROWS[0]), ROWS[1:4], paired=True)
SEEDS = (3, 4)
BOTH = {"one": UNPAIRED, "two": PAIRED}


def _read(opened, contrasts=BOTH, *, keep_rows, store=None, read_site="resid_post", read="last", **more):
    store = store or Store(None, "")
    return read_contrasts(
        opened,
        contrasts,
        POINTS,
        read_site=read_site,
        read=read,
        keep_rows=keep_rows,
        shuffles=SEEDS,
        store=store,
        **more,
    )


@pytest.mark.parametrize("keep_rows", [True, False])
@pytest.mark.parametrize("read", ["last", "mean"])
@pytest.mark.parametrize("site", ["resid_post", "resid_pre"])
def test_each_side_holds_its_own_rows_read_at_the_site_asked_for(opened, keep_rows, read, site):
    for name, got in _read(opened, keep_rows=keep_rows, read_site=site, read=read).items():
        contrast, activations = BOTH[name], got.activations
        rows = contrast.positive + contrast.negative
        for point in POINTS:
            source = HookPoint(point.layer, site)
            plain = capture(opened, rows, [source, point], read=read)
            sides = plain[source].split([len(contrast.positive), len(contrast.negative)])
            for ours, side in zip((activations.positive, activations.negative), sides, strict=True):
                expected = side if keep_rows else side.mean(0, keepdim=True)
                assert torch.allclose(ours[point].float(), expected, atol=1e-5)
            # the dose is about where the vector is added
            norm = float(plain[point].norm(dim=-1).mean())
            assert activations.stream_norms[point] == pytest.approx(norm, rel=1e-5)
        assert activations.paired == contrast.paired


@pytest.mark.parametrize("seed", SEEDS)
def test_means_give_the_shuffled_null_that_the_rows_give(opened, seed):
    rows, means = (_read(opened, keep_rows=keep) for keep in (True, False))
    for name in BOTH:
        a, b = (fit(one[name].shuffled(seed), "mean_difference", tiny.provenance()).directions for one in (rows, means))
        for point in POINTS:
            assert torch.allclose(a[point], b[point], atol=1e-5)


@pytest.mark.parametrize("keep_rows", [True, False])
def test_rows_in_many_chunks_give_what_one_chunk_gives(opened, keep_rows, monkeypatch):
    rows = [Row(t) for t in tiny.random_rows([3] * 150)]
    contrasts = {"many": ContrastSet(tuple(rows[:70]), tuple(rows[70:]), paired=False)}
    one = _read(opened, contrasts, keep_rows=keep_rows)["many"].activations
    monkeypatch.setattr(activations, "CHUNK_BYTES", 1)  # 64 rows at least
    ran = []
    many = _read(opened, contrasts, keep_rows=keep_rows, progress=ran.append)["many"].activations
    assert sum(ran) == 150
    for point in POINTS:
        assert torch.allclose(one.positive[point].float(), many.positive[point].float(), atol=1e-5)
        assert one.stream_norms[point] == pytest.approx(many.stream_norms[point], rel=1e-6)


@pytest.mark.parametrize("keep_rows", [True, False])
def test_finished_chunks_are_stored_and_not_run_again_and_shared_rows_run_once(opened, tmp_path, keep_rows):
    runs = []
    for _ in range(2):
        store, done = Store(tmp_path / "run", "key"), []
        got = _read(opened, keep_rows=keep_rows, store=store, progress=done.append)
        store.close(finished=False)
        runs.append((got, sum(done)))
    assert [n for _, n in runs] == [5, 0]  # eleven places, five rows
    for name in BOTH:
        first, second = (got[name].activations.positive[POINTS[1]] for got, _ in runs)
        assert torch.equal(first, second)


def test_rows_that_memory_would_not_hold_are_kept_in_a_file(opened, monkeypatch, tmp_path):
    plain = _read(opened, keep_rows=True)["two"].activations
    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(tmp_path))
    mapped = _read(opened, keep_rows=True)["two"].activations
    for point in POINTS:
        assert torch.equal(plain.positive[point], mapped.positive[point])
    assert not list(tmp_path.iterdir())  # the file has no name any more


def test_rows_that_the_disk_would_not_hold_are_refused_with_the_remedies(monkeypatch):
    monkeypatch.setattr(scratch, "IN_MEMORY", 0)
    with pytest.raises(UsageError, match=r"fewer layers or items.*mean_difference.*TMPDIR"):
        scratch.scratch(1000, 10**9, 4096)
