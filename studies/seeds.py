"""Seeds of trials: shared by all arms, so that arms are comparable and studies are repeatable."""

__all__ = ["confirmation_seed", "confirmation_seeds", "trial_seed"]

import functools

import numpy as np

# Separate these streams from each other, and from all others that use the same study seed.
_TRIALS = 727265
_CONFIRMATION = 727266


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


def _drawn(study_seed: int, kind: int, index: int) -> int:
    # 53 bits, because every JSON reader keeps such a number exactly.
    return int(
        np.random.SeedSequence(study_seed, spawn_key=(kind, index)).generate_state(1, np.uint64)[0]
        >> np.uint64(11)
    )
