"""What trials print is limited and kept with them, also of a trial that crashed."""

import pytest
from dispatcher_process import DispatcherProcess

from studies.states import StudyState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_the_end_of_what_trials_print_is_kept_and_they_share_it_in_a_pack(
    dispatcher: DispatcherProcess,
) -> None:
    # The steps of a pack alternate between its trials.
    study = dispatcher.closed(dispatcher.submit("printing", trials=2, epochs=2))
    assert study.state is StudyState.COMPLETED
    for trial in dispatcher.store.every_trial(study.id):
        output = dispatcher.store.trial_output(trial.id)
        assert (output.attempt, output.trials) == (1, trial.pack_size)
        assert output.size > 30 * 2**20
        assert len(output.text) <= 8192
        assert output.text.endswith("xxx")


def test_the_last_words_of_a_trial_that_kills_its_worker_are_kept(dispatcher: DispatcherProcess) -> None:
    study = dispatcher.closed(dispatcher.submit("deadly-with-output", trials=1, max_retries=1))
    (trial,) = dispatcher.store.every_trial(study.id)
    output = dispatcher.store.trial_output(trial.id)
    assert (output.text, output.attempt, output.trials) == ("a last word", 2, 1)
    assert not (dispatcher.home / "checkpoints" / study.id).exists()
