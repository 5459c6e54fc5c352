import numpy as np
import pytest

from studies.statistics.holm import holm

NAN = float("nan")


def test_the_smallest_p_value_is_multiplied_by_their_number_and_the_largest_by_one() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])


def test_no_adjusted_value_is_above_one_or_out_of_order() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        p = rng.random(6) ** 3
        adjusted = holm(p)
        assert adjusted.max() <= 1
        assert (adjusted >= p).all()
        assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()


def test_adjusted_values_reject_what_holms_steps_reject() -> None:
    rng = np.random.default_rng(4)
    for _ in range(100):
        p = rng.random(5) ** 4
        rejected = np.zeros(5, dtype=bool)
        for step, place in enumerate(np.argsort(p)):
            if p[place] >= 0.05 / (5 - step):
                break
            rejected[place] = True
        np.testing.assert_array_equal(holm(p) < 0.05, rejected)


def test_a_comparison_that_could_not_be_made_counts_and_stays_unknown() -> None:
    np.testing.assert_allclose(holm([0.01, NAN, 0.02]), [0.03, NAN, 0.04])
    assert np.isnan(holm([NAN])).all()


def test_one_comparison_needs_no_correction() -> None:
    assert holm([0.04]) == pytest.approx([0.04])
    assert holm([]).shape == (0,)
