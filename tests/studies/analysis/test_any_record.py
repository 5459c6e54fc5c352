"""Every stored study can be analysed, whatever its state and its mixture of outcomes."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from records import Arm, Outcome, record

from studies.analysis.analyse import analyse
from studies.analysis.compare import compare
from studies.analysis.replay_agreement import agreement
from studies.analysis.suite import analyse_suite
from studies.spec import parse_spec
from studies.states import StudyState
from studies.views import StudyRecord

__all__: list[str] = []

_OPTIMIZERS = ("adamp", "adamw", "sgdp", "stepper")
_value = st.one_of(st.floats(0.0, 1.0), st.sampled_from([0.5, 0.9]), st.floats(-1e6, 1e6, allow_nan=False))
_ended: st.SearchStrategy[Outcome] = st.one_of(_value, st.sampled_from(["diverged", "failed", "cancelled"]))
_trial: st.SearchStrategy[Outcome] = st.one_of(_ended, st.sampled_from(["running", "queued", "pruned"]))


@st.composite
def _arms(draw: st.DrawFn, replicates: int) -> Arm:
    lines = [draw(st.lists(_trial, min_size=1, max_size=12)) for _ in range(replicates)]
    best = [
        draw(st.lists(_ended, max_size=5)) if any(isinstance(each, float) for each in line) else []
        for line in lines
    ]
    return Arm(
        search=lines if replicates > 1 else lines[0],
        best=best if replicates > 1 else best[0],
        defaults=draw(st.lists(_ended, max_size=5)),
        parameters=draw(
            st.dictionaries(
                st.integers(0, 11),
                st.fixed_dictionaries({"lr": st.sampled_from([1e-5, 1e-3, 0.1, 5.0])}),
                max_size=6,
            )
        ),
        cost_s=draw(st.sampled_from([0.0, 0.1, 20.0])),
    )


@st.composite
def _records(draw: st.DrawFn) -> StudyRecord:
    names = draw(st.lists(st.sampled_from(_OPTIMIZERS), min_size=1, max_size=3, unique=True))
    replicates = draw(st.sampled_from([1, 1, 1, 2, 7]))
    paired = draw(st.sampled_from([0, 3, 8, 11]))
    budget = {"trials_per_arm": 12, "epochs": 4, "replicates": replicates}
    fields: dict[str, Any] = {"budget": budget} if paired else {}
    return record(
        {name: draw(_arms(replicates)) for name in names},
        state=draw(st.sampled_from(list(StudyState))),
        study_id=draw(st.sampled_from(["one", "two"])),
        sampler=draw(st.sampled_from(["random", "tpe", "qmc"])),
        pruner=draw(st.sampled_from(["none", "none", "median"])),
        workload="digits-mlp",
        seed=draw(st.sampled_from([0, 1])),
        search={"paired": paired, "replicates": draw(st.integers(1, replicates))},
        **fields,
    )


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(_records())
def test_the_analysis_of_any_study_survives_json(of: StudyRecord) -> None:
    analysis = analyse(of)
    # An infinity or NaN anywhere would be read back as None.
    assert type(analysis).model_validate_json(analysis.model_dump_json()) == analysis
    assert len(analysis.pairs) == len(analysis.arms) * (len(analysis.arms) - 1) // 2
    assert analysis.finding.sentence.endswith(".")
    for sentence in (
        analysis.finding.sentence,
        *analysis.finding.limits,
        *(check.sentence for check in analysis.checks),
    ):
        assert "None" not in sentence
        assert "nan" not in sentence.lower().split()
    for check in analysis.checks:
        if check.spec is not None:
            parse_spec(check.spec)
    assert agreement(analysis, analysis).word == "identical"


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(_records(), max_size=3))
def test_any_studies_can_form_a_suite_and_any_two_can_be_compared(of: list[StudyRecord]) -> None:
    suite = analyse_suite("any", of)
    assert type(suite).model_validate_json(suite.model_dump_json()) == suite
    by_id = {each.study.id: each for each in of}
    if len(by_id) == 2:
        comparison = compare(list(by_id.values()))
        assert type(comparison).model_validate_json(comparison.model_dump_json()) == comparison
