"""The configurations of paired trials: hyperparameters of the same name take the same quantile in all arms.

A dimension's quantile depends on the study's seed, the replicate, the pair and the dimension's name alone.
So a dimension that only one arm has disturbs no other arm, and neither do the arms' names, their order or
their number of trials.
"""

__all__ = ["paired_configuration"]

from studies.distributions import as_parameters
from studies.resolve import ResolvedArm
from studies.searchable import broken_constraint
from studies.seeds import paired_quantile
from studies.space import Fixed, Parameters, quantile, without_inert

# If hardly any configuration in a space is legal, the arm's pairs repeat its defaults.
_MAX_ATTEMPTS = 1000


def paired_configuration(arm: ResolvedArm, *, seed: int, replicate: int, pair_index: int) -> Parameters:
    """Return an arm's configuration in a pair.

    Several pairs may have the same configuration: all have it if the arm's space is fixed. A configuration
    that breaks a constraint is drawn again as a whole; after 1,000 attempts the arm's defaults are taken.

    Args:
        arm: the arm, with its search space.
        seed: the study's.
        replicate: index among the arm's searches, from 0.
        pair_index: which pair of the replicate, from 0.
    """
    searched = {name: of for name, of in arm.space.items() if not isinstance(of, Fixed)}
    for attempt in range(_MAX_ATTEMPTS):
        chosen = {
            name: quantile(of, paired_quantile(seed, replicate, pair_index, name, attempt=attempt))
            for name, of in searched.items()
        }
        whole = as_parameters(arm.space, arm.defaults, chosen)
        parameters = without_inert(whole, arm.conditions, arm.defaults)
        if broken_constraint(arm.card, parameters) is None:
            return parameters
    return arm.defaults
