"""The wording of the analysis, as text files under `golden/`.

After a deliberate change of wording, write the files anew and review their diff:

    UPDATE_GOLDEN=1 python -m pytest tests/studies/analysis/test_golden.py
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from records import Arm, around, falling, record

from studies.analysis.analyse import analyse
from studies.analysis.compare import compare
from studies.analysis.replay_agreement import agreement
from studies.analysis.suite import analyse_suite
from studies.analysis.views import BudgetVerdict, StudyAnalysis
from studies.states import StudyState
from studies.views import StudyRecord

__all__: list[str] = []

_GOLDEN: Final = Path(__file__).parent / "golden"


def _good(value: float, *, turn: int = 0, **fields: Any) -> Arm:
    known: dict[str, Any] = {
        "search": falling(value),
        "best": around(value, turn=turn),
        "defaults": around(value - 0.05, turn=turn + 2),
    }
    return Arm(**known | fields)


def _searches(best: float, *, turn: int = 0) -> Arm:
    return Arm(
        search=[falling(best + 0.002 * n, trials=12) for n in range(3)],
        best=[around(best + 0.002 * n, turn=turn + n) for n in range(3)],
    )


def _paired(top: float, *, noise: int = 0, **fields: Any) -> Arm:
    """Return an arm with 32 paired trials at most 10 points below the top, drawn alike in every arm."""
    draws, wobble = np.random.default_rng(1).random(32), np.random.default_rng(noise).normal(size=32)
    search = [0.5, *(float(v) for v in top - 0.1 * draws**2 + 0.002 * wobble)]
    known: dict[str, Any] = {"best": around(top, turn=noise)}
    return Arm(search=fields.pop("search", search), **known | fields)


def _record_of_pairs(arms: Mapping[str, Arm], **fields: Any) -> StudyRecord:
    known: dict[str, Any] = {"search": {"paired": 32}}
    return record(arms, **known | fields)


def _reversing() -> StudyRecord:
    steady = [0.9 + 0.001 * (n % 5) for n in range(128)]
    rare = [0.97 if n % 4 == 0 else 0.85 - 0.001 * (n % 7) for n in range(128)]
    arms = {"sgdp": Arm(search=[0.5, *steady]), "stepper": Arm(search=[0.5, *rare])}
    return record(arms, search={"paired": 128, "verdict_at": 1}, confirmation={"seeds": 0})


def _until_decided(state: StudyState) -> StudyRecord:
    arms = {
        name: _paired(top, noise=noise, best=[])
        for noise, (name, top) in enumerate((("sgdp", 0.95), ("stepper", 0.95), ("adamw", 0.85)))
    }
    search = {"paired": 16, "until": {"max_pairs": 64}}
    return record(arms, search=search, state=state, budget={"trials_per_arm": 17, "epochs": 4})


_STUDIES: Final[Mapping[str, Callable[[], StudyRecord]]] = {
    "queued": lambda: record({"adamp": Arm(search=["queued"])}, state=StudyState.QUEUED),
    "running, no trial has finished": lambda: record(
        {"adamp": Arm(search=["running"])}, state=StudyState.RUNNING
    ),
    "no trial has completed": lambda: record(
        {"adamp": Arm(search=["diverged"] * 4), "adamw": Arm(search=["diverged", "failed"])}
    ),
    "searching": lambda: record(
        {"adamp": Arm(search=[0.9, 0.97, 0.95]), "adamw": Arm(search=[0.94, 0.96, 0.5])},
        state=StudyState.RUNNING,
    ),
    "tied search without confirmation": lambda: record(
        {"adamp": Arm(search=[0.9]), "adamw": Arm(search=[0.9]), "sgdp": Arm(search=[0.8])},
        confirmation={"seeds": 0},
        objective={"at": "best"},
    ),
    "stopped early": lambda: record(
        {"adamp": Arm(search=[0.9, 0.8, "cancelled"]), "adamw": Arm(search=[0.7, "pruned", "failed"])},
        budget={"trials_per_arm": 10, "epochs": 4},
        pruner="asha",
    ),
    "confirming": lambda: record(
        {name: Arm(search=falling(0.9), best=[0.9, 0.91, "running", "queued"]) for name in ("adamp", "sgdp")},
        state=StudyState.RUNNING,
    ),
    "one arm": lambda: record({"adamp": Arm(search=falling(0.97), best=around(0.96))}),
    "one arm whose confirmation diverged": lambda: record(
        {"adamp": Arm(search=falling(0.97), best=["diverged"] * 3)}
    ),
    "decided": lambda: record({"sgdp": _good(0.95), "stepper": _good(0.8, turn=1)}),
    "undecided": lambda: record({"sgdp": _good(0.95), "stepper": _good(0.9495, turn=1)}),
    "tied": lambda: record({name: _good(0.95, best=[0.95] * 5) for name in ("sgdp", "stepper")}),
    "one seed": lambda: record({"sgdp": _good(0.95, best=[0.95]), "stepper": _good(0.5, best=[0.5])}),
    "a loss": lambda: record(
        {
            "sgdp": Arm(search=[1.2 + 0.0005 * n for n in range(40)], best=around(1.2)),
            "stepper": Arm(search=[1.6 + 0.0005 * n for n in range(40)], best=around(1.6, turn=1)),
        },
        workload="char-lm",
    ),
    "several arms, one winner": lambda: record(
        {"sgdp": _good(0.95), "stepper": _good(0.8, turn=1), "adamw": _good(0.7, turn=3)}
    ),
    "several arms, no winner": lambda: record(
        {"sgdp": _good(0.95), "stepper": _good(0.9495, turn=1), "adamw": _good(0.7, turn=3)}
    ),
    "an arm without results": lambda: record(
        {"sgdp": _good(0.95), "stepper": _good(0.8, turn=1), "adamw": Arm(search=["diverged"] * 40)}
    ),
    "runs that diverged": lambda: record(
        {
            "sgdp": _good(0.95, best=[0.95, *["diverged"] * 9]),
            "stepper": _good(0.9, best=around(0.9, seeds=10)),
        }
    ),
    "replicates": lambda: record({"sgdp": _searches(0.95), "stepper": _searches(0.8, turn=1)}),
    "replicates, one of which diverged": lambda: record(
        {
            "sgdp": Arm(search=[falling(0.9, trials=6), ["diverged"] * 6], best=[around(0.9), []]),
            "stepper": Arm(search=[falling(0.9, trials=6)] * 2, best=[around(0.9)] * 2),
        }
    ),
    "under-tuned": lambda: record(
        {
            "adamp": _good(0.8, space={"delta": {"choices": [0.0, 0.1]}}),
            "adamw": _good(0.95, turn=1),
        }
    ),
    "contained arm outside the space": lambda: record({"adamp": _good(0.8), "adamw": _good(0.95, turn=1)}),
    "behind the contained arm in the search": lambda: record(
        {"adamp": Arm(search=[0.9]), "adamw": Arm(search=[0.95])}, state=StudyState.RUNNING
    ),
    "divergence and faults": lambda: record(
        {
            "adamp": Arm(
                search=[0.9, 0.9, 0.9, "diverged", 0.8, "failed"],
                parameters={n: {"lr": 0.001 * 2**n} for n in range(6)},
                best=[0.9, "diverged", "failed"],
                cost_s=5.0,
            ),
            "adamw": Arm(search=[0.9] * 3, best=[0.9, 0.91, "cancelled"]),
        }
    ),
    "still improving, splits disagree": lambda: record(
        {
            "adamp": Arm(
                search=falling(0.9), best=around(0.9), shift=0.05, curves=[0.1 * n for n in range(1, 11)]
            ),
            "adamw": Arm(search=falling(0.9), best=around(0.92, turn=1)),
        },
        budget={"trials_per_arm": 40, "epochs": 10},
    ),
    "the best at an edge, better defaults": lambda: record(
        {
            "sgdp": Arm(
                search=[0.85, 0.95],
                best=around(0.9),
                defaults=around(0.96, turn=1),
                parameters={1: {"lr": 1.0}},
            )
        }
    ),
    "paired trials, decided": lambda: _record_of_pairs(
        {"sgdp": _paired(0.95), "stepper": _paired(0.93, noise=1)}
    ),
    "paired trials, undecided": lambda: _record_of_pairs(
        {"sgdp": _paired(0.95), "stepper": _paired(0.95, noise=1)}
    ),
    "paired trials, the verdicts disagree": lambda: _record_of_pairs(
        {"sgdp": _paired(0.95), "stepper": _paired(0.93, noise=1, best=around(0.96, turn=1))}
    ),
    "paired trials, several arms, one winner": lambda: _record_of_pairs(
        {"sgdp": _paired(0.95), "stepper": _paired(0.93, noise=1), "adamw": _paired(0.85, noise=2)}
    ),
    "paired trials, several arms, no winner": lambda: _record_of_pairs(
        {"sgdp": _paired(0.95), "stepper": _paired(0.95, noise=1), "adamw": _paired(0.85, noise=2)}
    ),
    "paired trials, none of several arms is better": lambda: _record_of_pairs(
        {"sgdp": _paired(0.95), "stepper": _paired(0.95, noise=1), "adamw": _paired(0.95, noise=2)}
    ),
    "paired trials, an order that depends on the budget": _reversing,
    "paired trials, an arm without results": lambda: _record_of_pairs(
        {
            "sgdp": _paired(0.95),
            "stepper": _paired(0.93, noise=1),
            "adamw": Arm(search=["failed"] * 33),
        }
    ),
    "paired trials, running": lambda: _record_of_pairs(
        {
            "sgdp": _paired(0.95, best=[]),
            "stepper": Arm(search=[0.5, *[0.9] * 9, "running", *["queued"] * 22]),
        },
        state=StudyState.RUNNING,
    ),
    "paired trials, stopped early": lambda: _record_of_pairs(
        {
            "sgdp": _paired(0.95, best=[]),
            "stepper": Arm(search=[0.5, *falling(0.9, trials=20), *["cancelled"] * 12]),
        },
        state=StudyState.CANCELLED,
    ),
    "pairs are added until the arms are decided": lambda: _until_decided(StudyState.RUNNING),
    "pairs were added, and the study stopped": lambda: _until_decided(StudyState.CANCELLED),
    "too few paired trials": lambda: record(
        {"sgdp": _good(0.95), "stepper": _good(0.8, turn=1)}, search={"paired": 7}
    ),
}


def _by_budget(verdict: BudgetVerdict | None) -> list[str]:
    if verdict is None:
        return []
    return [
        *([f"by budget: {verdict.why_none}"] if verdict.why_none else []),
        *(f"by budget: {pair.reason}" for pair in verdict.pairs),
        *(f"band: {each.sentence}" for each in verdict.differences),
    ]


def _read(analysis: StudyAnalysis) -> list[str]:
    return [
        f"finding: {analysis.finding.sentence}",
        *(f"limit: {limit}" for limit in analysis.finding.limits),
        *_by_budget(analysis.by_budget),
        *(f"pair: {pair.reason}" for pair in analysis.pairs),
        *(f"{'warning' if check.is_warning else 'note'}: {check.sentence}" for check in analysis.checks),
    ]


def _studies() -> str:
    sections = [[f"## {name}", *_read(analyse(build()))] for name, build in _STUDIES.items()]
    return "\n\n".join("\n".join(lines) for lines in sections)


def _of_suite(study_id: str, first: float, second: float, **fields: Any) -> StudyRecord:
    arms = {
        "adamp": Arm(search=falling(first), best=around(first)),
        "sgdp": Arm(search=falling(second), best=around(second, turn=1)),
    }
    known: dict[str, Any] = {"suite": "small"}
    return record(arms, study_id=study_id, **known | fields)


def _suites() -> str:
    diverged = record(
        {"adamp": Arm(search=falling(0.96), best=around(0.96)), "sgdp": Arm(search=["diverged"] * 40)},
        study_id="two",
    )
    suites: dict[str, list[StudyRecord]] = {
        "empty": [],
        "decided": [_of_suite("one", 0.96, 0.9), _of_suite("two", 1.5, 1.9, workload="char-lm")],
        "undecided": [_of_suite("one", 0.96, 0.9), _of_suite("two", 1.9, 1.5, workload="char-lm")],
        "one workload": [_of_suite("one", 0.96, 0.9), _of_suite("two", 0.95, 0.9, seed=1)],
        "an arm that diverged": [_of_suite("one", 0.96, 0.9), diverged],
        "paired trials": [
            _record_of_pairs(
                {"sgdp": _paired(0.95), "stepper": _paired(0.93, noise=1)}, study_id="one", suite="small"
            )
        ],
        "nothing counts": [
            _of_suite("one", 0.96, 0.9, state=StudyState.RUNNING),
            record({"adamp": Arm(search=[0.9]), "sgdp": Arm(search=[0.9])}, study_id="two"),
        ],
    }
    sections: list[str] = []
    for name, records in suites.items():
        finding = analyse_suite("small", records).finding
        limits = [f"limit: {limit}" for limit in finding.limits]
        sections.append("\n".join([f"## {name}", f"finding: {finding.sentence}", *limits]))
    return "\n\n".join(sections)


def _comparisons() -> str:
    one = record({"sgdp": _good(0.95)}, study_id="one")
    other = record(
        {"sgdp": _good(0.8, turn=1)},
        study_id="two",
        name="the other",
        budget={"trials_per_arm": 50, "epochs": 3},
        training={"schedule": "constant", "batch_size": 16, "decay_1d": False},
        sampler="tpe",
        pruner="median",
        objective={"at": "best"},
        confirmation={"seeds": 7, "solo": True},
        environment={"python": "3.12"},
        state=StudyState.RUNNING,
    )
    strange = record({"stepper": _good(0.8)}, study_id="three", seed=1)
    sections: list[str] = []
    paired = [
        _record_of_pairs({"sgdp": _paired(0.95)}, study_id="one"),
        _record_of_pairs({"stepper": _paired(0.93, noise=1)}, study_id="two"),
    ]
    unequal = [paired[0], _record_of_pairs({"stepper": _paired(0.93)}, study_id="two", search={"paired": 16})]
    kinds = {
        "settings differ": [one, other],
        "no common seed": [one, strange],
        "paired trials": paired,
        "paired trials, designs differ": unequal,
    }
    for name, records in kinds.items():
        found = compare(records)
        pairs = [*_by_budget(found.by_budget), *(f"pair: {pair.reason}" for pair in found.pairs)]
        sections.append("\n".join([f"## {name}", *pairs, *(f"caution: {each}" for each in found.cautions)]))
    return "\n\n".join(sections)


def _replays() -> str:
    def study(first: float, second: float, *, best: float = 0.95) -> StudyAnalysis:
        arms = {
            "sgdp": Arm(search=falling(best), best=around(first)),
            "stepper": Arm(search=falling(0.8), best=around(second, turn=1)),
        }
        return analyse(record(arms))

    original = study(0.95, 0.8)
    replays = {
        "identical": study(0.95, 0.8),
        "agrees": study(0.9505, 0.8, best=0.951),
        "partly": study(0.95, 0.949),
        "disagrees": study(0.8, 0.95),
        "another study": analyse(record({"adamw": Arm(search=[0.9])})),
    }
    return "\n\n".join(
        "\n".join([f"## {name}", *agreement(original, replay).sentences]) for name, replay in replays.items()
    )


@pytest.mark.parametrize(
    ("name", "write"),
    [("studies", _studies), ("suites", _suites), ("comparisons", _comparisons), ("replays", _replays)],
)
def test_the_analysis_reads_as_its_golden_file(name: str, write: Callable[[], str]) -> None:
    text = write().replace("\N{NO-BREAK SPACE}", " ") + "\n"
    file = _GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
