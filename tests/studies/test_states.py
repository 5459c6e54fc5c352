"""The two state machines: every move in these tables is allowed, and every other one is refused."""

import pytest

from studies.errors import IllegalMove
from studies.states import (
    CLOSED_STUDY_STATES,
    FINISHED_TRIAL_STATES,
    OWNER_MOVES,
    StudyMove,
    StudyState,
    TrialMove,
    TrialState,
    allowed_verbs,
    move_study,
    move_trial,
)

__all__: list[str] = []

# Columns: pause, resume, stop, cancel, extend, start, finish, fail; a dot is an illegal move.
STUDY_TABLE = """
queued      paused  .       stopping  cancelling  .       running  .          failed
running     paused  .       stopping  cancelling  .       running  completed  failed
paused      .       queued  stopping  cancelling  .       .        completed  failed
stopping    .       .       .         cancelling  .       .        completed  failed
cancelling  .       .       .         .           .       .        cancelled  cancelled
completed   .       .       .         .           queued  .        .          .
cancelled   .       .       .         .           .       .        .          .
failed      .       .       .         .           .       .        .          .
"""

# Columns: start, requeue, wait, complete, prune, diverge, fail, cancel.
TRIAL_TABLE = """
queued     running  queued  .       .          pruned  .         failed  cancelled
running    .        queued  queued  completed  pruned  diverged  failed  cancelled
completed  .        .       .       .          .       .         .       .
pruned     .        .       .       .          .       .         .       .
diverged   .        .       .       .          .       .         .       .
failed     .        .       .       .          .       .         .       .
cancelled  .        .       .       .          .       .         .       .
"""


def cells(table: str, moves: type[StudyMove] | type[TrialMove]) -> list[tuple[str, str, str]]:
    """Return (state, move, state after or a dot) of every cell."""
    rows = [line.split() for line in table.strip().splitlines()]
    return [
        (state, move.value, after) for state, *row in rows for move, after in zip(moves, row, strict=True)
    ]


STUDY_CELLS = cells(STUDY_TABLE, StudyMove)
TRIAL_CELLS = cells(TRIAL_TABLE, TrialMove)


def test_the_tables_cover_every_state_and_move() -> None:
    assert len(STUDY_CELLS) == len(StudyState) * len(StudyMove)
    assert len(TRIAL_CELLS) == len(TrialState) * len(TrialMove)


@pytest.mark.parametrize(("state", "move", "after"), [cell for cell in STUDY_CELLS if cell[2] != "."])
def test_a_study_makes_every_allowed_move(state: str, move: str, after: str) -> None:
    assert move_study(StudyState(state), StudyMove(move)) is StudyState(after)


@pytest.mark.parametrize(("state", "move"), [cell[:2] for cell in STUDY_CELLS if cell[2] == "."])
def test_a_study_refuses_every_other_move_and_lists_its_verbs(state: str, move: str) -> None:
    with pytest.raises(IllegalMove, match=f"^cannot {move} a study that is {state}: ") as raised:
        move_study(StudyState(state), StudyMove(move))
    assert raised.value.state == state
    assert raised.value.allowed == allowed_verbs(StudyState(state))
    assert all(verb in str(raised.value) for verb in raised.value.allowed)


@pytest.mark.parametrize(("state", "move", "after"), [cell for cell in TRIAL_CELLS if cell[2] != "."])
def test_a_trial_makes_every_allowed_move(state: str, move: str, after: str) -> None:
    assert move_trial(TrialState(state), TrialMove(move)) is TrialState(after)


@pytest.mark.parametrize(("state", "move"), [cell[:2] for cell in TRIAL_CELLS if cell[2] == "."])
def test_a_trial_refuses_every_other_move(state: str, move: str) -> None:
    with pytest.raises(IllegalMove, match=f"^cannot {move} a trial that is {state}: ") as raised:
        move_trial(TrialState(state), TrialMove(move))
    assert raised.value.state == state


def test_only_an_extension_leaves_a_final_state() -> None:
    leaving = {
        (state, move) for state, move, after in STUDY_CELLS if state in CLOSED_STUDY_STATES and after != "."
    }
    assert leaving == {(StudyState.COMPLETED, StudyMove.EXTEND)}
    assert {
        StudyState(after) for _, move, after in STUDY_CELLS if move in {"finish", "fail"} and after != "."
    } == CLOSED_STUDY_STATES
    assert {
        state for state in TrialState if not any(s == state and after != "." for s, _, after in TRIAL_CELLS)
    } == FINISHED_TRIAL_STATES


@pytest.mark.parametrize(
    ("state", "verbs"),
    [
        (StudyState.QUEUED, ("pause", "stop", "cancel")),
        (StudyState.PAUSED, ("resume", "stop", "cancel")),
        (StudyState.STOPPING, ("cancel",)),
        (StudyState.CANCELLING, ()),
        (StudyState.FAILED, ()),
        (StudyState.COMPLETED, ("confirm", "extend")),
    ],
)
def test_the_allowed_verbs_are_the_owners(state: StudyState, verbs: tuple[str, ...]) -> None:
    assert allowed_verbs(state) == verbs
    assert set(verbs) <= {verb.value for verb in OWNER_MOVES} | {"confirm", "extend"}


def test_an_extension_that_is_too_early_or_too_late_is_refused_with_advice() -> None:
    with pytest.raises(IllegalMove, match="only a completed study can be extended"):
        move_study(StudyState.RUNNING, StudyMove.EXTEND)
    with pytest.raises(IllegalMove, match="clone it, or submit a new study"):
        move_study(StudyState.FAILED, StudyMove.EXTEND)
