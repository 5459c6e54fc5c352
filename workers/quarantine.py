"""Who may be the one that ends its packs.

Trials that are tried again, some of them alone, so that a bad member takes no others with it.
"""

__all__ = ["Quarantine"]

from collections import Counter
from collections.abc import Iterable

# Who loses its worker this often may be the one that kills it.
_SUSPECT_AFTER = 2


class Quarantine:
    """Remembers whose packs ended badly, for as long as those trials have not come to a rung or an end."""

    def __init__(self, *, max_retries: int) -> None:
        """Suspect nobody; `max_retries` is how often a trial that lost its worker is tried again."""
        self._max_retries = max_retries
        self._losses: Counter[str] = Counter()
        self._certain: set[str] = set()

    def lost(self, trial_ids: Iterable[str], *, times: int = 1, is_certain: bool = False) -> None:
        """Note trials that have lost their worker, so many times.

        `is_certain` when one of them is known to be the cause.
        """
        for trial_id in trial_ids:
            self._losses[trial_id] += times
            if is_certain:
                self._certain.add(trial_id)

    def failed(self, trial_ids: Iterable[str]) -> None:
        """Note the members of a pack that a Python error ended."""
        self._certain.update(trial_ids)

    def clear(self, trial_id: str) -> None:
        """Forget a trial: it has come to a rung, and so is not the one, or it is over."""
        self._losses.pop(trial_id, None)
        self._certain.discard(trial_id)

    def is_alone(self, trial_id: str) -> bool:
        """Return whether a trial is to be packed with no other.

        After a Python error or a pack that hung, after two losses, and for its last try.
        """
        losses = self._losses.get(trial_id, 0)
        return trial_id in self._certain or (losses > 0 and losses >= min(_SUSPECT_AFTER, self._max_retries))
