"""Resolving a study: names are looked up, spaces completed, and impossible studies rejected with a hint."""

import time
from typing import Any

import pytest
from catalogs import catalog, study_body

from studies.catalog import Catalog, MetricCard, Needs, WorkloadKind
from studies.errors import CatalogEmpty, SpecInvalid
from studies.resolve import ResolvedArm, ResolvedStudy, resolve
from studies.space import Choices, Fixed, Range, every_point, without_inert
from studies.spec import StudySpec, Training, parse_spec
from studies.training_problems import used_values

__all__: list[str] = []

CATALOG = catalog()
ADAMP = CATALOG.optimizers["adamp"]
FEW: dict[str, Any] = {
    "optimizer": "stepper",
    "space": {"lr": 0.1, "k": {"choices": [2, 3]}, "rule": "plain"},
}


def resolved(**fields: Any) -> ResolvedStudy:
    return resolve(parse_spec(study_body(**fields)), CATALOG)


def arm(optimizer: str = "adamp", *, trials: int = 12, sampler: str = "tpe", **space: Any) -> ResolvedArm:
    """Return one arm, resolved."""
    arms = [{"optimizer": optimizer, "space": space}]
    return resolved(arms=arms, budget={"trials_per_arm": trials}, sampler=sampler).arms[0]


def problems(**fields: Any) -> dict[str, str]:
    """Return the faults of a study, message by pointer."""
    with pytest.raises(SpecInvalid) as raised:
        resolved(**fields)
    return {problem.pointer: problem.message for problem in raised.value.problems}


def arm_problems(optimizer: str = "adamp", *, sampler: str = "tpe", **space: Any) -> dict[str, str]:
    return problems(arms=[{"optimizer": optimizer, "space": space}], sampler=sampler)


def test_an_arm_without_a_space_searches_the_one_on_its_card() -> None:
    found = arm()
    assert list(found.space) == [h.name for h in ADAMP.hyperparameters], (
        "parameters must be in the card's order"
    )
    assert found.space == {
        h.name: h.search if h.tuned else Fixed(value=h.default) for h in ADAMP.hyperparameters
    }
    assert found.defaults == ADAMP.defaults
    assert (found.name, found.card, found.trials) == ("adamp", ADAMP, 12)


def test_the_studys_dimensions_replace_those_on_the_card() -> None:
    found = arm(
        lr={"low": 1e-3, "high": 1e-2, "log": True},
        weight_decay={"choices": [0.01, 0.1]},
        delta=0.2,
        nesterov=True,
    )
    assert found.space["lr"] == Range(low=1e-3, high=1e-2, log=True)
    assert found.space["weight_decay"] == Choices(choices=(0.01, 0.1))
    assert found.space["delta"] == Fixed(value=0.2)
    assert found.defaults == ADAMP.defaults | {"delta": 0.2, "nesterov": True}, (
        "the first trial must use the values that the study fixes"
    )


def test_tune_searches_the_range_on_the_card() -> None:
    assert arm(beta1="tune").space["beta1"] == Range(low=0.8, high=0.99)
    assert arm(nesterov="tune").space["nesterov"] == Choices(choices=(False, True))


def test_a_pair_fixes_both_hyperparameters() -> None:
    space = arm(betas=[0.8, 0.95]).space
    assert (space["beta1"], space["beta2"]) == (Fixed(value=0.8), Fixed(value=0.95))


def test_a_range_of_an_integer_hyperparameter_is_an_integer_range() -> None:
    assert arm("stepper", k={"low": 2, "high": 5}).space["k"] == Range(low=2, high=5, integer=True)


def test_epochs_and_batch_size_default_to_the_workloads() -> None:
    found = resolved(budget={"trials_per_arm": 1})
    assert (found.workload, found.epochs, found.batch_size) == (CATALOG.workloads["digits-mlp"], 4, 32)
    own = resolved(budget={"trials_per_arm": 1, "epochs": 7}, training={"batch_size": 1000})
    assert (own.epochs, own.batch_size) == (7, 1000)


STEPS = {"trials_per_arm": 3, "steps": 60, "evaluate_every": 5}


def test_intervals_of_steps_replace_the_epochs() -> None:
    found = resolved(budget=STEPS, pruner={"kind": "asha", "min_epochs": 11})
    assert (found.epochs, found.interval_steps, found.arms[0].trials) == (12, 5, 3)
    assert ResolvedStudy.model_validate_json(found.model_dump_json()) == found
    assert set(problems(budget=STEPS, pruner={"kind": "asha", "min_epochs": 12})) == {"/pruner/min_epochs"}
    # As stored before there were budgets of steps.
    stored = resolved().model_dump(exclude={"interval_steps"})
    assert ResolvedStudy.model_validate(stored).interval_steps is None


def test_the_time_of_an_interval_follows_from_its_share_of_the_data() -> None:
    card, training = CATALOG.workloads["digits-mlp"], Training(accumulation_steps=2)
    assert card.epoch_s is not None
    assert resolved().epoch_s(training) == card.epoch_s
    found = resolved(budget=STEPS, training={"accumulation_steps": 2})
    share = 5 * 2 * card.batch_size / card.examples["train"]
    assert found.epoch_s(training) == pytest.approx(share * card.epoch_s)


def test_steps_are_refused_whose_batches_processes_cannot_share() -> None:
    def found(kind: WorkloadKind, processes: int) -> ResolvedStudy:
        card = CATALOG.workloads["digits-mlp"].model_copy(update={"kind": kind})
        catalog = CATALOG.model_copy(update={"workloads": {"digits-mlp": card}})
        spec = parse_spec(study_body(budget=STEPS, resources={"processes_per_trial": processes}))
        return resolve(spec, catalog)

    with pytest.raises(SpecInvalid) as raised:
        found("loop", 2)
    [problem] = raised.value.problems
    assert problem.pointer == "/budget/steps"
    assert "the 2 processes" in problem.message
    # A script counts its steps itself, in each process.
    assert found("script", 2).interval_steps == 5


@pytest.mark.parametrize(
    ("card", "fields"),
    [
        ({"kind": "script"}, {}),
        ({"refuses": ("closure",)}, {}),
        ({"kind": "loop"}, {"resources": {"processes_per_trial": 2}}),
        ({}, {"training": {"precision": "fp16"}}),
    ],
)
def test_an_optimizer_is_refused_that_would_not_get_what_its_steps_need(
    card: dict[str, Any], fields: dict[str, Any]
) -> None:
    def found(needs: Needs, card: dict[str, Any], fields: dict[str, Any]) -> ResolvedStudy:
        workload = CATALOG.workloads["digits-mlp"].model_copy(update=card)
        optimizer = CATALOG.optimizers["adamp"].model_copy(update={"needs": needs})
        catalog = CATALOG.model_copy(
            update={
                "workloads": {"digits-mlp": workload},
                "optimizers": {**CATALOG.optimizers, "adamp": optimizer},
            }
        )
        return resolve(parse_spec(study_body(arms=["sgdp", "adamp"], **fields)), catalog)

    with pytest.raises(SpecInvalid) as refused:
        found("closure", card, fields)
    [problem] = refused.value.problems
    assert problem.pointer == "/arms/1/optimizer"
    assert "a second pass over each batch" in problem.message
    found("gradients", card, fields)
    found("closure", {}, {})


def test_batches_of_several_passes_may_share_a_step() -> None:
    training = {"batch_size": 1000, "accumulation_steps": 2}
    assert set(problems(training=training)) == {"/training/accumulation_steps"}
    assert resolved(budget=STEPS, training=training).interval_steps == 5


def test_a_resolved_study_survives_json() -> None:
    found = resolved(arms=["adamp", "sgdp", {"optimizer": "stepper", "space": {"k": {"choices": [2, 3]}}}])
    assert ResolvedStudy.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("fields", "pointer", "message"),
    [
        (
            {"workload": "digits-mpl"},
            "/workload",
            "there is no workload 'digits-mpl'; did you mean 'digits-mlp'?",
        ),
        ({"workload": "zzz"}, "/workload", "there is no workload 'zzz'; known: digits-mlp, char-lm"),
        (
            {"arms": ["adamw", "adampp"]},
            "/arms/1/optimizer",
            "there is no optimizer 'adampp'; did you mean 'adamp'?",
        ),
        (
            {"arms": ["xyz"]},
            "/arms/0/optimizer",
            "there is no optimizer 'xyz'; known: adamp, adamw, sgdp, stepper",
        ),
        (
            {"training": {"batch_size": 1001}},
            "/training/batch_size",
            "expected at most the 1000 training examples of digits-mlp, got 1001",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_closest_known_one(
    fields: dict[str, Any], pointer: str, message: str
) -> None:
    assert problems(**fields) == {pointer: message}


@pytest.mark.parametrize(
    ("optimizer", "space", "entry", "contains"),
    [
        (
            "adamp",
            {"weight_dcay": 0},
            "weight_dcay",
            (
                "'weight_dcay'; it has lr, beta1, beta2, weight_decay, delta, wd_ratio, "
                "nesterov; did you mean 'weight_decay'?"
            ),
        ),
        ("adamp", {"beta": [0.9, 0.99]}, "beta", "did you mean 'betas'?"),
        ("adamp", {"a/b~": 1}, "a~1b~0", "adamp has no hyperparameter 'a/b~'"),
        ("adamp", {"lr": -0.1}, "lr", "expected lr in (0, inf), got -0.1"),
        ("adamp", {"lr": {"low": 0, "high": 1}}, "lr", "expected lr in (0, inf), got 0"),
        ("adamp", {"beta1": {"low": 0.5, "high": 1}}, "beta1", "expected beta1 in [0, 1), got 1"),
        ("adamp", {"lr": {"choices": [0.1, -1]}}, "lr", "expected lr in (0, inf), got -1"),
        ("adamp", {"lr": "0.1"}, "lr", "expected a number for lr, got '0.1'"),
        ("adamp", {"nesterov": 1}, "nesterov", "expected nesterov to be False or True, got 1"),
        (
            "adamp",
            {"nesterov": {"low": 0, "high": 1}},
            "nesterov",
            "expected nesterov to be False or True, got 0",
        ),
        (
            "adamp",
            {"lr": [0.1, 0.2]},
            "lr",
            "{'choices': [0.1, 0.2]}",
        ),
        (
            "adamp",
            {"betas": 0.9},
            "betas",
            "beta1 and beta2",
        ),
        ("adamp", {"betas": [0.9, 1.5]}, "betas", "expected beta2 in [0, 1), got 1.5"),
        (
            "adamp",
            {"betas": [0.9, 0.99], "beta1": 0.8},
            "beta1",
            "beta1 is set twice, by betas and by beta1",
        ),
        (
            "adamp",
            {"beta2": 0.8, "betas": [0.9, 0.99]},
            "betas",
            "beta2 is set twice, by beta2 and by betas",
        ),
        ("stepper", {"k": 2.5}, "k", "expected a whole number for k, got 2.5"),
        ("stepper", {"k": {"low": 2, "high": 2.5}}, "k", "expected a whole number for k, got 2.5"),
        ("stepper", {"rule": "odd"}, "rule", "expected rule to be 'plain' or 'signed', got 'odd'"),
    ],
)
def test_a_wrong_entry_is_reported_with_its_pointer(
    optimizer: str, space: dict[str, Any], entry: str, contains: str
) -> None:
    found = arm_problems(optimizer, **space)
    assert list(found) == [f"/arms/0/space/{entry}"]
    assert contains in found[f"/arms/0/space/{entry}"]


def test_all_faults_of_all_arms_are_reported_at_once() -> None:
    arms = [
        {"optimizer": "adamp", "space": {"lr": 0, "x": 1}},
        "nothing",
        {"optimizer": "stepper", "space": {"k": 0}},
    ]
    found = problems(workload="digits", arms=arms)
    assert set(found) == {
        "/workload",
        "/arms/0/space/lr",
        "/arms/0/space/x",
        "/arms/1/optimizer",
        "/arms/2/space/k",
    }


def test_a_hyperparameter_that_never_has_an_effect_is_not_searched() -> None:
    assert arm(weight_decay=0).space["wd_ratio"] == Fixed(value=0.1)
    assert arm(weight_decay={"choices": [0]}).space["wd_ratio"] == Fixed(value=0.1)
    assert isinstance(arm(weight_decay={"choices": [0, 0.1]}).space["wd_ratio"], Range)


def test_searching_a_hyperparameter_that_never_has_an_effect_is_refused() -> None:
    found = arm_problems(weight_decay=0, wd_ratio={"low": 0.1, "high": 1})
    assert set(found) == {"/arms/0/space/wd_ratio"}
    assert arm(weight_decay=0, wd_ratio=0.5).defaults["wd_ratio"] == 0.5, (
        "a fixed value adds no configurations"
    )


def test_a_space_in_which_no_configuration_meets_the_constraint_is_refused() -> None:
    found = arm_problems("sgdp", lr={"low": 0.5, "high": 1}, weight_decay={"choices": [0.9, 1]}, momentum=0.9)
    assert set(found) == {"/arms/0/space"}
    assert "lr * weight_decay < 1 - momentum" in found["/arms/0/space"]
    assert arm("sgdp", lr={"low": 0.05, "high": 1}, weight_decay={"choices": [0.9, 1]}, momentum=0.9), (
        "a space may contain configurations that break the constraint"
    )


def test_a_grid_searches_only_the_listed_values() -> None:
    found = arm(sampler="grid", lr={"choices": [0.1, 0.01]}, nesterov="tune")
    assert [name for name, dimension in found.space.items() if not isinstance(dimension, Fixed)] == [
        "lr",
        "nesterov",
    ]


@pytest.mark.parametrize(
    ("space", "continuous"),
    [
        ({"lr": {"low": 0.1, "high": 1}}, "lr is a continuous range"),
        ({"lr": "tune", "delta": "tune"}, "lr, delta are continuous ranges"),
    ],
)
def test_a_grid_over_a_continuous_range_is_refused(space: dict[str, Any], continuous: str) -> None:
    found = arm_problems(sampler="grid", **space)
    assert set(found) == {"/arms/0/space"}
    assert continuous in found["/arms/0/space"]


def test_a_grid_with_too_many_points_is_refused() -> None:
    found = arm_problems("stepper", sampler="grid", k={"low": 1, "high": 2**53})
    assert set(found) == {"/arms/0/space"}
    assert "100000 points, got 9007199254740992" in found["/arms/0/space"]
    assert arm("stepper", sampler="grid", k={"low": 1, "high": 100_000})


@pytest.mark.parametrize(
    ("space", "trials"),
    [
        # The default configuration lies outside these choices, so it is one more.
        ({"lr": {"choices": [0.1, 0.01]}, "weight_decay": 0.1, "wd_ratio": 0.1, "delta": 0.1}, 3),
        ({"lr": {"choices": [0.001, 0.01]}, "weight_decay": 0.1, "wd_ratio": 0.1, "delta": 0.1}, 2),
        ({"lr": 0.1, "weight_decay": 0.1, "wd_ratio": 0.1, "delta": 0.1}, 1),
        ({}, 12),
    ],
)
def test_an_arm_runs_at_most_as_many_trials_as_it_has_configurations(
    space: dict[str, Any], trials: int
) -> None:
    assert arm(**space).trials == trials


def test_an_arm_admits_exactly_the_configurations_in_its_space() -> None:
    found = arm(lr={"low": 1e-3, "high": 1e-2})
    inside = ADAMP.defaults | {"lr": 5e-3, "weight_decay": 0.1}
    assert found.admits(inside)
    assert not found.admits(inside | {"lr": 0.1})
    assert not found.admits(found.defaults), "zero is below any logarithmic range"


def test_a_stored_study_with_resources_that_are_now_refused_is_still_read() -> None:
    asked = {"gpus_per_pack": 2, "cpus_per_pack": 1e-5}
    stored = parse_spec(study_body(resources=asked)).model_dump(mode="json")
    found = StudySpec.model_validate(stored).resources
    assert (found.gpus_per_pack, found.cpus_per_pack) == (2, 1e-5)


NEAR = MetricCard(name="near", unit="none", direction="minimize")
WITH_METRICS = CATALOG.model_copy(
    update={
        "workloads": {
            name: card.model_copy(update={"metrics": (NEAR,)}) for name, card in CATALOG.workloads.items()
        }
    }
)


def test_the_objective_may_be_any_metric_of_the_workload_with_its_unit_and_direction() -> None:
    body = study_body(objective={"metric": "near", "compare": ["accuracy"]})
    card = resolve(parse_spec(body), WITH_METRICS).workload
    assert (card.metric, card.unit, card.direction, card.target) == ("near", "none", "minimize", None)
    own = CATALOG.workloads[body["workload"]]
    assert [(each.name, each.unit, each.direction, each.target) for each in card.metrics] == [
        (own.metric, own.unit, own.direction, own.target)
    ]
    without = resolve(parse_spec(study_body()), WITH_METRICS).workload
    assert without == WITH_METRICS.workloads[body["workload"]]


@pytest.mark.parametrize(
    ("objective", "pointer", "message"),
    [
        ({"metric": "neer"}, "/objective/metric", "did you mean 'near'?"),
        ({"compare": ["near", "f1"]}, "/objective/compare/1", "it has accuracy, near"),
        ({"compare": ["accuracy"]}, "/objective/compare/0", "beside the objective"),
        ({"metric": "near", "compare": ["near"]}, "/objective/compare", "beside the objective"),
        ({"compare": ["near", "near"]}, "/objective/compare", "once"),
    ],
)
def test_a_wrong_metric_is_reported_with_its_pointer(
    objective: dict[str, Any], pointer: str, message: str
) -> None:
    with pytest.raises(SpecInvalid) as raised:
        resolve(parse_spec(study_body(objective=objective)), WITH_METRICS)
    [problem] = raised.value.problems
    assert problem.pointer == pointer
    assert message in problem.message


@pytest.mark.parametrize(
    ("asked", "cpus", "gpus"),
    [
        ({}, (2, 1), (0, 0)),
        ({"gpus_per_process": 1}, (2, 1), (2, 1)),
        ({"cpus_per_process": 3}, (6, 3), (0, 0)),
        ({"cpus_per_pack": 3, "gpus_per_pack": 2}, (3, 1.5), (2, 1)),
        ({"cpus_per_pack": 4, "cpus_per_process": 2}, (4, 2), (0, 0)),
    ],
)
def test_a_pack_occupies_what_the_processes_of_its_trial_do(
    asked: dict[str, Any], cpus: tuple[float, float], gpus: tuple[float, float]
) -> None:
    found = parse_spec(study_body(resources={"processes_per_trial": 2, **asked})).resources
    assert (found.cpus_per_pack, found.cpus_per_process) == cpus
    assert (found.gpus_per_pack, found.gpus_per_process) == gpus
    again = parse_spec(study_body(resources=found.model_dump(mode="json"))).resources
    assert again == found


@pytest.mark.parametrize(
    ("asked", "pointer"),
    [
        ({"cpus_per_pack": 3, "cpus_per_process": 1}, "/resources/cpus_per_pack"),
        ({"gpus_per_pack": 1, "gpus_per_process": 1}, "/resources/gpus_per_pack"),
        ({"gpus_per_pack": 1}, "/resources/gpus_per_process"),
        ({"max_pack_size": 4}, "/resources/max_pack_size"),
        ({"processes_per_trial": 3}, "/training/batch_size"),
        ({"processes_per_trial": 1, "shard_optimizer": True}, "/resources/shard_optimizer"),
        ({"processes_per_trial": 1, "cpus_per_process": 2, "cpus_per_pack": 1}, "/resources/cpus_per_pack"),
    ],
)
def test_resources_that_contradict_each_other_are_refused(asked: dict[str, Any], pointer: str) -> None:
    loops = CATALOG.workloads["digits-mlp"].model_copy(update={"kind": "loop"})
    looped = CATALOG.model_copy(update={"workloads": {"digits-mlp": loops}})
    body = study_body(workload="digits-mlp", resources={"processes_per_trial": 2, **asked})
    with pytest.raises(SpecInvalid) as refused:
        resolve(parse_spec(body), looped)
    assert [problem.pointer for problem in refused.value.problems] == [pointer]


def test_several_processes_are_refused_for_a_workload_of_tensors() -> None:
    assert (
        "only a LoopWorkload"
        in problems(resources={"processes_per_trial": 2})["/resources/processes_per_trial"]
    )


@pytest.mark.parametrize("kept", [{}, {"workloads": CATALOG.workloads}, {"optimizers": CATALOG.optimizers}])
def test_nothing_can_be_submitted_to_an_empty_catalogue(kept: dict[str, Any]) -> None:
    with pytest.raises(CatalogEmpty):
        resolve(parse_spec(study_body()), Catalog(**kept))


def test_settings_that_the_workload_does_not_allow_are_refused_fixed_or_searched() -> None:
    card = CATALOG.workloads["digits-mlp"].model_copy(update={"takes_label_smoothing": False})
    catalog = CATALOG.model_copy(update={"workloads": {"digits-mlp": card}})
    own = {"training.label_smoothing": 0.1, "training.accumulation_steps": {"choices": [1, 11]}}
    refused: list[tuple[dict[str, Any], dict[str, str]]] = [
        (
            {"training": {"label_smoothing": 0.1, "batch_size": 100, "accumulation_steps": 11}},
            {"/training/label_smoothing": "got 0.1", "/training/accumulation_steps": "at most 10, "},
        ),
        (
            {"training": {"label_smoothing": "tune", "batch_size": {"choices": [8, 500]}}}
            | {"space": {"training.accumulation_steps": "tune"}},
            {
                "/space/training.label_smoothing": "got up to 0.2: the loss of digits-mlp",
                "/space/training.accumulation_steps": "at most 2, ",
            },
        ),
        (
            {"arms": ["adamp", {"optimizer": "adamw", "space": own}], "training": {"batch_size": 100}},
            {
                "/arms/1/space/training.label_smoothing": "restart the dispatcher",
                "/arms/1/space/training.accumulation_steps": "at most 10, ",
            },
        ),
    ]
    for body, expected in refused:
        with pytest.raises(SpecInvalid) as raised:
            resolve(parse_spec(study_body(**body)), catalog)
        found = {problem.pointer: problem.message for problem in raised.value.problems}
        assert list(found) == list(expected)
        assert all(text in found[pointer] for pointer, text in expected.items())
    allowed = {"precision": "fp16", "label_smoothing": "tune", "batch_size": 100, "accumulation_steps": 10}
    assert resolved(training=allowed).batch_size == 100
    spec = parse_spec(study_body(training=allowed))
    spaces = [arm.space for arm in resolve(spec, CATALOG).arms]
    assert used_values(spec, spaces, "precision") == {"fp16"}
    assert used_values(spec, spaces, "label_smoothing") == {0.0, 0.2}


def test_average_weights_beside_the_weights_give_each_metric_a_twin() -> None:
    beside = {"ema_evaluation": "beside"}
    fixed = resolved(training={"ema_decay": 0.9, **beside}, objective={"compare": ["accuracy (EMA)"]})
    assert fixed.workload.metric_names == ("accuracy", "accuracy (EMA)")
    assert ResolvedStudy.model_validate_json(fixed.model_dump_json()) == fixed
    searched = resolved(training={"ema_decay": "tune", **beside}, objective={"metric": "accuracy (EMA)"})
    assert (searched.workload.metric, searched.workload.unit) == ("accuracy (EMA)", "fraction")
    refused: list[tuple[dict[str, Any], str, str]] = [
        ({"training": beside}, "/training/ema_decay", "a decay above 0"),
        (
            {"training": {"ema_decay": "tune", **beside}},
            "/space/training.ema_decay",
            "the objective is another",
        ),
        ({"objective": {"metric": "accuracy (EMA)"}}, "/objective/metric", "has no metric"),
    ]
    for body, pointer, text in refused:
        assert text in problems(**body)[pointer]
    script = CATALOG.workloads["digits-mlp"].model_copy(update={"kind": "script"})
    with pytest.raises(SpecInvalid, match="a loop of its own"):
        resolve(
            parse_spec(study_body(training={"ema_decay": 0.9, **beside})),
            CATALOG.model_copy(update={"workloads": {"digits-mlp": script}}),
        )


def test_configurations_that_train_alike_count_once() -> None:
    space = {
        "lr": 0.01,
        "delta": 0.1,
        "weight_decay": {"choices": [0.0, 0.01]},
        "wd_ratio": {"choices": [0.1, 0.5]},
    }
    arm = resolve(
        parse_spec(
            study_body(
                arms=[{"optimizer": "adamp", "space": space}], sampler="grid", budget={"trials_per_arm": 50}
            )
        ),
        catalog(),
    ).arms[0]
    # Without decay the ratio has no effect. The defaults are not in the space, because their lr differs.
    assert arm.trials == 3


@pytest.mark.parametrize("optimizer", ["adamp", "sgdp"])
def test_large_spaces_are_counted_without_enumeration(optimizer: str) -> None:
    space: dict[str, Any] = {
        "lr": {"choices": [0.1, 0.2]},
        "weight_decay": {"choices": [0, 0.1, 0.5]},
        "wd_ratio": {"choices": [0.1, 0.5]},
    }
    found = arm(optimizer, sampler="grid", **space)
    defaults, conditions = found.defaults, found.card.conditions
    each = {tuple(without_inert(point, conditions, defaults).items()) for point in every_point(found.space)}
    assert found.configurations() == len(each | {tuple(defaults.items())})
    many = {"choices": [0.001 * n for n in range(1, 101)]}
    began = time.process_time()
    space |= {"lr": many, "weight_decay": many, "wd_ratio": {"choices": [0.1 * n for n in range(1, 11)]}}
    assert arm(optimizer, trials=100_000, sampler="grid", **space).trials == 100_000 + 1, "the defaults too"
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median"])
def test_a_pruner_without_a_rung_below_the_last_epoch_is_refused(pruner: str) -> None:
    assert resolved(pruner={"kind": pruner, "min_epochs": 1}).epochs == 2
    found = problems(pruner={"kind": pruner, "min_epochs": 2})
    assert found["/pruner/min_epochs"].startswith("expected fewer than the 2 epochs of a trial")
    assert "got 2; lower it" in found["/pruner/min_epochs"]
    assert set(problems(pruner=pruner, budget={"trials_per_arm": 3, "epochs": 1})) == {"/pruner/min_epochs"}


def test_a_pruners_rungs_are_checked_against_the_workloads_own_epochs() -> None:
    assert resolved(pruner={"kind": "asha", "min_epochs": 3}, budget={"trials_per_arm": 3}).epochs == 4
    assert set(problems(pruner={"kind": "asha", "min_epochs": 4}, budget={"trials_per_arm": 3})) == {
        "/pruner/min_epochs"
    }


def test_every_replicate_has_the_trials_of_the_budget() -> None:
    plan = resolved(arms=["adamw", FEW], budget={"trials_per_arm": 5, "replicates": 4})
    assert [one.trials for one in plan.arms] == [5, 3]


def test_every_replicate_searches_the_whole_grid() -> None:
    [one] = resolved(arms=[FEW], sampler="grid", budget={"trials_per_arm": 50, "replicates": 4}).arms
    assert (one.trials, one.configurations()) == (3, 3)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"search": {"paired": 3}}, "expected at most 2"),
        ({"search": {"paired": 1}, "sampler": "grid"}, "expected 0"),
    ],
)
def test_pairs_that_a_search_has_no_place_for_are_refused(fields: dict[str, Any], expected: str) -> None:
    arms = [{"optimizer": "adamw", "space": {"lr": {"choices": [0.1, 0.2]}}}]
    found = problems(arms=arms, **fields)
    assert set(found) == {"/search/paired"}
    assert found["/search/paired"].startswith(expected)


def test_paired_trials_may_repeat_the_configurations_of_a_small_space() -> None:
    fixed = {"optimizer": "stepper", "name": "fixed", "space": {"lr": 0.1, "k": 2, "rule": "plain"}}
    budget = {"trials_per_arm": 20, "replicates": 2}
    plan = resolved(arms=["adamw", FEW, fixed], budget=budget, search={"paired": 10})
    assert [one.trials for one in plan.arms] == [20, 13, 11]
