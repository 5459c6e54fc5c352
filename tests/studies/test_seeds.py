"""Seeds: the same for every arm, different for every replicate and study."""

import pytest

from studies.seeds import confirmation_seed, trial_seed

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


def test_replicates_and_studies_have_different_seeds() -> None:
    seeds = {trial_seed(study, replicate) for study in range(40) for replicate in range(40)}
    assert len(seeds) == 1600


def test_confirmation_seeds_differ_from_all_search_seeds() -> None:
    searched = {trial_seed(study, replicate) for study in range(20) for replicate in range(50)}
    confirmed = {confirmation_seed(study, index) for study in range(20) for index in range(50)}
    assert len(confirmed) == 1000
    assert not searched & confirmed


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
