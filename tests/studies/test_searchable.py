"""Settings of the training as dimensions: for the study or one arm, with faults where they are written."""

from typing import Any

import pytest
from catalogs import catalog, study_body
from pydantic import ValidationError

from studies.catalog import Bounds, Catalog, Hyperparameter, OptimizerCard
from studies.errors import SpecInvalid
from studies.extension import extended, parse_extension
from studies.resolve import ResolvedStudy, resolve
from studies.searchable import broken_constraint
from studies.space import Choices, Condition, Fixed, Parameters, Range
from studies.spec import as_written, parse_spec

__all__: list[str] = []

CATALOG = catalog()
BATCHES = {"choices": [16, 64]}
DROPOUT = Hyperparameter(
    name="dropout",
    description="Share of units set to 0.",
    unit="fraction",
    default=0.0,
    search=Range(low=0.0, high=0.5),
    source="made up",
    bounds=Bounds(low=0, high=1, high_open=True),
)
ADJUSTABLE = CATALOG.model_copy(
    update={
        "workloads": {
            "digits-mlp": CATALOG.workloads["digits-mlp"].model_copy(
                update={"hyperparameters": (DROPOUT,), "groups": ("head",)}
            )
        }
    }
)


def resolved(**fields: Any) -> ResolvedStudy:
    return resolve(parse_spec(study_body(**fields)), CATALOG)


def problems(**fields: Any) -> dict[str, str]:
    with pytest.raises(SpecInvalid) as raised:
        resolve(parse_spec(study_body(**fields)), ADJUSTABLE)
    found = as_written(raised.value, study_body(**fields))
    return {problem.pointer: problem.message for problem in found.problems}


def test_a_dimension_under_training_is_one_of_the_studys_space() -> None:
    short = parse_spec(study_body(training={"batch_size": BATCHES, "schedule": "constant"}))
    assert short == parse_spec(
        study_body(training={"schedule": "constant"}, space={"training.batch_size": BATCHES})
    )
    assert parse_spec(short.model_dump(mode="json")) == short


def test_the_studys_space_holds_for_every_arm_and_its_settings_are_the_defaults() -> None:
    for arm in resolved(training={"batch_size": BATCHES, "decay_1d": "tune"}).arms:
        assert arm.space["training.batch_size"] == Choices(choices=(16, 64))
        assert arm.space["training.decay_1d"] == Choices(choices=(True, False))
        assert (arm.defaults["training.batch_size"], arm.defaults["training.decay_1d"]) == (32, True)
        assert [h.name for h in arm.further_hyperparameters] == ["training.batch_size", "training.decay_1d"]
        assert list(arm.space)[-2:] == ["training.batch_size", "training.decay_1d"]
        assert arm.overrides == ()


def test_an_arms_own_dimension_replaces_the_studys_and_is_named_as_its_own() -> None:
    study = resolved(
        arms=["adamw", {"optimizer": "adamp", "space": {"training.batch_size": 128}}],
        space={"training.batch_size": BATCHES},
    )
    shared, own = study.arms
    assert shared.space["training.batch_size"] == Choices(choices=(16, 64))
    assert own.space["training.batch_size"] == Fixed(value=128)
    assert (shared.overrides, own.overrides) == ((), ("training.batch_size",))
    assert own.defaults["training.batch_size"] == 128


def test_a_study_without_a_space_resolves_as_before() -> None:
    for arm in resolved(training={"batch_size": 16}).arms:
        assert list(arm.space) == [h.name for h in arm.card.hyperparameters]
        assert arm.further_hyperparameters == arm.overrides == ()


def test_tune_searches_batch_sizes_around_the_workloads_that_its_examples_allow() -> None:
    assert resolved(training={"batch_size": "tune"}).arms[0].space["training.batch_size"] == Choices(
        choices=(8, 16, 32, 64, 128)
    )


@pytest.mark.parametrize(
    ("fields", "pointer", "part"),
    [
        ({"training": {"batch_size": {"choices": [16, 1001]}}}, "/training/batch_size", "[1, 1000]"),
        (
            {"space": {"training.batch_size": {"low": 1, "high": 2000}}},
            "/space/training.batch_size",
            "[1, 1000]",
        ),
        (
            {"space": {"training.batchsize": 3}},
            "/space/training.batchsize",
            "did you mean 'training.batch_size'",
        ),
        ({"space": {"lr": 3}}, "/space/lr", "`space` of its arm"),
        ({"space": {"training.schedule": [1, 2]}}, "/space/training.schedule", "expected one value"),
        ({"training": {"schedule": {"choices": ["cosine", "cubic"]}}}, "/training/schedule", "'cubic'"),
        (
            {"training": {"step_factor": {"low": 0.1, "high": 0.5}}},
            "/training/step_factor",
            "only if training.schedule is 'step', and it is 'cosine'",
        ),
        (
            {
                "training": {"schedule": {"choices": ["constant", "cosine"]}},
                "space": {"training.step_factor": "tune"},
            },
            "/space/training.step_factor",
            "only if training.schedule is 'step'",
        ),
        (
            {"arms": [{"optimizer": "stepper", "space": {"training.decay_1d": "tune"}}]},
            "/arms/0/space/training.decay_1d",
            "stepper has no weight_decay",
        ),
        ({"training": {"batch_size": {"low": 9, "high": 3}}}, "/training/batch_size", "expected low < high"),
        (
            {"training": {"batch_size": "tune"}, "space": {"training.batch_size": 3}},
            "",
            "training.batch_size is set twice",
        ),
        ({"training": {"batches": {"choices": [1]}}}, "/training/batches", "did you mean"),
        ({"training": {"batch_size": [16, 32]}}, "/training/batch_size", "{'choices': [16, 32]}"),
        ({"space": {"batch_size": 3}}, "/space/batch_size", "write training.batch_size"),
        ({"space": {"dropout": 3}}, "/space/dropout", "write workload.dropout"),
        ({"space": {"training": {"batch_size": 3}}}, "/space/training", "written with dots"),
        ({"space": ["training.batch_size"]}, "/space", "expected an object"),
        (
            {"space": {"groups.tail.lr": 1.0}},
            "/space/groups.tail.lr",
            "no parameter group 'tail'; it has head",
        ),
        ({"space": {"groups.head.betas": [0, 0]}}, "/space/groups.head.betas", "set beta1 and beta2"),
        ({"space": {"groups.head.beta1": 0.5}}, "/space/groups.head.beta1", "one beta1 for all groups"),
        (
            {"arms": ["stepper"], "training": {"decay_1d": "tune"}},
            "/training/decay_1d",
            "no arm can use training.decay_1d: stepper has no weight_decay",
        ),
        ({"arms": [{"optimizer": "adamw", "lr": 0.1}]}, "/arms/0/lr", "under `space`"),
        ({"objective": "accuracy"}, "/objective", "write {metric: accuracy}"),
        ({"keep": "best"}, "/keep", "write {weights: best}"),
    ],
)
def test_a_fault_is_reported_once_where_it_was_written(
    fields: dict[str, Any], pointer: str, part: str
) -> None:
    found = problems(**fields)
    assert list(found) == [pointer]
    assert part in found[pointer]


def test_a_condition_on_a_fixed_setting_is_gone_and_one_on_a_searched_setting_stays() -> None:
    factors = {"step_factor": {"low": 0.1, "high": 0.5}}
    fixed = resolved(training={"schedule": "step", **factors}).arms[0]
    assert fixed.space["training.step_factor"] == Range(low=0.1, high=0.5)
    assert "training.step_factor" not in fixed.conditions
    searched = resolved(training={"schedule": {"choices": ["cosine", "step"]}, **factors}).arms[0]
    assert searched.conditions["training.step_factor"] == Condition(
        parameter="training.schedule", among=("step",)
    )
    assert searched.conditions["wd_ratio"].parameter == "weight_decay"


@pytest.mark.parametrize(("training", "default"), [({}, 0.0), ({"schedule": "one-cycle"}, 0.3)])
def test_a_setting_that_depends_on_the_schedule_starts_at_its_value(
    training: dict[str, Any], default: float
) -> None:
    found = resolved(training={**training, "warmup_fraction": {"low": 0.0, "high": 0.2}}).arms[0]
    assert found.defaults["training.warmup_fraction"] == default


def test_a_workloads_hyperparameters_and_groups_are_dimensions_of_every_arm_that_has_them() -> None:
    body = study_body(
        arms=["adamw", {"optimizer": "stepper", "space": {"lr": 0.05}}],
        space={"workload.dropout": "tune", "groups.head.lr": "tune", "groups.head.weight_decay": 0.0},
    )
    adamw, stepper = resolve(parse_spec(body), ADJUSTABLE).arms
    assert adamw.space["workload.dropout"] == Range(low=0.0, high=0.5)
    assert adamw.space["groups.head.lr"] == adamw.space["lr"]
    # Without a value of its own, a group starts with the arm's.
    assert (adamw.defaults["groups.head.lr"], stepper.defaults["groups.head.lr"]) == (1e-3, 0.05)
    assert "groups.head.weight_decay" in adamw.space
    assert "groups.head.weight_decay" not in stepper.space


def changed(optimizer: str, **fields: Any) -> Catalog:
    card = ADJUSTABLE.optimizers[optimizer].model_copy(update=fields)
    return ADJUSTABLE.model_copy(update={"optimizers": {**ADJUSTABLE.optimizers, optimizer: card}})


def test_a_group_has_the_numbers_that_its_optimizer_has_for_each_group() -> None:
    numbers = changed("adamp", per_group=("lr", "weight_decay", "wd_ratio", "beta1"))
    space = {"groups.head.wd_ratio": "tune", "groups.head.beta1": {"low": 0.5, "high": 0.9}}
    body = study_body(arms=["adamp", "adamw"], space=space)
    adamp, adamw = resolve(parse_spec(body), numbers).arms
    assert (adamp.defaults["groups.head.beta1"], adamp.defaults["groups.head.wd_ratio"]) == (0.9, 0.1)
    # Without a weight decay of its own, the group has the arm's.
    assert adamp.conditions["groups.head.wd_ratio"] == Condition(parameter="weight_decay", above=0)
    assert not any(name.startswith("groups.") for name in adamw.space)
    own = study_body(arms=["adamp"], space={**space, "groups.head.weight_decay": "tune"})
    [adamp] = resolve(parse_spec(own), numbers).arms
    assert adamp.conditions["groups.head.wd_ratio"].parameter == "groups.head.weight_decay"


def test_a_constraint_holds_in_each_group() -> None:
    space = {"groups.head.lr": 2.0, "weight_decay": 0.6, "momentum": 0.0}
    with pytest.raises(SpecInvalid, match="sgdp needs lr"):
        resolve(parse_spec(study_body(arms=[{"optimizer": "sgdp", "space": space}])), ADJUSTABLE)
    card = CATALOG.optimizers["sgdp"]
    fine: Parameters = {"lr": 0.1, "weight_decay": 0.6, "momentum": 0.0}
    assert broken_constraint(card, fine) is None
    assert broken_constraint(card, {**fine, "groups.head.lr": 2.0}) == card.constraints[0]


RATE = (
    CATALOG.optimizers["stepper"]
    .hyperparameters[0]
    .model_copy(update={"name": "other_lr", "tuned": False, "follows": "lr"})
)
TWO_RATES = changed("stepper", hyperparameters=(*CATALOG.optimizers["stepper"].hyperparameters, RATE))


def test_a_hyperparameter_follows_another_until_the_arm_sets_or_searches_it() -> None:
    arms = [
        {"optimizer": "stepper", "name": name, "space": {"lr": 0.05, **space}}
        for name, space in (
            ("following", {}),
            ("fixed", {"other_lr": 0.2}),
            ("searching", {"other_lr": "tune"}),
        )
    ]
    following, fixed, searching = resolve(parse_spec(study_body(arms=arms)), TWO_RATES).arms
    assert "other_lr" not in following.space
    assert "other_lr" not in following.defaults
    assert following.card.completed(following.defaults)["other_lr"] == 0.05
    assert fixed.defaults["other_lr"] == 0.2
    assert searching.space["other_lr"] == RATE.search
    assert searching.defaults["other_lr"] == 0.05


@pytest.mark.parametrize(
    ("fields", "part"),
    [
        ({"follows": "k"}, "default of k"),
        ({"follows": "rate"}, "not a hyperparameter with a value of its own"),
        ({"tuned": True}, "expected tuned to be false"),
    ],
)
def test_a_card_on_which_a_hyperparameter_cannot_follow_is_refused(fields: dict[str, Any], part: str) -> None:
    card = TWO_RATES.optimizers["stepper"].model_dump(mode="json")
    card["hyperparameters"][-1] |= fields
    with pytest.raises(ValidationError, match=part):
        OptimizerCard.model_validate(card)


@pytest.mark.parametrize(
    ("entry", "part"),
    [
        ({"workload.dropot": 0.1}, "did you mean 'workload.dropout'"),
        ({"workload.dropout": 1.0}, "[0, 1)"),
        ({"groups.heads.lr": 0.1}, "did you mean 'groups.head.lr'"),
        ({"groups.head.lr": {"low": -1, "high": 1}}, "(0, inf)"),
    ],
)
def test_a_fault_of_a_workloads_dimension_is_reported_once(entry: dict[str, Any], part: str) -> None:
    with pytest.raises(SpecInvalid) as raised:
        resolve(parse_spec(study_body(space=entry)), ADJUSTABLE)
    [problem] = raised.value.problems
    assert problem.pointer == f"/space/{next(iter(entry))}"
    assert part in problem.message


def test_a_workloads_hyperparameter_that_is_tuned_by_default_is_searched_unasked() -> None:
    card = ADJUSTABLE.workloads["digits-mlp"]
    tuned = card.model_copy(update={"hyperparameters": (DROPOUT.model_copy(update={"tuned": True}),)})
    catalog_ = ADJUSTABLE.model_copy(update={"workloads": {"digits-mlp": tuned}})
    for arm in resolve(parse_spec(study_body()), catalog_).arms:
        assert arm.space["workload.dropout"] == Range(low=0.0, high=0.5)


def test_what_an_optimizer_ignores_is_not_searched_in_its_arm() -> None:
    study = resolved(arms=["adamw", "stepper"], training={"decay_1d": "tune"})
    assert [("training.decay_1d" in arm.space) for arm in study.arms] == [True, False]


def test_a_grid_counts_the_points_of_the_studys_space() -> None:
    arm = {"optimizer": "stepper", "space": {"lr": {"choices": [0.1, 0.01]}, "k": 3}}
    found = resolved(
        arms=[arm], sampler="grid", budget={"trials_per_arm": 99}, training={"batch_size": BATCHES}
    )
    # Four points, and the defaults, which are not among them.
    assert found.arms[0].trials == 5


def test_an_arm_that_is_added_later_searches_the_studys_space() -> None:
    spec = parse_spec(study_body(arms=["adamp"], training={"batch_size": BATCHES}))
    longer, plan = extended(spec, resolve(spec, CATALOG), parse_extension({"arms": ["adamw"]}), CATALOG)
    assert plan.arms[1].space["training.batch_size"] == Choices(choices=(16, 64))
    assert longer.space == spec.space
