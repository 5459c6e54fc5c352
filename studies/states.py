"""The state machines of studies and trials: the allowed moves, and IllegalMove for all others."""

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
    """The state of a study."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class StudyMove(StrEnum):
    """Transitions of a study: the owner's four verbs and the extension, then those that its run makes."""

    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    CANCEL = "cancel"
    EXTEND = "extend"
    START = "start"
    FINISH = "finish"
    FAIL = "fail"


class TrialState(StrEnum):
    """The state of a trial.

    Diverged (NaN, inf) is a result of the optimizer; failed is a fault of the infrastructure or the workload.
    """

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TrialFilter(StrEnum):
    """A filter for lists of trials: a state, or `waiting` for queued trials that wait at a rung."""

    QUEUED = "queued"
    WAITING = "waiting"
    RUNNING = "running"
    COMPLETED = "completed"
    PRUNED = "pruned"
    DIVERGED = "diverged"
    FAILED = "failed"
    CANCELLED = "cancelled"


class TrialMove(StrEnum):
    """Transitions of a trial."""

    START = "start"
    REQUEUE = "requeue"
    WAIT = "wait"
    COMPLETE = "complete"
    PRUNE = "prune"
    DIVERGE = "diverge"
    FAIL = "fail"
    CANCEL = "cancel"


CLOSED_STUDY_STATES = frozenset({StudyState.COMPLETED, StudyState.CANCELLED, StudyState.FAILED})
"""Final states of a study, except that an extension reopens a completed one."""

FINISHED_TRIAL_STATES = frozenset(
    {TrialState.COMPLETED, TrialState.PRUNED, TrialState.DIVERGED, TrialState.FAILED, TrialState.CANCELLED}
)
"""Final states of a trial."""

RESULT_STATES = frozenset({TrialState.COMPLETED, TrialState.PRUNED, TrialState.DIVERGED})
"""Finished states that say something about the trial's configuration; failed and cancelled do not."""

OWNER_MOVES = (StudyMove.PAUSE, StudyMove.RESUME, StudyMove.STOP, StudyMove.CANCEL)
"""The verbs of a study's owner that need no arguments, unlike an extension."""

_EXTENSION_VERBS = ("confirm", "extend")

_STUDY_MOVES: dict[StudyState, dict[StudyMove, StudyState]] = {
    StudyState.QUEUED: {
        StudyMove.START: StudyState.RUNNING,
        StudyMove.PAUSE: StudyState.PAUSED,
        StudyMove.STOP: StudyState.STOPPING,
        StudyMove.CANCEL: StudyState.CANCELLING,
        StudyMove.FAIL: StudyState.FAILED,
    },
    StudyState.RUNNING: {
        # A dispatcher that takes over after an expired lease starts a study that is already running.
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
        # After the pause, the last trials in flight can end, or the run can fail.
        StudyMove.FINISH: StudyState.COMPLETED,
        StudyMove.FAIL: StudyState.FAILED,
    },
    StudyState.STOPPING: {
        StudyMove.CANCEL: StudyState.CANCELLING,
        StudyMove.FINISH: StudyState.COMPLETED,
        StudyMove.FAIL: StudyState.FAILED,
    },
    StudyState.CANCELLING: {StudyMove.FINISH: StudyState.CANCELLED, StudyMove.FAIL: StudyState.CANCELLED},
    # The next run continues from the stored trials.
    StudyState.COMPLETED: {StudyMove.EXTEND: StudyState.QUEUED},
    StudyState.CANCELLED: {},
    StudyState.FAILED: {},
}

_TRIAL_MOVES: dict[TrialState, dict[TrialMove, TrialState]] = {
    TrialState.QUEUED: {
        TrialMove.START: TrialState.RUNNING,
        # Dispatched to a worker that was lost before the trial began.
        TrialMove.REQUEUE: TrialState.QUEUED,
        # It waited at a rung and was not promoted.
        TrialMove.PRUNE: TrialState.PRUNED,
        TrialMove.FAIL: TrialState.FAILED,
        TrialMove.CANCEL: TrialState.CANCELLED,
    },
    TrialState.RUNNING: {
        TrialMove.REQUEUE: TrialState.QUEUED,
        # It reached a rung: queued at the same attempt until it is promoted or pruned.
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
    """Return the verbs that a study's owner may use in this state; `confirm` is an extension by seeds."""
    moves = _STUDY_MOVES[state]
    return (
        *(verb.value for verb in OWNER_MOVES if verb in moves),
        *(_EXTENSION_VERBS if StudyMove.EXTEND in moves else ()),
    )


def move_study(state: StudyState, move: StudyMove) -> StudyState:
    """Return the state after `move`.

    Raises:
        IllegalMove: the state does not allow the move; carries the verbs that it allows.
    """
    after = _STUDY_MOVES[state].get(move)
    if after is None:
        verbs = allowed_verbs(state)
        if not verbs:
            hint = "it can no longer be changed; clone it, or submit a new study"
        elif move is StudyMove.EXTEND:
            hint = f"only a completed study can be extended; wait until it ends, or use {', '.join(verbs)}"
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
