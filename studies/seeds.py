"""Seeds of trials: shared by all arms, so that arms are comparable and studies are repeatable."""

__all__ = ["confirmation_seed", "confirmation_seeds", "paired_quantile", "paired_seed", "trial_seed"]

import functools

import numpy as np

# Separate these streams from each other, and from all others that use the same study seed.
_TRIALS = 727265
_CONFIRMATION = 727266
_PAIRS = 727267
_QUANTILES = 727268


def trial_seed(study_seed: int, replicate: int) -> int:
    """Return the seed of a study's trials in one replicate, in [0, 2**53), the same for all arms.

    It fixes initialisation and data order, so that only the optimizer differs between arms.

    Args:
        study_seed: the study's seed, at least 0.
        replicate: which independent repetition, from 0.

    Raises:
        ValueError: either is negative.
    """
    if study_seed < 0 or replicate < 0:
        raise ValueError(
            f"expected a seed and a replicate of at least 0, got seed {study_seed} and replicate {replicate}"
        )
    return _drawn(study_seed, _TRIALS, replicate)


def paired_seed(study_seed: int, replicate: int, pair_index: int) -> int:
    """Return the seed of a pair's trials, in [0, 2**53), the same for all arms.

    Every pair has its own, so that pairs are independent of each other.

    Args:
        study_seed: the study's seed, at least 0.
        replicate: which independent repetition, from 0.
        pair_index: which pair of the replicate, from 0.

    Raises:
        ValueError: one of them is negative.
    """
    _check_pair(study_seed, replicate, pair_index)
    return _drawn(study_seed, _PAIRS, replicate, pair_index)


def paired_quantile(
    study_seed: int, replicate: int, pair_index: int, name: str, *, attempt: int = 0
) -> float:
    """Return the quantile of a dimension in a pair's trials, uniform in [0, 1), the same for all arms.

    It depends on the dimension's name, not on the arm or its other dimensions.

    Args:
        study_seed: the study's seed, at least 0.
        replicate: which independent repetition, from 0.
        pair_index: which pair of the replicate, from 0.
        name: name of the dimension.
        attempt: how many configurations of this pair and arm were rejected before.

    Raises:
        ValueError: one of the numbers is negative.
    """
    _check_pair(study_seed, replicate, pair_index)
    # The name comes last, as one number, because it may have any length.
    number = int.from_bytes(name.encode())
    return _drawn(study_seed, _QUANTILES, replicate, pair_index, attempt, number) / 2**53


def confirmation_seed(study_seed: int, index: int) -> int:
    """Return fresh seed number `index` of a study's confirmation, in [0, 2**53); no search uses it.

    It is the same for all arms, and for an arm's best and its defaults, so the runs of one index are paired.

    Args:
        study_seed: the study's seed, at least 0.
        index: which of the fresh seeds, from 0.

    Raises:
        ValueError: either is negative.
    """
    if study_seed < 0 or index < 0:
        raise ValueError(
            f"expected a seed and an index of at least 0, got seed {study_seed} and index {index}"
        )
    return _drawn(study_seed, _CONFIRMATION, index)


@functools.lru_cache(maxsize=128)
def confirmation_seeds(study_seed: int, count: int) -> tuple[int, ...]:
    """Return the first `count` of a study's fresh seeds; see `confirmation_seed`."""
    return tuple(confirmation_seed(study_seed, index) for index in range(count))


def _check_pair(study_seed: int, replicate: int, pair_index: int) -> None:
    if min(study_seed, replicate, pair_index) < 0:
        raise ValueError(
            f"expected a seed, a replicate and a pair index of at least 0, got seed {study_seed}, replicate "
            f"{replicate} and pair index {pair_index}"
        )


def _drawn(study_seed: int, *key: int) -> int:
    # 53 bits, because every JSON reader keeps such a number exactly.
    return int(
        np.random.SeedSequence(study_seed, spawn_key=key).generate_state(1, np.uint64)[0] >> np.uint64(11)
    )
