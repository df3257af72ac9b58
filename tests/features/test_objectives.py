"""The 19 objectives and the map of ratings into 0..1."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from armorm.features.objectives import BOOLEAN, OBJECTIVES, VERBOSITY, Scale
from armorm.features.sources import SOURCES


def test_there_are_19_in_the_published_order() -> None:
    assert len(OBJECTIVES) == len(set(OBJECTIVES)) == 19
    assert OBJECTIVES.index(VERBOSITY) == 4
    assert OBJECTIVES[10] == "beavertails-is_safe"
    assert OBJECTIVES[-1] == "code-readability"


def test_bin_centres_as_the_authors_state_them() -> None:
    assert [Scale(0, 4).to_value(raw) for raw in range(5)] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9])
    assert Scale(1, 10).to_value(10) == pytest.approx(0.95)
    assert Scale(1, 10).to_value(1) == pytest.approx(0.05)
    assert (BOOLEAN.to_value(0), BOOLEAN.to_value(1)) == (0, 1)


SCALES = sorted({scale for source in SOURCES.values() for scale in source.scales.values()}, key=str)


@given(st.sampled_from([*SCALES, Scale(0, 100), Scale(-3, 3, "min_max")]), st.data())
def test_the_map_is_invertible(scale: Scale, data: st.DataObject) -> None:
    raw = data.draw(st.sampled_from([0.0, 1.0]) if scale.rule == "boolean" else st.floats(scale.lo, scale.hi))
    assert raw in scale
    assert 0 <= scale.to_value(raw) <= 1
    assert scale.to_raw(scale.to_value(raw)) == pytest.approx(raw, abs=1e-9)


@given(st.sampled_from([*SCALES, Scale(0, 100), Scale(-3, 3, "min_max")]), st.integers(0, 10**6))
def test_a_rating_comes_back_exactly(scale: Scale, step: int) -> None:
    """Whole, half and decimal ratings on every scale."""
    if scale.rule == "boolean":
        raw = float(step % 2)
    else:
        raw = min(round(scale.lo + step * (scale.hi - scale.lo) / 10**6, 4), scale.hi)
    assert scale.to_raw(scale.to_value(raw)) == raw


@pytest.mark.parametrize("ends", [(1, 1), (5, 1), (float("nan"), 1), (0, float("inf")), (-1e308, 1e308), (0, 10**400)])
def test_a_scale_has_two_ends(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{ends[0]!s:.20}..{ends[1]!s:.20};")):
        Scale(*ends)


def test_every_source_rates_known_objectives() -> None:
    for source in SOURCES.values():
        assert source.scales.keys() <= set(OBJECTIVES)


@pytest.mark.parametrize("ends", [(1, 2), (0, 5), (-1, 1)])
def test_booleans_are_0_and_1(ends: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=rf"{ends[0]}\.\.{ends[1]} .*\bbooleans;.*\b0\b.*\b1\b"):
        Scale(*ends, "boolean")
