"""What layers measure is stored by trial and epoch, and read as means over an arm's runs."""

import pytest
from simulated_dispatch import SimulatedDispatcher, SimulatedRun, report

from studies.errors import StudyNotFound, TrialNotFound
from studies.layers import LayerMeasurement, MeasuredLayers
from studies.trials import PendingTrial

__all__: list[str] = []


def measured(epoch: int, *norms: float) -> MeasuredLayers:
    return MeasuredLayers(
        names=("conv.weight", "head.weight"),
        initial_norms=(2.0, 4.0) if epoch == 1 else (),
        measurement=LayerMeasurement(
            epoch=epoch,
            weight_norm=norms,
            effective_step=(0.01, 0.02),
            angle=(90.0, None),
            projected_by_channel=(1.0, 0.0),
            projected_as_layer=(0.0, 0.5),
        ),
    )


def train(run: SimulatedRun, trial: PendingTrial, *norms: tuple[float, float]) -> None:
    for epoch, each in enumerate(norms, start=1):
        run.writer.record([report(trial, epoch, layers=measured(epoch, *each))])


def test_layers_are_read_back_with_what_is_known_of_their_scale_invariance(play: SimulatedDispatcher) -> None:
    run = play.run()
    first, second = run.begin(0, 1)
    assert not run.writer.knows_scale_invariance()
    train(run, first, (3.0, 4.0), (5.0, 6.0))
    run.writer.record([report(second, 1)])
    run.writer.record_scale_invariance({"conv.weight": True})
    assert run.writer.knows_scale_invariance()
    found = run.store.trial_layers(first.id)
    assert (found.names, found.is_scale_invariant) == (("conv.weight", "head.weight"), (True, None))
    assert found.initial_norms == (2.0, 4.0)
    assert found.epochs == (measured(1, 3.0, 4.0).measurement, measured(2, 5.0, 6.0).measurement)
    assert run.store.trial_layers(second.id).names == ()
    assert run.store.layers_of(run.claim.study_id, [first.id, second.id]) == {first.id: found}
    with pytest.raises(TrialNotFound):
        run.store.trial_layers("none.adamp.0")
    with pytest.raises(StudyNotFound):
        run.store.study_layers("none")


def test_a_repeated_report_changes_nothing_and_a_repeated_epoch_is_measured_again(
    play: SimulatedDispatcher,
) -> None:
    run = play.run()
    trial = run.begin(0)[0]
    run.writer.record([report(trial, 1, layers=measured(1, 3.0, 4.0))])
    run.writer.record([report(trial, 1, layers=measured(1, 9.0, 9.0))])
    assert [m.weight_norm for m in run.store.trial_layers(trial.id).epochs] == [(3.0, 4.0)]
    (again,) = run.writer.requeue([(trial.id, 1)], reason="lost", max_retries=3)
    assert run.store.trial_layers(trial.id).epochs == ()
    run.writer.start([again])
    run.writer.record([report(again, 1, layers=measured(1, 5.0, 4.0))])
    assert [m.weight_norm for m in run.store.trial_layers(trial.id).epochs] == [(5.0, 4.0)]


def test_a_study_shows_the_defaults_until_its_best_configuration_is_confirmed(
    play: SimulatedDispatcher,
) -> None:
    run = play.run(confirmation={"seeds": 2})
    study_id, store = run.claim.study_id, play.store
    assert store.study_layers(study_id).arms == ()
    defaults, best = run.begin(0, 1)
    train(run, defaults, (3.0, 4.0))
    run.writer.record_scale_invariance({"conv.weight": True, "head.weight": False})
    (of,) = store.study_layers(study_id).arms
    assert (of.arm, of.configuration, of.trials) == ("adamp", "defaults", (defaults.id,))
    assert of.is_scale_invariant == (True, False)
    assert [(m.epoch, m.growth) for m in of.epochs] == [(1, (1.5, 1.0))]
    run.complete(best, 0.9)
    confirmed = run.confirm(1)
    run.writer.start(confirmed)
    train(run, confirmed[0], (4.0, 4.0))
    train(run, confirmed[1], (8.0, 4.0))
    (of,) = store.study_layers(study_id).arms
    assert (of.configuration, of.trials) == ("best", tuple(trial.id for trial in confirmed))
    assert of.epochs[0].growth == (3.0, 1.0)
    assert of.epochs[0].angle == (90.0, None)
    assert (of.epochs[0].projected_by_channel, of.epochs[0].projected_as_layer) == ((1.0, 0.0), (0.0, 0.5))


def test_a_value_of_each_layer_is_expected() -> None:
    with pytest.raises(ValueError, match="a value of each of 2 layers"):
        measured(1, 3.0)
