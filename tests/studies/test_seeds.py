"""Seeds: the same for every arm, different for every replicate and study."""

import pytest

from studies.seeds import confirmation_seed, paired_quantile, paired_seed, trial_seed

__all__: list[str] = []


def test_a_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    # Fixed values: a study that is repeated later must get the same seeds.
    assert [trial_seed(0, 0), trial_seed(0, 1), trial_seed(1, 0), trial_seed(2**31 - 1, 7)] == [
        242578015185240,
        6513066827690414,
        4544938485154735,
        7163760108302754,
    ]
    assert [
        confirmation_seed(0, 0),
        confirmation_seed(0, 1),
        confirmation_seed(1, 0),
        confirmation_seed(2**31 - 1, 7),
    ] == [
        6899439178317581,
        925891651449661,
        6160940699833066,
        6244485570544531,
    ]
    assert [
        paired_seed(0, 0, 0),
        paired_seed(0, 1, 0),
        paired_seed(1, 0, 1),
        paired_seed(2**31 - 1, 7, 99),
    ] == [
        1882713835953451,
        2593971065418197,
        4413063458716695,
        6543908973872910,
    ]
    assert [
        paired_quantile(0, 0, 0, "lr"),
        paired_quantile(0, 0, 1, "lr"),
        paired_quantile(1, 2, 3, "training.batch_size", attempt=4),
    ] == [0.660351963646413, 0.1319716743063335, 0.4091012873279136]


def test_replicates_and_studies_have_different_seeds() -> None:
    seeds = {trial_seed(study, replicate) for study in range(40) for replicate in range(40)}
    assert len(seeds) == 1600


def test_every_pair_has_a_seed_of_its_own_that_no_other_trial_has() -> None:
    searched = {trial_seed(study, replicate) for study in range(20) for replicate in range(50)}
    confirmed = {confirmation_seed(study, index) for study in range(20) for index in range(50)}
    paired = {paired_seed(s, r, index) for s in range(10) for r in range(10) for index in range(20)}
    assert (len(searched), len(confirmed), len(paired)) == (1000, 1000, 2000)
    assert len(searched | confirmed | paired) == 4000


def test_every_dimension_of_a_pair_has_a_quantile_of_its_own() -> None:
    found = {
        paired_quantile(s, r, index, name, attempt=attempt)
        for s in range(3)
        for r in range(3)
        for index in range(3)
        for name in ("lr", "training.lr", "rl")
        for attempt in range(3)
    }
    assert len(found) == 3**5
    assert all(0 <= u < 1 for u in found)


def test_a_seed_is_a_number_that_json_keeps_exactly() -> None:
    seeds = [trial_seed(study, 0) for study in range(200)]
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert max(seeds) > 2**52, "seeds must use all 53 bits"


@pytest.mark.parametrize(("study_seed", "replicate"), [(-1, 0), (0, -1)])
def test_a_negative_seed_is_refused(study_seed: int, replicate: int) -> None:
    with pytest.raises(ValueError, match=f"at least 0, got seed {study_seed} and replicate {replicate}"):
        trial_seed(study_seed, replicate)
    with pytest.raises(ValueError, match=f"at least 0, got seed {study_seed} and index {replicate}"):
        confirmation_seed(study_seed, replicate)
    with pytest.raises(ValueError, match=f"got seed {study_seed}, replicate {replicate} and pair index 0"):
        paired_seed(study_seed, replicate, 0)
