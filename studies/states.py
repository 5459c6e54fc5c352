"""The state machines of a study and of a trial.

Which moves there are, and a typed error for every other one.
"""

__all__ = [
    "CLOSED_STUDY_STATES",
    "FINISHED_TRIAL_STATES",
    "OWNER_MOVES",
    "RESULT_STATES",
    "StudyMove",
    "StudyState",
    "TrialFilter",
    "TrialMove",
    "TrialState",
    "allowed_verbs",
    "move_study",
    "move_trial",
]

from enum import StrEnum

from studies.errors import IllegalMove


class StudyState(StrEnum):
    """Where a study stands."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class StudyMove(StrEnum):
    """What can happen to a study: the four plain verbs of its owner, an extension, then what its run does."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    CANCEL = "cancel"
    EXTEND = "extend"
    START = "start"
    FINISH = "finish"
    FAIL = "fail"


class TrialState(StrEnum):
    """Where a trial stands.

    Diverged (NaN, inf) is a result of the optimizer; failed is a fault of the machinery or the workload.
    """

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TrialFilter(StrEnum):
    """Which trials are asked for.

    Those in a state, or `waiting`, no state but those of the queued that wait at a rung of the pruner.
    """

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TrialMove(StrEnum):
    """What can happen to a trial."""

    START = "start"
    REQUEUE = "requeue"
    WAIT = "wait"
    COMPLETE = "complete"
    PRUNE = "prune"
    DIVERGE = "diverge"
    FAIL = "fail"
    CANCEL = "cancel"


CLOSED_STUDY_STATES = frozenset({StudyState.COMPLETED, StudyState.CANCELLED, StudyState.FAILED})
"""States in which nothing more happens by itself; only an extension leaves one of them, `completed`."""

FINISHED_TRIAL_STATES = frozenset(
    {TrialState.COMPLETED, TrialState.PRUNED, TrialState.DIVERGED, TrialState.FAILED, TrialState.CANCELLED}
)
"""States that no move leaves."""

RESULT_STATES = frozenset({TrialState.COMPLETED, TrialState.PRUNED, TrialState.DIVERGED})
"""Finished states that say something about the trial's configuration; failed and cancelled do not."""

OWNER_MOVES = (StudyMove.PAUSE, StudyMove.RESUME, StudyMove.STOP, StudyMove.CANCEL)
"""The verbs of a study's owner that say all by themselves.

An extension says what is added, and the other moves are its run's.
"""

_VERBS_OF_AN_EXTENSION = ("confirm", "extend")

_STUDY_MOVES: dict[StudyState, dict[StudyMove, StudyState]] = {
    StudyState.QUEUED: {
        StudyMove.START: StudyState.RUNNING,
        StudyMove.PAUSE: StudyState.PAUSED,
        StudyMove.STOP: StudyState.STOPPING,
        StudyMove.CANCEL: StudyState.CANCELLING,
        StudyMove.FAIL: StudyState.FAILED,
    },
    StudyState.RUNNING: {
        # A dispatcher that takes over a lapsed lease starts a study that is running already.
        StudyMove.START: StudyState.RUNNING,
        StudyMove.PAUSE: StudyState.PAUSED,
        StudyMove.STOP: StudyState.STOPPING,
        StudyMove.CANCEL: StudyState.CANCELLING,
        StudyMove.FINISH: StudyState.COMPLETED,
        StudyMove.FAIL: StudyState.FAILED,
    },
    StudyState.PAUSED: {
        StudyMove.RESUME: StudyState.QUEUED,
        StudyMove.STOP: StudyState.STOPPING,
        StudyMove.CANCEL: StudyState.CANCELLING,
        # The last trials in flight can end, or the run can break down, after the pause was asked for.
        StudyMove.FINISH: StudyState.COMPLETED,
        StudyMove.FAIL: StudyState.FAILED,
    },
    StudyState.STOPPING: {
        StudyMove.CANCEL: StudyState.CANCELLING,
        StudyMove.FINISH: StudyState.COMPLETED,
        StudyMove.FAIL: StudyState.FAILED,
    },
    StudyState.CANCELLING: {StudyMove.FINISH: StudyState.CANCELLED, StudyMove.FAIL: StudyState.CANCELLED},
    # Its run begins where the record ends.
    StudyState.COMPLETED: {StudyMove.EXTEND: StudyState.QUEUED},
    StudyState.CANCELLED: {},
    StudyState.FAILED: {},
}

_TRIAL_MOVES: dict[TrialState, dict[TrialMove, TrialState]] = {
    TrialState.QUEUED: {
        TrialMove.START: TrialState.RUNNING,
        # Handed to a worker that was lost before it began.
        TrialMove.REQUEUE: TrialState.QUEUED,
        # It waited at a rung and is not promoted.
        TrialMove.PRUNE: TrialState.PRUNED,
        TrialMove.FAIL: TrialState.FAILED,
        TrialMove.CANCEL: TrialState.CANCELLED,
    },
    TrialState.RUNNING: {
        TrialMove.REQUEUE: TrialState.QUEUED,
        # It has reached a rung: queued again, at the same attempt, until it is promoted or pruned.
        TrialMove.WAIT: TrialState.QUEUED,
        TrialMove.COMPLETE: TrialState.COMPLETED,
        TrialMove.PRUNE: TrialState.PRUNED,
        TrialMove.DIVERGE: TrialState.DIVERGED,
        TrialMove.FAIL: TrialState.FAILED,
        TrialMove.CANCEL: TrialState.CANCELLED,
    },
    **{state: {} for state in FINISHED_TRIAL_STATES},
}


def allowed_verbs(state: StudyState) -> tuple[str, ...]:
    """Return the verbs that a study's owner may use in this state.

    `confirm` is an extension by fresh seeds.
    """
    moves = _STUDY_MOVES[state]
    return (
        *(verb.value for verb in OWNER_MOVES if verb in moves),
        *(_VERBS_OF_AN_EXTENSION if StudyMove.EXTEND in moves else ()),
    )


def move_study(state: StudyState, move: StudyMove) -> StudyState:
    """Return the state after `move`.

    Raises:
        IllegalMove: the state does not allow it; names the verbs that it does allow.
    """
    after = _STUDY_MOVES[state].get(move)
    if after is None:
        verbs = allowed_verbs(state)
        if not verbs:
            hint = "nothing can change it any more; clone it, or submit a new study instead"
        elif move is StudyMove.EXTEND:
            hint = f"only one that has completed can be, so let it end first; it allows {', '.join(verbs)}"
        else:
            hint = f"it allows {', '.join(verbs)}"
        raise IllegalMove(
            f"cannot {move.value} a study that is {state.value}: {hint}", state=state.value, allowed=verbs
        )
    return after


def move_trial(state: TrialState, move: TrialMove) -> TrialState:
    """Return the state after `move`.

    Raises:
        IllegalMove: the state does not allow it.
    """
    after = _TRIAL_MOVES[state].get(move)
    if after is None:
        allowed = tuple(m.value for m in _TRIAL_MOVES[state])
        hint = f"it allows {', '.join(allowed)}" if allowed else "it is finished"
        raise IllegalMove(
            f"cannot {move.value} a trial that is {state.value}: {hint}", state=state.value, allowed=allowed
        )
    return after
