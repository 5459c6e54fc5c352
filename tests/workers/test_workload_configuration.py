"""A workload's own hyperparameters and parameter groups: each trial has its own values of both."""

from typing import Any

import pytest
import torch
from packs import data_of, member, pack_of
from pydantic import ValidationError
from torch import nn

from studies.recipe import recipe
from studies.searchable import KINDS, searchable
from studies.space import Parameters
from workers.optimizers import build_optimizer, load_optimizers
from workers.training import train_pack
from workers.workload_errors import CannotTrain
from workers.workloads import builtin_tensor_workloads, configured, grouped_parameters, with_kinds
from workers.workloads.digits import DigitsMlp

__all__: list[str] = []

CPU = torch.device("cpu")
MLP = builtin_tensor_workloads()["digits-mlp"]
ADAMW = load_optimizers()["adamw"]


def rates(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, tuple[float, float]]:
    of = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    return {name: of[id(p)] for name, p in model.named_parameters()}


def test_each_configuration_has_its_own_copy_with_the_defaults_filled_in() -> None:
    assert MLP.config == {"dropout": 0.0}
    own = configured(MLP, {"lr": 0.1, "workload.dropout": 0.5})
    assert (own.config, MLP.config) == ({"dropout": 0.5}, {"dropout": 0.0})
    assert any(isinstance(module, nn.Dropout) for module in own.build_model().modules())
    assert not any(isinstance(module, nn.Dropout) for module in MLP.build_model().modules())


def test_a_group_has_its_own_learning_rate_and_decay_and_the_others_the_arms() -> None:
    model = MLP.build_model()
    parameters = {
        **ADAMW.card.defaults,
        "lr": 0.01,
        "weight_decay": 0.1,
        "groups.output.lr": 0.5,
        "groups.output.weight_decay": 0.3,
    }
    groups = grouped_parameters(MLP, model, parameters)
    found = rates(build_optimizer(ADAMW, model, parameters, decay_1d=False, groups=groups), model)
    assert found == {
        "1.weight": (0.01, 0.1),
        "1.bias": (0.01, 0.0),
        "3.weight": (0.01, 0.1),
        "3.bias": (0.01, 0.0),
        "5.weight": (0.5, 0.3),
        "5.bias": (0.5, 0.0),
    }


def test_a_configuration_without_groups_builds_the_same_optimizer_as_before() -> None:
    model = MLP.build_model()
    assert grouped_parameters(MLP, model, ADAMW.card.defaults) == {}


class _Wrong(DigitsMlp):
    """Returns groups that are not those of its card."""

    def __init__(self, returned: Any) -> None:
        self._returned = returned

    def parameter_groups(self, model: nn.Module) -> Any:
        return self._returned(model)


@pytest.mark.parametrize(
    ("returned", "part"),
    [
        (lambda _: {}, "got dict"),
        (lambda _: {"outputs": []}, "got outputs"),
        (lambda _: None, "got NoneType"),
        (lambda _: {"output": [nn.Parameter(torch.zeros(2))]}, "shape \\[2\\]"),
    ],
)
def test_groups_that_are_not_those_of_the_card_and_the_model_are_refused(returned: Any, part: str) -> None:
    workload = _Wrong(returned)
    with pytest.raises(CannotTrain, match=part) as raised:
        grouped_parameters(workload, workload.build_model(), {"groups.output.lr": 0.1})
    assert raised.value.function == workload.parameter_groups


def test_a_parameter_in_two_groups_is_refused() -> None:
    workload = _Wrong(lambda model: {name: list(model.parameters())[:1] for name in ("output", "first")})
    workload.card = MLP.card.model_copy(update={"groups": ("output", "first")})
    with pytest.raises(CannotTrain, match=r"'1\.weight' in 'output' and 'first'"):
        grouped_parameters(workload, workload.build_model(), {"groups.output.lr": 0.1})


def test_parameters_are_grouped_by_kind_as_the_printed_code_does() -> None:
    embedding, middle, last = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5)
    last.weight = embedding.weight
    model = nn.Sequential(embedding, nn.LayerNorm(4), middle, last)
    kinds: Parameters = {f"groups.{kind}.weight_decay": decay for decay, kind in enumerate(KINDS)}
    found = grouped_parameters(MLP, model, kinds)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {kind: [names[id(each)] for each in members] for kind, members in found.items()} == {
        "biases": ["2.bias", "3.bias"],
        "norms": ["1.weight", "1.bias"],
        "embeddings": ["0.weight"],
    }
    configuration = {**ADAMW.card.defaults, "weight_decay": 0.5, **kinds}
    built = build_optimizer(ADAMW, model, configuration, decay_1d=True, groups=found)
    namespace: dict[str, Any] = {"model": model}
    exec(recipe(ADAMW.card, configuration), namespace)

    def decays(optimizer: torch.optim.Optimizer) -> dict[str, float]:
        return {
            names[id(parameter)]: group["weight_decay"]
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    assert decays(built) == decays(namespace["optimizer"])
    assert decays(built) == {
        "0.weight": 2,
        "1.weight": 1,
        "1.bias": 1,
        "2.weight": 0.5,
        "2.bias": 0,
        "3.bias": 0,
    }
    with pytest.raises(CannotTrain, match="expected a model with norms"):
        with_kinds({}, nn.Linear(2, 2), kinds)
    own = with_kinds({"output": [middle.bias]}, model, {**kinds, "groups.output.lr": 0.1})
    assert [names[id(each)] for each in own["biases"]] == ["3.bias"]


def test_an_arm_can_search_the_workloads_hyperparameters_and_its_optimizers_in_each_group() -> None:
    found = searchable(MLP.card, ADAMW.card, {})
    assert {name for name in found if not name.startswith("training.")} == {
        "workload.dropout",
        *(
            f"groups.{group}.{number}"
            for group in ("output", "biases", "norms", "embeddings")
            for number in ("lr", "beta1", "beta2", "eps", "weight_decay")
        ),
    }


def test_a_trial_trains_with_its_workloads_value_alone_and_in_a_stack() -> None:
    losses: dict[float, list[float | None]] = {}
    for width in (1, 2):
        for dropout in (0.0, 0.4):
            members = [member("adamw", name, given={"workload.dropout": dropout}) for name in "ab"]
            pack = pack_of(MLP, "adamw", *members, epochs=1, width=width)
            [report] = train_pack(pack, workload=MLP, entry=ADAMW, data=data_of(MLP), device=CPU)
            losses.setdefault(dropout, []).append(report.members[0].measurement.train_loss)
    for alone, stacked in losses.values():
        assert alone == pytest.approx(stacked, rel=1e-4)
    assert losses[0.0] != losses[0.4]


def test_trials_with_groups_are_trained_one_by_one_and_the_pack_says_why() -> None:
    members = [member("adamw", name, given={"groups.output.lr": 0.1}) for name in "ab"]
    pack = pack_of(MLP, "adamw", *members, epochs=1, width=None)
    [report] = train_pack(pack, workload=MLP, entry=ADAMW, data=data_of(MLP), device=CPU)
    assert report.stack_width is not None
    assert report.stack_width.width == 1
    assert "parameter groups" in (report.stack_width.reason or "")


def test_a_pack_of_trials_with_different_values_of_the_workload_is_refused() -> None:
    members = [member("adamw", str(rate), given={"workload.dropout": rate}) for rate in (0.1, 0.2)]
    with pytest.raises(ValidationError, match=r"workload\.dropout = 0\.1 for all members"):
        pack_of(MLP, "adamw", *members)
