"""Adds blocks of pairs to the searches of a study until its arms are decided. No Ray."""

__all__ = ["PairBlocks"]

from collections.abc import Mapping

from studies.paired_looks import pairs_of_replicate, study_looks
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec
from studies.store import RunWriter
from workers.arms import Arm
from workers.retry import DatabaseRetry


class PairBlocks:
    """The blocks of pairs of one study.

    The study looks at its pairs when all of a block have ended in all arms. What a look decides follows from
    the stored trials, so a run that takes over decides as the last one did.
    """

    def __init__(
        self,
        arms: Mapping[str, Arm],
        *,
        spec: StudySpec,
        plan: ResolvedStudy,
        writer: RunWriter,
        retry: DatabaseRetry,
    ) -> None:
        """Make blocks of which none is added.

        Args:
            arms: the study's arms, by name.
            spec: the study as submitted.
            plan: the study as resolved.
            writer: reads the study's trials and writes the trials of its arms.
            retry: how long to wait for the database.
        """
        self._spec, self._card, self._writer, self._retry = spec, plan.workload, writer, retry
        self._searches = {
            name: arm.searches[: spec.search.replicates] if spec.search.until is not None else ()
            for name, arm in arms.items()
        }
        self._trials = {arm.name: arm.trials for arm in plan.arms}
        self._is_first = True

    def look(self) -> None:
        """Add the next block, or let the samplers begin, if all pairs of now have ended."""
        searches = [search for of_arm in self._searches.values() for search in of_arm]
        if not any(search.is_held for search in searches):
            return
        # The first time, the blocks that earlier runs added are not known yet.
        if not self._is_first and not all(search.are_pairs_over for search in searches if search.is_held):
            return
        self._is_first = False
        found = study_looks(self._spec, self._card, self._retry.persist(self._writer.trials))
        seen = found.planned[found.done - 1] if found.done else self._spec.search.pairs
        following = seen if found.following is None else found.following
        trials: dict[str, int] = {}
        for name, of_arm in self._searches.items():
            pairs = found.dropped.get(name, following)
            for replicate, search in enumerate(of_arm):
                # An arm may have had more pairs before an arm was added beside which it is dropped earlier.
                own = max(pairs_of_replicate(pairs, replicate, replicates=len(of_arm)), search.created_pairs)
                if name not in found.dropped:
                    # An arm that is added later gets the pairs that the others have.
                    own = max(own, *(each[replicate].created_pairs for each in self._searches.values()))
                search.set_pairs(own, is_last=found.following is None)
            trials[name] = max(search.trials for search in of_arm)
        if all(search.are_pairs_over for search in searches if search.is_held):
            # The next look never comes, because a pair was cancelled when the study was stopped.
            for search in searches:
                search.set_pairs(search.created_pairs, is_last=True)
        if trials != self._trials:
            self._retry.persist(lambda: self._writer.plan_trials(trials))
            self._trials = trials
