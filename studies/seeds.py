"""Seeds: what makes the trials of different arms comparable, and a study repeatable."""

__all__ = ["trial_seed"]

import numpy as np

# Tells these draws apart from all others that start from the same study seed.
_TRIALS = 727265


def trial_seed(study_seed: int, replicate: int) -> int:
    """Return the seed of a study's trials in one replicate, the same for all its arms, in [0, 2**53).

    It fixes initialisation and data order: between two arms nothing differs but the optimizer.

    Args:
        study_seed: the study's own seed, at least 0.
        replicate: which independent repetition, from 0.

    Raises:
        ValueError: either is negative.
    """
    if study_seed < 0 or replicate < 0:
        raise ValueError(f"a study's seed and a replicate must be at least 0, got seed {study_seed} and replicate {replicate}")
    # 53 bits: a JSON number that every reader keeps exactly.
    return int(np.random.SeedSequence(study_seed, spawn_key=(_TRIALS, replicate)).generate_state(1, np.uint64)[0] >> np.uint64(11))
