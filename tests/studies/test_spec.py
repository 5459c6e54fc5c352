"""Parsing a study: shorthands, one stored form, and a message with a JSON pointer for every fault."""

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from catalogs import study_body
from hypothesis import given
from hypothesis import strategies as st

from studies.errors import SpecInvalid, SpecProblem
from studies.pruner import Asha, Hyperband, Median, NoPruner, Pruner
from studies.space import Choices, Fixed, Range
from studies.space_entries import Pair, Tune
from studies.spec import StudySpec, parse_spec

__all__: list[str] = []


def with_space(**space: Any) -> dict[str, Any]:
    return study_body(arms=[{"optimizer": "adamp", "space": space}])


def problems(data: Any) -> dict[str, str]:
    """Return the faults of a study, message by pointer."""
    with pytest.raises(SpecInvalid) as raised:
        parse_spec(data)
    return {problem.pointer: problem.message for problem in raised.value.problems}


def test_an_arm_may_be_just_a_name() -> None:
    short = parse_spec(study_body(arms=["adamp"]))
    assert short == parse_spec(study_body(arms=[{"optimizer": "adamp", "name": "adamp", "space": {}}]))


def test_an_arm_is_named_after_its_optimizer_by_default() -> None:
    spec = parse_spec(study_body(arms=["adamp", {"optimizer": "adamp", "name": "wide"}]))
    assert [arm.name for arm in spec.arms] == ["adamp", "wide"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (0.9, Fixed(value=0.9)),
        (True, Fixed(value=True)),
        ("plain", Fixed(value="plain")),
        ("tune", Tune()),
        ([0.9, 0.99], Pair(values=(0.9, 0.99))),
        ({"low": 1e-4, "high": 1e-1, "log": True}, Range(low=1e-4, high=1e-1, log=True)),
        ({"low": 1, "high": 8, "integer": True}, Range(low=1, high=8, integer=True)),
        ({"choices": [0, 0.1]}, Choices(choices=(0, 0.1))),
        ({"value": 3}, Fixed(value=3)),
        ({"kind": "range", "low": 0, "high": 1}, Range(low=0, high=1)),
    ],
)
def test_every_shorthand_of_a_dimension_is_expanded(written: Any, meant: Any) -> None:
    assert parse_spec(with_space(x=written)).arms[0].space["x"] == meant


@pytest.mark.parametrize("value", [True, 1, 1.0, "1"])
def test_a_value_keeps_the_type_it_was_written_in(value: Any) -> None:
    entry = parse_spec(with_space(x=value)).arms[0].space["x"]
    assert isinstance(entry, Fixed)
    assert type(entry.value) is type(value)
    stored = json.loads(json.dumps(entry.model_dump(mode="json")))
    assert type(stored["value"]) is type(value)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("none", NoPruner()),
        ("asha", Asha(min_epochs=1, reduction_factor=3)),
        ("hyperband", Hyperband(min_epochs=1, reduction_factor=3)),
        ("median", Median(min_epochs=1, min_trials=5, every_epochs=1)),
        ({"kind": "none"}, NoPruner()),
        ({"kind": "asha", "min_epochs": 2, "reduction_factor": 4}, Asha(min_epochs=2, reduction_factor=4)),
        ({"kind": "hyperband", "reduction_factor": 2}, Hyperband(reduction_factor=2)),
        ({"kind": "median", "every_epochs": 3, "min_trials": 2}, Median(every_epochs=3, min_trials=2)),
    ],
)
def test_a_pruner_may_be_just_a_name_as_in_older_versions(written: Any, meant: Pruner) -> None:
    assert parse_spec(study_body(pruner=written)).pruner == meant
    assert parse_spec(study_body()).pruner == NoPruner()


@pytest.mark.parametrize(
    ("pruner", "shown"),
    [
        (NoPruner(), "none"),
        (Asha(), "asha (from epoch 1, 1 in 3 promoted)"),
        (Hyperband(min_epochs=2), "hyperband (from epoch 2, 1 in 3 promoted)"),
        (Median(every_epochs=2), "median (from epoch 1, every 2 epochs, after 5 trials)"),
        (Median(min_trials=1), "median (from epoch 1, every epoch, after 1 trial)"),
    ],
)
def test_a_pruner_is_described_in_words(pruner: Pruner, shown: str) -> None:
    assert str(pruner) == shown


def test_a_study_without_a_name_gets_a_title() -> None:
    assert parse_spec(study_body()).name == "adamp, adamw on digits-mlp"
    assert parse_spec(study_body(name="Mine")).name == "Mine"
    arms = [{"optimizer": "adamp", "name": f"a{n}-{'x' * 60}"} for n in range(6)]
    assert len(parse_spec(study_body(arms=arms)).name) == 200


EVERYTHING: dict[str, Any] = {
    "name": "Everything",
    "workload": "char-lm",
    "arms": [
        "adamw",
        {
            "optimizer": "adamp",
            "name": "wide",
            "space": {
                "lr": {"low": 1e-4, "high": 1e-1, "log": True},
                "betas": [0.9, 0.99],
                "weight_decay": {"choices": [0, 0.1]},
                "delta": "tune",
                "nesterov": True,
            },
        },
    ],
    "suite": "small-vision",
    "budget": {"trials_per_arm": 8, "epochs": 5, "replicates": 3},
    "confirmation": {"seeds": 7, "solo": True},
    "sampler": "random",
    "pruner": {"kind": "median", "min_epochs": 2, "min_trials": 3, "every_epochs": 2},
    "objective": {"at": "best"},
    "training": {"schedule": "warmup-cosine", "warmup_fraction": 0.1, "batch_size": 16, "decay_1d": False},
    "resources": {"cpus_per_pack": 2, "max_concurrent_packs": 1, "max_pack_size": 8},
    "seed": 3,
    "max_retries": 0,
}


IN_STEPS = study_body(budget={"trials_per_arm": 8, "steps": 2000, "evaluate_every": 200})


@pytest.mark.parametrize(
    "body", [study_body(), EVERYTHING, IN_STEPS], ids=["short", "everything", "in steps"]
)
def test_a_stored_study_reads_back_as_the_same_study(body: dict[str, Any]) -> None:
    spec = parse_spec(body)
    stored = json.loads(spec.model_dump_json())
    again = parse_spec(stored)
    assert again == spec
    assert again.model_dump_json() == spec.model_dump_json(), "each study has one stored form"


def test_the_defaults_are_one_replicate_and_five_fresh_seeds() -> None:
    spec = parse_spec({"workload": "digits-mlp", "arms": ["adamp"], "budget": {"trials_per_arm": 1}})
    assert (spec.budget.replicates, spec.confirmation.seeds, spec.confirmation.solo, spec.suite) == (
        1,
        5,
        False,
        None,
    )


def test_a_study_cannot_be_changed() -> None:
    spec = parse_spec(study_body())
    with pytest.raises(ValueError, match="frozen"):
        spec.seed = 1  # pyright: ignore[reportAttributeAccessIssue] # that is what is tested


FAULTS: dict[str, tuple[Any, str, str]] = {
    # name: (the study, the pointer of the fault, part of its message)
    "no object": ([], "", "expected an object with workload, arms and budget, got a list"),
    "an empty document": (None, "", "expected an object with workload, arms and budget, got null"),
    "nothing": ({}, "/workload", "this field is required"),
    "an unknown field": (study_body(budgt=1), "/budgt", "unknown field"),
    "an unknown field inside": (
        study_body(budget={"trials_per_arm": 1, "trails": 2}),
        "/budget/trails",
        "unknown field; the fields are trials_per_arm, epochs",
    ),
    "a name with a slash": (study_body(**{"a/b~c": 1}), "/a~1b~0c", "unknown field"),
    "no arms": (study_body(arms=[]), "/arms", "expected at least 1 entry, got 0"),
    "arms as text": (study_body(arms="adamp"), "/arms", "got 'adamp'"),
    "too many arms": (
        study_body(arms=[{"optimizer": "adamp", "name": f"a{n}"} for n in range(65)]),
        "/arms",
        "expected at most 64 entries, got 65",
    ),
    "an arm twice": (
        study_body(arms=["adamp", "adamp"]),
        "/arms",
        "'adamp' appears more than once; give each arm its own `name`",
    ),
    "an arm of no type": (study_body(arms=[5]), "/arms/0", "expected an object, got 5"),
    "an optimizer's name": (study_body(arms=["adamp", "Adam P"]), "/arms/1", "got 'Adam P'"),
    "an optimizer's name, spelled out": (
        study_body(arms=[{"optimizer": "Adam P"}]),
        "/arms/0/optimizer",
        "got 'Adam P'",
    ),
    "an arm's name": (study_body(arms=[{"optimizer": "adamp", "name": 0}]), "/arms/0/name", "got 0"),
    "no trials": (
        study_body(budget={"trials_per_arm": 0}),
        "/budget/trials_per_arm",
        "expected a number above 0, got 0",
    ),
    "half a trial": (study_body(budget={"trials_per_arm": 1.5}), "/budget/trials_per_arm", "got 1.5"),
    "trials as text": (study_body(budget={"trials_per_arm": "3"}), "/budget/trials_per_arm", "got '3'"),
    "trials without end": (
        study_body(budget={"trials_per_arm": 10**30}),
        "/budget/trials_per_arm",
        "got 1000",
    ),
    "no replicate": (
        study_body(budget={"trials_per_arm": 1, "replicates": 0}),
        "/budget/replicates",
        "expected at least 1, got 0",
    ),
    "replicates of NaN": (
        study_body(budget={"trials_per_arm": 1, "replicates": math.nan}),
        "/budget/replicates",
        "got nan",
    ),
    "replicates as a switch": (
        study_body(budget={"trials_per_arm": 1, "replicates": True}),
        "/budget/replicates",
        "got True",
    ),
    "replicates without end": (
        study_body(budget={"trials_per_arm": 1, "replicates": 1001}),
        "/budget/replicates",
        "expected at most 1000, got 1001",
    ),
    "replicates of too many trials": (
        study_body(budget={"trials_per_arm": 1000, "replicates": 101}),
        "/budget/replicates",
        "expected at most 100000 trials per arm over all replicates, got 1000 x 101 = 101000",
    ),
    "steps without intervals": (
        study_body(budget={"trials_per_arm": 1, "steps": 100}),
        "/budget/evaluate_every",
        "expected steps and evaluate_every together, got no evaluate_every",
    ),
    "intervals without steps": (
        study_body(budget={"trials_per_arm": 1, "epochs": 5, "evaluate_every": 10}),
        "/budget/evaluate_every",
        "expected steps and evaluate_every together, got no steps",
    ),
    "steps and epochs": (
        study_body(budget={"trials_per_arm": 1, "epochs": 5, "steps": 100, "evaluate_every": 10}),
        "/budget/steps",
        "expected a budget of epochs or of steps, got both",
    ),
    "a last interval that is shorter": (
        study_body(budget={"trials_per_arm": 1, "steps": 100, "evaluate_every": 30}),
        "/budget/evaluate_every",
        "expected a number that divides the 100 steps of a trial, got 30",
    ),
    "an interval beyond the last step": (
        study_body(budget={"trials_per_arm": 1, "steps": 100, "evaluate_every": 200}),
        "/budget/evaluate_every",
        "got 200",
    ),
    "evaluations without end": (
        study_body(budget={"trials_per_arm": 1, "steps": 1_000_000, "evaluate_every": 1}),
        "/budget/evaluate_every",
        "expected at most 100000 evaluations of a trial, got 1000000 / 1 = 1000000",
    ),
    "no steps": (
        study_body(budget={"trials_per_arm": 1, "steps": 0, "evaluate_every": 1}),
        "/budget/steps",
        "expected a number above 0, got 0",
    ),
    "steps without end": (
        study_body(budget={"trials_per_arm": 1, "steps": 10**30, "evaluate_every": 10**29}),
        "/budget/steps",
        "expected at most 1000000000",
    ),
    "intervals without end": (
        study_body(budget={"trials_per_arm": 1, "steps": 10**9, "evaluate_every": 10**9}),
        "/budget/evaluate_every",
        "expected at most 1000000, got 1000000000",
    ),
    "seeds below 0": (
        study_body(confirmation={"seeds": -1}),
        "/confirmation/seeds",
        "expected at least 0, got -1",
    ),
    "seeds without end": (
        study_body(confirmation={"seeds": 1001}),
        "/confirmation/seeds",
        "expected at most 1000, got 1001",
    ),
    "seeds of NaN": (study_body(confirmation={"seeds": math.nan}), "/confirmation/seeds", "got nan"),
    "seeds as a list": (study_body(confirmation={"seeds": [1, 2]}), "/confirmation/seeds", "got [1, 2]"),
    "a confirmation of a number": (study_body(confirmation=5), "/confirmation", "expected an object, got 5"),
    "solo as a number": (study_body(confirmation={"solo": 1}), "/confirmation/solo", "got 1"),
    "a field of no confirmation": (
        study_body(confirmation={"seed": 5}),
        "/confirmation/seed",
        "unknown field; the fields are seeds, solo",
    ),
    "too many runs": (
        study_body(budget={"trials_per_arm": 1, "replicates": 1000}, confirmation={"seeds": 100}),
        "/confirmation",
        (
            "got 100100: 100 seeds for the defaults and for the best of each of 1000 "
            "replicates; lower `seeds` or `replicates`"
        ),
    ),
    "a suite's name": (study_body(suite="Small vision"), "/suite", "got 'Small vision'"),
    "no suite's name": (study_body(suite=""), "/suite", "got ''"),
    "a sampler": (
        study_body(sampler="magic"),
        "/sampler",
        "expected 'tpe', 'random', 'qmc', 'gp', 'cmaes' or 'grid', got 'magic'",
    ),
    "a pruner": (
        study_body(pruner="magic"),
        "/pruner",
        "expected 'none', 'asha', 'hyperband' or 'median', or an object such as",
    ),
    "a pruner of no kind": (study_body(pruner={"min_epochs": 2}), "/pruner", "got {'min_epochs': 2}"),
    "a pruner of a list": (
        study_body(pruner=["asha"]),
        "/pruner",
        "expected 'none', 'asha', 'hyperband' or 'median', or an object such as",
    ),
    "a pruner of a number": (
        study_body(pruner=3),
        "/pruner",
        'or an object such as {"kind": "asha", "min_epochs": 1}, got 3',
    ),
    "a pruner of nothing": (
        study_body(pruner=None),
        "/pruner",
        'or an object such as {"kind": "asha", "min_epochs": 1}, got None',
    ),
    "a kind that is a list": (study_body(pruner={"kind": ["asha"]}), "/pruner", "got {'kind': ['asha']}"),
    "a rung at epoch 0": (
        study_body(pruner={"kind": "asha", "min_epochs": 0}),
        "/pruner/min_epochs",
        "expected a number above 0, got 0",
    ),
    "a rung at half an epoch": (
        study_body(pruner={"kind": "median", "min_epochs": 0.5}),
        "/pruner/min_epochs",
        "got 0.5",
    ),
    "everyone goes on": (
        study_body(pruner={"kind": "asha", "reduction_factor": 1}),
        "/pruner/reduction_factor",
        "expected at least 2, got 1",
    ),
    "another pruner's field": (
        study_body(pruner={"kind": "asha", "min_trials": 3}),
        "/pruner/min_trials",
        "unknown field; the fields are min_epochs, reduction_factor, kind",
    ),
    "a field of no pruner": (
        study_body(pruner={"kind": "none", "eta": 3}),
        "/pruner/eta",
        "unknown field; the only field is kind",
    ),
    "a field of no dimension": (
        study_body(arms=[{"optimizer": "adamp", "space": {"low": {"low": 0.1, "high": 1.0, "lgo": True}}}]),
        "/arms/0/space/low/lgo",
        "unknown field; the fields are kind, low, high, log",
    ),
    "a pack of nothing": (
        study_body(resources={"max_pack_size": 0}),
        "/resources/max_pack_size",
        "expected a number above 0, got 0",
    ),
    "a seed below 0": (study_body(seed=-1), "/seed", "got -1"),
    "a title with a line break": (study_body(name="a\nb"), "/name", r"got 'a\nb'"),
    "a title with NUL": (study_body(name="a\0b"), "/name", r"got 'a\x00b'"),
    "a title that is long": (study_body(name="x" * 201), "/name", "at most 200 characters"),
    "a title with half a surrogate pair": (study_body(name="a\ud800"), "/name", r"got 'a\ud800'"),
    "a field with half a surrogate pair": (study_body(**{"\ud800": 1}), "", r"got '\ud800'"),
    "a hyperparameter with half a surrogate pair": (
        with_space(**{"\ud800": 1}),
        "/arms/0/space",
        r"got '\ud800'",
    ),
    "a dimension that is nothing": (
        with_space(lr=None),
        "/arms/0/space/lr",
        "expected a number, true, false or text, got None",
    ),
    "a dimension of three": (with_space(lr=[1, 2, 3]), "/arms/0/space/lr", "got a list of length 3"),
    "a dimension of a kind": (with_space(lr={"kind": "gauss"}), "/arms/0/space/lr", "'gauss'"),
    "a range without ends": (with_space(lr={}), "/arms/0/space/lr/low", "this field is required"),
    "a range turned round": (
        with_space(lr={"low": 1, "high": 0.1}),
        "/arms/0/space/lr",
        "expected low < high, got low=1 and high=0.1",
    ),
    "a range of one point": (
        with_space(lr={"low": 1, "high": 1}),
        "/arms/0/space/lr",
        "write the number itself",
    ),
    "a log range from 0": (
        with_space(lr={"low": 0, "high": 1, "log": True}),
        "/arms/0/space/lr",
        "expected low > 0 in a log range, got low=0",
    ),
    "a whole range with half an end": (
        with_space(k={"low": 0.5, "high": 3, "integer": True}),
        "/arms/0/space/k",
        "expected whole numbers in an integer range, got low=0.5 and high=3",
    ),
    "a whole range without end": (
        with_space(k={"low": 1, "high": 1e300, "integer": True}),
        "/arms/0/space/k",
        "between -2**53 and 2**53",
    ),
    "a range too wide": (
        with_space(lr={"low": -1.7e308, "high": 1.7e308}),
        "/arms/0/space/lr",
        "wider than the largest number",
    ),
    "a range from NaN": (
        with_space(lr={"low": math.nan, "high": 1}),
        "/arms/0/space/lr/low",
        "expected a finite number, got nan",
    ),
    "a range to infinity": (
        with_space(lr={"low": 0, "high": math.inf}),
        "/arms/0/space/lr/high",
        "expected a finite number, got inf",
    ),
    "a range from a switch": (
        with_space(lr={"low": False, "high": 1}),
        "/arms/0/space/lr/low",
        "expected a number, got False",
    ),
    "a range to a huge number": (
        with_space(lr={"low": 0, "high": 10**400}),
        "/arms/0/space/lr/high",
        "got 1000",
    ),
    "a range to a monstrous number": (
        with_space(lr={"low": 0, "high": 10**5000}),
        "/arms/0/space/lr/high",
        "got a number too large to show",
    ),
    "NaN": (with_space(lr=math.nan), "/arms/0/space/lr", "expected a finite number, got nan"),
    "a huge number": (
        with_space(k=2**53 + 1),
        "/arms/0/space/k",
        "expected a whole number between -2**53 and 2**53, got 9007199254740993",
    ),
    "a monstrous number": (with_space(k=10**5000), "/arms/0/space/k", "got a number too large to show"),
    "long text": (with_space(rule="x" * 65), "/arms/0/space/rule", "at most 64 characters, got 65"),
    "text with half a surrogate pair": (with_space(rule="\udfff"), "/arms/0/space/rule", r"got '\udfff'"),
    "no choices": (
        with_space(lr={"choices": []}),
        "/arms/0/space/lr/choices",
        "expected at least 1 entry, got 0",
    ),
    "too many choices": (
        with_space(lr={"choices": list(range(101))}),
        "/arms/0/space/lr/choices",
        "expected at most 100 entries",
    ),
    "a choice twice": (
        with_space(lr={"choices": [0.1, 1, 0.1]}),
        "/arms/0/space/lr/choices",
        "0.1 appears more than once",
    ),
    "a choice that is a list": (
        with_space(lr={"choices": [0.1, [1]]}),
        "/arms/0/space/lr/choices/1",
        "expected a number, true, false or text, got [1]",
    ),
    "a pair of lists": (with_space(betas=[[1], 2]), "/arms/0/space/betas/0", "got [1]"),
    "a warm-up of everything": (
        study_body(training={"warmup_fraction": 1}),
        "/training/warmup_fraction",
        "expected a number below 1, got 1",
    ),
    "a warm-up of NaN": (
        study_body(training={"warmup_fraction": math.nan}),
        "/training/warmup_fraction",
        "got nan",
    ),
    "a switch as a number": (study_body(training={"decay_1d": 1}), "/training/decay_1d", "got 1"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_reported_with_its_pointer_and_the_value(name: str) -> None:
    data, pointer, contains = FAULTS[name]
    found = problems(data)
    assert contains in found.get(pointer, ""), found


def test_all_faults_of_a_study_are_reported_at_once() -> None:
    data = with_space(lr={"low": 2, "high": 1}, k=math.nan) | {"seed": -1, "budget": {}}
    assert set(problems(data)) == {"/arms/0/space/lr", "/arms/0/space/k", "/budget/trials_per_arm", "/seed"}


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


@pytest.mark.parametrize("levels", [500, 20_000])
@pytest.mark.parametrize(
    "wrap",
    [lambda inner: [inner], lambda inner: {"choices": [inner]}, lambda inner: {"value": inner}],
    ids=["list", "choices", "value"],
)
@pytest.mark.parametrize(
    "place",
    [
        lambda deep: with_space(lr=deep),
        lambda deep: study_body(seed=deep),
        lambda deep: study_body(arms=[deep]),
    ],
    ids=["space", "seed", "arm"],
)
def test_deeply_nested_data_is_refused_without_a_crash(
    levels: int, wrap: Callable[[Any], Any], place: Callable[[Any], Any]
) -> None:
    assert all(len(message) < 300 for message in problems(place(nested(levels, wrap))).values())


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=3)
    | st.sampled_from(["adamp", "tune", "\ud800", "\0"])
)
WORDS = st.sampled_from(
    ["low", "high", "log", "choices", "value", "kind", "optimizer", "name", "space", "lr", "betas"]
) | st.text(max_size=3)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(sorted(StudySpec.model_fields)) | WORDS, ANYTHING, max_size=5),
    ANYTHING,
    ANYTHING,
)
def test_any_data_is_a_study_or_is_refused_with_messages_that_can_be_sent(
    fields: dict[str, Any], arm: Any, dimension: Any
) -> None:
    for data in (fields, study_body(**fields), study_body(arms=[arm]), with_space(lr=dimension)):
        spec = parsed(data)
        if isinstance(spec, SpecInvalid):
            assert spec.problems
            assert all(is_sendable(problem) for problem in spec.problems)
        else:
            assert parse_spec(json.loads(spec.model_dump_json())) == spec


def parsed(data: Any) -> StudySpec | SpecInvalid:
    try:
        return parse_spec(data)
    except SpecInvalid as error:
        return error


def is_sendable(problem: SpecProblem) -> bool:
    text = json.dumps([problem.pointer, problem.message], ensure_ascii=False).encode("utf-8")
    return (
        bool(problem.message)
        and (problem.pointer == "" or problem.pointer.startswith("/"))
        and b"\0" not in text
    )
