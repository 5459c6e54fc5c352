import math
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from studies.statistics.flips import Flip, lead_changes

NAN = math.nan


def test_the_lead_changes_where_the_curves_cross() -> None:
    curves = {"adamw": [0.5, 0.6, 0.7, 0.8], "sgd": [0.1, 0.5, 0.75, 0.9]}
    assert lead_changes(curves, [1, 2, 4, 8], direction="maximize") == (
        Flip(trials=4, before="adamw", after="sgd"),
    )
    assert (
        lead_changes({a: [-v for v in c] for a, c in curves.items()}, [1, 2, 4, 8], direction="minimize")[
            0
        ].trials
        == 4
    )


def test_an_equal_value_does_not_take_the_lead() -> None:
    assert lead_changes({"a": [1, 2, 3], "b": [0, 2, 3]}, [1, 2, 3], direction="maximize") == ()
    assert lead_changes({"a": [1, 2], "b": [1, 2]}, [1, 2], direction="maximize") == ()


def test_leads_within_the_noise_are_ignored() -> None:
    curves = {"a": [0.50, 0.60, 0.70], "b": [0.40, 0.61, 0.72]}
    assert lead_changes(curves, [1, 2, 4], direction="maximize", margin=0.03) == ()
    # It leads from 2 on, but only the value at 4 exceeds the noise.
    assert lead_changes(curves, [1, 2, 4], direction="maximize", margin=0.015) == (
        Flip(trials=2, before="a", after="b"),
    )


def test_a_short_lead_is_ignored() -> None:
    a = [10.0, 10, 10, 10, 10, 10]
    b = [0.0, 0, 11, 0, 0, 0]
    assert lead_changes({"a": a, "b": b}, [1, 99, 100, 101, 200, 400], direction="maximize") == ()
    assert len(lead_changes({"a": a, "b": b}, [1, 2, 3, 4, 5, 6], direction="maximize")) == 2


def test_a_lead_at_the_end_is_reported_however_short() -> None:
    assert lead_changes({"a": [1, 1], "b": [0, 2]}, [99, 100], direction="maximize") == (
        Flip(trials=100, before="a", after="b"),
    )


def test_an_arm_without_a_value_does_not_lead() -> None:
    assert lead_changes({"a": [NAN, 1, 1], "b": [NAN, NAN, 2]}, [1, 2, 3], direction="maximize") == (
        Flip(trials=3, before="a", after="b"),
    )
    assert lead_changes({"a": [NAN], "b": [NAN]}, [1], direction="maximize") == ()
    assert lead_changes({}, [1], direction="maximize") == ()


@given(
    st.integers(1, 12).flatmap(
        lambda k: st.lists(st.lists(st.integers(0, 4), min_size=k, max_size=k), min_size=1, max_size=4)
    )
)
def test_flips_lead_from_the_first_leader_to_one_of_the_last(rows: list[list[int]]) -> None:
    curves = {f"arm{i}": np.maximum.accumulate(row) for i, row in enumerate(rows)}
    trials = list(range(1, len(rows[0]) + 1))
    found = lead_changes(curves, trials, direction="maximize", lasting=1.0)
    for flip, following in pairwise(found):
        assert flip.after == following.before
        assert flip.trials < following.trials
    for flip in found:
        at = flip.trials - 1
        assert curves[flip.after][at] == max(curve[at] for curve in curves.values()) > curves[flip.before][at]
    if found:
        assert curves[found[-1].after][-1] == max(curve[-1] for curve in curves.values())
