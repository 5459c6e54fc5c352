"""What is confirmed: each arm's defaults and the best configuration of each replicate, on fresh seeds.

The one rule for which confirmation runs a study has and which of them are still missing. The run makes them
(`workers.confirmation`), the store counts them (`studies.store.progress`), quotas and previews bound them.
"""

__all__ = ["REPEATED_STATES", "confirms", "missing_runs", "most_runs"]

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Final

from studies.space import ConfigurationKey, Parameters, configuration_key
from studies.states import RESULT_STATES, TrialState

REPEATED_STATES: Final = frozenset({TrialState.CANCELLED})
"""States of confirmation runs that are made again when the study is extended: they were stopped too early."""


def most_runs(*, replicates: int, seeds: int) -> int:
    """Return the most confirmation runs that one arm can need: its defaults and every best on every seed."""
    return (1 + replicates) * seeds


def confirms(search_states: Iterable[TrialState]) -> bool:
    """Return whether an arm is confirmed at all: not if no trial of its search came to a result.

    Whatever made all of them fail would make the confirmation runs fail too.
    """
    return any(state in RESULT_STATES for state in search_states)


def missing_runs(
    configurations: Iterable[Parameters | None],
    seeds: Sequence[int],
    made: Collection[tuple[ConfigurationKey, int]],
) -> Iterator[tuple[ConfigurationKey, int]]:
    """Yield the (configuration, seed) pairs of an arm that have no confirmation run yet.

    Seed by seed, so that runs are paired as far as they go wherever they end. A configuration that is several
    of the bests, or the defaults too, is trained once on each seed.

    Args:
        configurations: the arm's defaults, then the best of each replicate; None where one has no best.
        seeds: the fresh seeds.
        made: pairs that have a run already, those in REPEATED_STATES left out.
    """
    keys = dict.fromkeys(configuration_key(each) for each in configurations if each is not None)
    return ((key, seed) for seed in seeds for key in keys if (key, seed) not in made)
