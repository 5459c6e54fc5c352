"""Which trials measure their layers, and what a worker finds of the layers' scale invariance."""

import pytest
from packs import CPU, WORKLOADS, data_of, member, pack_of, shortened, train
from running import Running
from torch import Tensor, nn

from studies.store import Store
from workers.pack_protocol import EpochReport
from workers.scale_invariance import find_scale_invariance
from workers.workloads.digits import DigitsMlp

__all__: list[str] = []

CNN = WORKLOADS["digits-cnn"]


def test_the_defaults_measure_their_layers_and_the_rest_of_a_search_does_not(store: Store) -> None:
    running = Running(store, slots=1, arms=["adamp"])
    pack = running.begin("a")
    defaults = running.recorder.arms["adamp"].searches[0].plan.defaults
    assert len(pack.members) > 1
    assert [one.measures_layers for one in pack.members] == [
        one.parameters == defaults for one in pack.members
    ]
    assert sum(one.measures_layers for one in pack.members) == 1


def test_scale_invariance_is_found_once_for_a_study(store: Store) -> None:
    running = Running(store, slots=2, arms=["adamp", "adamw"])
    first = running.begin("a")
    assert first.finds_scale_invariance
    report = EpochReport(pack_id="a", epoch=1, members=(), scale_invariance={"0.weight": True})
    running.recorder.reported("a", report, worker="here:1")
    again = report.model_copy(update={"scale_invariance": {"0.weight": False}})
    running.recorder.reported("a", again, worker="here:1")
    assert store.study_layers(running.study.id).scale_invariance == {"0.weight": True}
    second = running.begin("b")
    assert any(one.measures_layers for one in second.members)
    assert not second.finds_scale_invariance


def test_convolutions_before_batch_normalisation_are_scale_invariant() -> None:
    small = shortened(data_of(CNN), 160, 60)
    one = member("adamp").model_copy(update={"measures_layers": True})
    first, second = train(pack_of(CNN, "adamp", one, finds_scale_invariance=True), CNN, small)
    found = first.scale_invariance
    assert found is not None
    model = CNN.build_model()
    normalised = {name for name, weight in model.named_parameters() if weight.ndim == 4}
    assert {name for name, is_invariant in found.items() if is_invariant} == normalised
    assert second.scale_invariance is None
    measured = first.members[0].layers
    assert measured is not None
    assert measured.names == tuple(found)
    assert len(measured.initial_norms) == len(found)
    [after] = [part.layers for part in second.members]
    assert after is not None
    assert after.initial_norms == ()


def test_no_more_layers_are_tested_than_time_allows() -> None:
    small = shortened(data_of(CNN), 160, 60)
    found = find_scale_invariance(CNN, small, batch_size=32, interval_steps=None, device=CPU, within_s=-1.0)
    assert (found.layers, found.projected) == ({}, ())
    assert found.weights > 1


def test_only_layers_on_which_the_loss_depends_tell_whether_they_are_scale_invariant() -> None:
    class WithZeros(DigitsMlp):
        def build_model(self) -> nn.Module:
            model = super().build_model()
            weights = [weight for weight in model.parameters() if weight.ndim == 2]
            nn.init.zeros_(weights[0])
            return model

    small = shortened(data_of(WORKLOADS["digits-mlp"]), 160, 60)
    found = find_scale_invariance(WithZeros(), small, batch_size=32, interval_steps=None, device=CPU)
    assert len(found.layers) == found.weights - 1
    assert not any(found.layers.values())


def test_a_workload_that_cannot_be_tested_trains_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    loss = CNN.loss

    def fragile(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("not yet")
        return loss(outputs, targets)

    monkeypatch.setattr(CNN, "loss", fragile)
    small = shortened(data_of(CNN), 160, 60)
    pack = pack_of(CNN, "adamp", member("adamp"), finds_scale_invariance=True)
    first, _ = train(pack, CNN, small)
    assert first.scale_invariance is None
    assert first.members[0].layers is None
