"""sta, sae-difference and sae-feature: planted atoms are found, and formulas agree with hand computations."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tests import sae_files as made

from tillerman.core.artefact import Artefact, load, save
from tillerman.core.cell import Cell
from tillerman.core.errors import FitError, UnknownNameError, UsageError
from tillerman.core.hookpoint import HookPoint
from tillerman.methods.fit import Activations, shuffled
from tillerman.methods.registry import METHODS, method, methods
from tillerman.methods.sae.base import SaeMethod
from tillerman.methods.sae.encoded import Encoded
from tillerman.methods.sae.feature import roc_areas
from tillerman.models.sae.latents import Latents
from tillerman.models.sae.quality import Quality
from tillerman.pipeline.experiment import Experiment

from .. import tiny

D, F, P = 24, 12, HookPoint(1)
SAE = made.orthogonal(D, F)
QUALITY = Quality(4.0, 0.1, 0.0, 100)
NAMES = sorted(name for name, kind in METHODS.items() if issubclass(kind, SaeMethod))
every = pytest.mark.parametrize("name", NAMES)
UP, DOWN, LOUD = 3, 7, 5  # planted: fires more often, less often, and only louder


def _encoded(positive, negative, paired=True, sae=SAE):
    """Activations and what the autoencoder makes of them, one token per row."""
    sides = [Latents(sae.encode(rows), sae.encode(rows)) for rows in (positive, negative)]
    return Activations({P: positive}, {P: negative}, {P: 1.0}, paired), Encoded(sae, QUALITY, *sides)


def _planted(n=200, seed=0):
    """Rows of a few atoms each. ``UP`` fires on 80 against 20 % of the rows, ``DOWN`` the other way round, and
    ``LOUD`` three times as strongly on the positive side, on hardly more rows."""
    g = torch.Generator().manual_seed(seed)

    def side(up, down, loud, loud_rows):
        chance = torch.full((F,), 0.3)
        chance[[UP, DOWN]] = torch.tensor([up, down])
        fires = torch.rand(n, F, generator=g) < chance
        fires[:, LOUD] = torch.arange(n) < loud_rows
        size = 1 + torch.rand(n, F, generator=g)
        size[:, LOUD] *= loud
        return (fires * size) @ SAE.w_dec + 0.01 * torch.randn(n, D, generator=g)

    return _encoded(side(0.8, 0.2, 3.0, n // 2 + 1), side(0.2, 0.8, 1.0, n // 2))


def _fit(name, sides, **options):
    return METHODS[name](**options).vector(*sides, tiny.provenance(width=D, method=name))


def _swapped(sides):
    a, e = sides
    turned = replace(e, positive=e.negative, negative=e.positive)
    return Activations(a.negative, a.positive, a.stream_norms, a.paired), turned


def _rows(sides):
    return sides[0].positive[P], sides[0].negative[P]


def _unit(v):
    return v / v.norm()


def test_sta_finds_the_atoms_that_were_planted_and_drops_the_one_that_is_only_louder():
    found = _fit("sta", _planted(), share=2 / F).provenance.found
    assert {row["atom"] for row in found["top"]} == {UP, DOWN}
    assert found["masks"] == {"amplitude": 3, "frequency": 3, "both": 2}
    signs = {row["atom"]: (row["amplitude"] > 0, row["frequency"] > 0) for row in found["top"]}
    assert signs == {UP: (True, True), DOWN: (False, False)}


def test_amplitude_alone_keeps_the_louder_atom_and_frequency_alone_does_not():
    kept = {
        modes: {row["atom"] for row in _fit("sta", _planted(), share=2 / F, modes=modes).provenance.found["top"]}
        for modes in ("amplitude", "frequency")
    }
    assert kept["amplitude"] == {UP, DOWN, LOUD}
    assert {UP, DOWN} < kept["frequency"] and LOUD not in kept["frequency"]


def test_the_papers_rule_keeps_only_atoms_that_go_up():
    found = _fit("sta", _planted(), share=2 / F, rule="paper").provenance.found
    assert UP in {row["atom"] for row in found["top"]}
    assert all(row["amplitude"] > 0 and row["frequency"] > 0 for row in found["top"])
    vector = _fit("sta", _planted(), share=2 / F, rule="paper").directions[P]
    assert abs(float(_unit(vector) @ SAE.w_dec[DOWN])) < 1e-4


def _sta_by_hand(positive, negative, w_dec, share, modes, rule):
    """Atom by atom, in numpy."""
    f = positive.shape[1]
    count = min(f, int(share * f) + 1)
    amplitude = positive.mean(0) - negative.mean(0)
    n, m = len(positive), len(negative)
    counts = [((positive[:, i] > 0).sum(), (negative[:, i] > 0).sum()) for i in range(f)]
    frequency = [float(Fraction(int(up), n) - Fraction(int(down), m)) for up, down in counts]
    kept = {}
    for name, values in (("amplitude", amplitude), ("frequency", frequency)):
        if rule == "paper":
            score = [max(0.0, v) for v in values]
        elif name == "amplitude":
            score = [abs(a) for a in amplitude]
        else:
            score = [abs(w) if a * w > 0 else 0.0 for a, w in zip(amplitude, frequency, strict=True)]
        least = sorted(score)[-count]
        kept[name] = {i for i in range(f) if score[i] > 0 and score[i] >= least}
    mask = kept["amplitude"] & kept["frequency"] if modes == "both" else kept[modes]
    return sum((amplitude[i] * w_dec[i] for i in sorted(mask)), np.zeros(w_dec.shape[1])), mask


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.05, 0.35, 1.0]),
    st.sampled_from(["both", "amplitude", "frequency"]),
    st.sampled_from(["signed", "paper"]),
)
def test_sta_is_its_formula(seed, share, modes, rule):
    g = torch.Generator().manual_seed(seed)
    positive, negative = (torch.randn(n, D, generator=g) + 0.3 for n in (10, 10))
    activations = _encoded(positive, negative)
    e, options = activations[1], {"share": share, "modes": modes, "rule": rule}
    direction, mask = _sta_by_hand(
        e.positive.mean.double().numpy(),
        e.negative.mean.double().numpy(),
        SAE.w_dec.double().numpy(),
        share,
        modes,
        rule,
    )
    if not mask:
        with pytest.raises(FitError, match="no atom of made passes"):
            _fit("sta", activations, **options)
        return
    found = _fit("sta", activations, **options)
    gap = (positive - negative).mean(0)
    assert found.provenance.found["kept"] == len(mask)
    assert found.norm(P) == pytest.approx(float(gap.norm()), rel=1e-4)  # as long as the CAA vector
    ours = found.directions[P].double().numpy()
    np.testing.assert_allclose(ours / np.linalg.norm(ours), direction / np.linalg.norm(direction), atol=1e-4)


def test_equal_differences_of_counts_are_ties():
    """3 of 10 against 2 of 10, and 1 of 10 against none: as fractions they differ in the last bit."""
    fires = torch.zeros(2, 10, 2)
    fires[0, :3, 0], fires[1, :2, 0], fires[0, :1, 1] = 1.0, 1.0, 1.0
    sides = [Latents(rows, rows) for rows in fires]
    frequency = Encoded(SAE, QUALITY, *sides).frequency
    assert 3 / 10 - 2 / 10 != 1 / 10 - 0 / 10
    assert frequency[0] == frequency[1] == pytest.approx(0.1)


def test_atoms_that_never_fire_are_not_kept_even_where_all_are_asked_for():
    silent = made.orthogonal(D, F, threshold=100.0)
    sae = replace(silent, activation=replace(silent.activation, threshold=torch.tensor([0.5] * 4 + [100.0] * (F - 4))))
    base = _planted()
    found = _fit("sta", _encoded(*_rows(base), sae=sae), share=1.0).provenance.found
    assert 0 < found["kept"] <= 4


def test_the_decoders_bias_is_added_only_when_asked_for():
    shifted = replace(SAE, b_dec=torch.ones(D))
    base = _planted()
    plain = _fit("sta", _encoded(*_rows(base), sae=shifted))
    biased = _fit("sta", _encoded(*_rows(base), sae=shifted), decoder_bias=True)
    assert float((_unit(biased.directions[P]) - _unit(plain.directions[P])) @ torch.ones(D)) > 0.1


def test_the_difference_is_the_caa_vector_where_the_autoencoder_explains_everything():
    sae = replace(made.basis(D), point=P)
    g = torch.Generator().manual_seed(0)
    positive, negative = torch.randn(20, D, generator=g) + 1, torch.randn(20, D, generator=g)
    found = _fit("sae-difference", _encoded(positive, negative, sae=sae))
    assert torch.allclose(found.directions[P], (positive - negative).mean(0), atol=1e-5)
    assert found.provenance.found["cosine_with_caa"] == pytest.approx(1.0, abs=1e-5)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 9))
def test_roc_areas_count_pairs_of_rows(seed, n, m):
    g = torch.Generator().manual_seed(seed)
    positive, negative = (torch.randint(0, 4, (k, 5), generator=g).float() for k in (n, m))
    pairs = positive[:, None] - negative[None]
    wanted = ((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean((0, 1))
    assert torch.allclose(roc_areas(positive, negative), wanted)


def test_the_atom_that_tells_the_sides_apart_is_found_and_as_long_as_its_largest_activation():
    activations = _planted()
    vector = _fit("sae-feature", activations)
    assert vector.provenance.found["feature"] == UP
    peak = float(torch.cat([activations[1].positive.peak, activations[1].negative.peak])[:, UP].max())
    assert torch.allclose(vector.directions[P], peak * SAE.w_dec[UP], atol=1e-5)
    assert vector.operator == "add"


def test_an_atom_is_taken_by_number_or_by_label():
    sae = replace(SAE, labels={4: "red cars", 5: "red boats", 6: "cars"})
    base = _planted()
    ask = lambda feature: _fit("sae-feature", _encoded(*_rows(base), sae=sae), feature=feature)  # noqa: E731
    for feature, atom in (("9", 9), ("boats", 5), ("RED CARS", 4), ("cars", 6)):
        assert ask(feature).provenance.found["feature"] == atom
    assert ask("boats").provenance.found["top"][0]["label"] == "red boats"
    for feature, said in (
        ("12", r"made has atoms 0..11"),
        ("red", "2 labels have these words: 4 'red cars'; 5 'red"),
        ("ship", "0 labels have these words"),
    ):
        with pytest.raises(UsageError, match=said):
            ask(feature)
    with pytest.raises(UsageError, match="no labels are known; give labels=FILE"):
        _fit("sae-feature", _encoded(*_rows(base)), feature="red")


def test_an_atom_that_never_fires_has_no_strength():
    base = _planted()
    quiet = replace(SAE, activation=replace(SAE.activation, threshold=torch.full((F,), 100.0)))
    with pytest.raises(FitError, match="atom 2 of made is never active on these items"):
        _fit("sae-feature", _encoded(*_rows(base), sae=quiet), feature="2")


# The contract of every method.


@pytest.mark.parametrize("name", ["sta", "sae-difference"])
def test_the_sign_flips_when_the_sides_are_swapped(name):
    activations, more = _planted(), {"share": 0.5} if name == "sta" else {}
    there, back = _fit(name, activations, **more), _fit(name, _swapped(activations), **more)
    assert torch.allclose(there.directions[P], -back.directions[P], atol=1e-4)


def test_a_feature_found_on_swapped_sides_is_the_one_that_went_down():
    assert _fit("sae-feature", _swapped(_planted())).provenance.found["feature"] == DOWN


@every
def test_the_inputs_stay_and_the_same_input_gives_the_same_vector(name):
    activations = _planted()
    e = activations[1]
    tensors = [activations[0].positive[P], e.positive.mean, e.negative.peak, e.sae.w_dec]
    copies = [t.clone() for t in tensors]
    one, two = _fit(name, activations), _fit(name, activations)
    assert all(torch.equal(a, b) for a, b in zip(copies, tensors, strict=True))
    assert torch.equal(one.directions[P], two.directions[P])


@every
def test_identical_sides_are_refused_with_the_remedy(name):
    rows, _ = _rows(_planted())
    with pytest.raises(FitError, match="check that the labels differ"):
        _fit(name, _encoded(rows, rows))


@every
def test_activations_that_are_not_finite_are_refused(name):
    base = _planted()
    broken = _rows(base)[0].clone()
    broken[0, 0] = torch.nan
    with pytest.raises(FitError, match="the positive side has activations that are not finite"):
        _fit(name, _encoded(broken, _rows(base)[1]))


@every
@pytest.mark.parametrize("operator", ["add", "clamp"])
def test_a_fitted_vector_is_saved_and_loaded_with_its_report_and_its_atom(name, operator, tmp_path):
    vector = _fit(name, _planted(), **({"operator": operator} if name == "sae-feature" else {}))
    save(tmp_path / "v.safetensors", Artefact(vector, Cell.of(vector)))
    back = load(tmp_path / "v.safetensors").steering
    assert torch.equal(back.directions[P], vector.directions[P])
    assert back.provenance.found == vector.provenance.found
    assert back.operator == vector.operator == ("clamp_atom" if (name, operator) == ("sae-feature", "clamp") else "add")
    for point, atom in vector.atoms.items():
        assert torch.equal(back.atoms[point].packed(vector.directions[point]), atom.packed(vector.directions[point]))


@every
@pytest.mark.parametrize("paired", [True, False])
def test_the_shuffled_null_deals_latents_like_activations(name, paired):
    activations, encoded = _planted()
    activations = replace(activations, paired=paired)
    mixed, atoms = shuffled(activations, 3), encoded.shuffled(paired, 3)
    assert torch.equal(atoms.positive.mean, SAE.encode(mixed.positive[P]))
    assert torch.equal(atoms.negative.peak, SAE.encode(mixed.negative[P]))
    assert not torch.equal(mixed.positive[P], activations.positive[P])
    assert _fit(name, (mixed, atoms)).points == (P,)


def test_the_report_names_masks_and_top_atoms():
    lines = METHODS["sta"]().report(_fit("sta", _planted(), share=2 / F).provenance.found)
    text = "\n".join(lines)
    assert "autoencoder made (jumprelu, 12 atoms): mean L0 4.0, unexplained variance 0.10" in text
    assert "atoms that pass: 3 by amplitude, 3 by frequency, 2 by both; kept 2" in text
    assert f"{UP} (+" in text and f"{DOWN} (−" in text
    feature = "\n".join(METHODS["sae-feature"]().report(_fit("sae-feature", _planted()).provenance.found))
    assert f"atom {UP}: ROC-AUC 0." in feature


def test_methods_that_read_an_autoencoder_go_with_any_pairing_and_are_no_part_of_auto():
    assert [str(m) for m in methods("sta,caa")] == ["sta", "caa"]
    other = method("ipas-wrong+sta:sae=pilot")
    assert (other.name, other.pairing, str(other)) == ("sta", "ipas-wrong", "ipas-wrong+sta:sae=pilot")
    assert str(method("caa+sta")) == "sta"
    assert not any(isinstance(m, SaeMethod) for m in methods("auto"))


def test_an_experiment_wants_an_autoencoder_where_one_is_read():
    with pytest.raises(UsageError, match="sta reads a sparse autoencoder: --method sta:sae=PATH, or sae=pilot"):
        Experiment(method="caa,sta")
    for name, changes, said in (
        ("sta", {"rule": "other"}, "expected one of signed, paper"),
        ("sta", {"modes": "all"}, "expected one of both, amplitude, frequency"),
        ("sae-feature", {"operator": "ablate"}, "expected one of add, clamp"),
        ("sta", {"share": 0.0}, "expected a number above 0, at most 1"),
    ):
        with pytest.raises(UsageError, match=said):
            METHODS[name](sae="pilot", **changes)
    with pytest.raises(UnknownNameError, match="no pairing named 'iti'"):
        method("iti+sta")
