"""What the small siblings of the AdamP paper's benchmarks say about its claims.

    for file in examples/paper-small/*.yaml; do tangent submit "$file"; done
    # when all studies are completed:
    .venv/bin/python benchmarks/paper_claims.py --into docs/results --json claims.json --markdown claims.md

It reads the two suites of examples/paper-small from a running service, prints tables, and with `--into`
writes the report of each study there, as HTML with its figures. Studies that are not completed are left out.

Tables:
    test values     of each arm's best configuration, the mean over fresh seeds with its 95 % interval.
    claims          of each study and pair of arms, the difference in the expected test value after k trials
                    of tuning, and between the best configurations on fresh seeds, each with its 95 % interval
                    and its word. Differences are turned so that a positive one favours the first arm.
    counts          how many studies say each word, and how many differences are positive.
    layers          of the scale-invariant weights of an arm's best configuration: the median over layers of
                    the norm after the last epoch over the initial one, and of the effective step after the
                    last epoch over that after the first.
    tuning          whether searching delta and wd_ratio as well pays, within the same number of trials.
"""

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tables import Table, add_outputs, machine, publish

from service.client import Client
from studies.analysis.views import PairByBudget, PairVerdict, StudyAnalysis
from studies.formatting import ABSENT, change, change_interval, metric_interval, number
from studies.layers import ArmLayers, StudyLayers
from studies.states import StudyState
from studies.views import StudyView

__all__ = ["main"]

_SUITE: Final = "paper-small"
_TUNING_SUITE: Final = "paper-small-delta"
_CLAIMS: Final = (("adamp", "adamw"), ("adamp", "adam"), ("sgdp", "sgd"))
_TUNING: Final = (("adamp-tuned", "adamp"), ("sgdp-tuned", "sgdp"))

_OPPOSITE: Final = {"better": "worse", "worse": "better", "undecided": "undecided"}
_AnyPair = PairByBudget | PairVerdict


class _Study:
    """A study of the suite with what its tables need."""

    def __init__(self, client: Client, study: StudyView) -> None:
        self.study = study
        self.label = study.name
        self.analysis: StudyAnalysis = client.analysis(study.id)
        self.layers: StudyLayers = client.study_layers(study.id)

    def by_budget(self, first: str, second: str) -> dict[str, Any]:
        """Return what the paired trials say about two arms."""
        verdict = self.analysis.by_budget
        return self._turned(() if verdict is None else verdict.pairs, first, second)

    def shipped(self, first: str, second: str) -> dict[str, Any]:
        """Return what the confirmation runs say about the best configurations of two arms."""
        return self._turned(self.analysis.pairs, first, second)

    def _turned(self, pairs: Iterable[_AnyPair], first: str, second: str) -> dict[str, Any]:
        """Return a pair's word and its difference, positive if the first arm has the better values."""
        for pair in pairs:
            if {pair.first, pair.second} != {first, second} or pair.difference is None:
                continue
            is_swapped = pair.first != first
            sign = (-1 if is_swapped else 1) * (1 if self.analysis.direction == "maximize" else -1)
            ends = [None if end is None else sign * end for end in (pair.low, pair.high)]
            low, high = ends if sign > 0 else reversed(ends)
            return {
                "word": _OPPOSITE[pair.word] if is_swapped else pair.word,
                "difference": sign * pair.difference,
                "low": low,
                "high": high,
            }
        return {"word": None, "difference": None, "low": None, "high": None}

    def cell(self, found: dict[str, Any]) -> str:
        """Return a difference with its interval and its word."""
        if found["difference"] is None:
            return ABSENT
        value = change(found["difference"], self.analysis.unit)
        ends = change_interval(found["low"], found["high"], self.analysis.unit)
        word = found["word"] if found["word"] == "undecided" else f"**{found['word']}**"
        return f"{value} ({ends}) {word}"


def main() -> None:
    """Read the suites, print the tables and write the reports."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8780", help="the service (http://127.0.0.1:8780)")
    parser.add_argument("--token", help="a token, if the service needs one")
    parser.add_argument("--into", type=Path, metavar="FOLDER", help="folder for the reports of the studies")
    add_outputs(parser)
    given = parser.parse_args()
    with Client(given.url, given.token) as client:
        claims, tuning = ([*_completed(client, suite)] for suite in (_SUITE, _TUNING_SUITE))
        if given.into is not None:
            given.into.mkdir(parents=True, exist_ok=True)
            for each in (*claims, *tuning):
                report = client.report(each.study.id, form="html")
                (given.into / f"{each.label}.html").write_text(report, encoding="utf-8")
    tables = [
        _test_values("Test values of the best configurations", claims),
        *_differences("claim", claims, _CLAIMS),
        _layers(claims),
        *_differences("tuning", tuning, _TUNING),
    ]
    measured = {
        "machine": machine(),
        "studies": [_figures(each, _CLAIMS) for each in claims]
        + [_figures(each, _TUNING) for each in tuning],
    }
    publish(given, measured, tables)


def _completed(client: Client, suite: str) -> Iterator[_Study]:
    for each in client.suite(suite).studies:
        if each.state is StudyState.COMPLETED:
            yield _Study(client, client.study(each.study_id))
        else:
            print(f"{each.name} ({each.study_id}) is {each.state}: left out", file=sys.stderr)


def _test_values(title: str, studies: Sequence[_Study]) -> Table:
    arms = studies[0].analysis.arms if studies else ()
    rows: list[list[str]] = []
    for each in studies:
        best = {found.arm: found for found in each.analysis.confirmed if found.configuration == "best"}
        cells = [
            metric_interval(best[arm].test_mean, best[arm].test_low, best[arm].test_high, each.analysis.unit)
            if arm in best
            else ABSENT
            for arm in arms
        ]
        rows.append([each.label, f"{each.analysis.metric}, {each.analysis.direction}", *cells])
    return Table(title=title, header=["study", "metric", *arms], rows=rows)


def _differences(
    name: str, studies: Sequence[_Study], pairs: Sequence[tuple[str, str]]
) -> tuple[Table, Table]:
    """Return the table of all differences, and the counts of their words and signs."""
    header = ["study", "k"]
    for first, second in pairs:
        header += [f"{first} - {second}, after k trials", "best configurations"]
    rows: list[list[str]] = []
    counted: list[list[str]] = []
    for each in studies:
        verdict = each.analysis.by_budget
        row = [each.label, ABSENT if verdict is None else str(verdict.primary)]
        for pair in pairs:
            row += [each.cell(each.by_budget(*pair)), each.cell(each.shipped(*pair))]
        rows.append(row)
    for first, second in pairs:
        for asked, found in (
            ("after k trials", [each.by_budget(first, second) for each in studies]),
            ("best configurations", [each.shipped(first, second) for each in studies]),
        ):
            words = Counter(each["word"] for each in found)
            known = [each["difference"] for each in found if each["difference"] is not None]
            counted.append(
                [
                    f"{first} against {second}, {asked}",
                    *(str(words[word]) for word in ("better", "worse", "undecided")),
                    f"{sum(each > 0 for each in known)} of {len(known)}",
                ]
            )
    return (
        Table(title=f"Differences, by {name}", header=header, rows=rows),
        Table(
            title=f"Studies by word, by {name}",
            header=["pair", "better", "worse", "undecided", "positive differences"],
            rows=counted,
        ),
    )


def _layers(studies: Sequence[_Study]) -> Table:
    arms = studies[0].analysis.arms if studies else ()
    rows: list[list[str]] = []
    for each in studies:
        found = {arm.arm: _of_invariant(arm) for arm in each.layers.arms}
        invariant = sum(each.layers.scale_invariance.values())
        cells = [
            ABSENT if found.get(arm) is None else ", ".join(number(value, 3) for value in found[arm] or ())
            for arm in arms
        ]
        rows.append([each.label, f"{invariant} of {len(each.layers.scale_invariance)}", *cells])
    columns = [f"{arm}: norm, step" for arm in arms]
    return Table(
        title="Growth of norm and of effective step, scale-invariant weights",
        header=["study", "scale-invariant", *columns],
        rows=rows,
    )


def _of_invariant(arm: ArmLayers) -> tuple[float, float] | None:
    """Return the median growth of norm and effective step over an arm's scale-invariant weights."""
    if not arm.epochs:
        return None
    first, last = arm.epochs[0], arm.epochs[-1]
    growths: list[float] = []
    steps: list[float] = []
    for place, is_invariant in enumerate(arm.is_scale_invariant):
        growth, step, start = last.growth[place], last.effective_step[place], first.effective_step[place]
        if is_invariant and growth is not None and step is not None and start:
            growths.append(growth)
            steps.append(step / start)
    return (statistics.median(growths), statistics.median(steps)) if growths else None


def _figures(each: _Study, pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return the numbers of a study's rows."""
    return {
        "study": each.label,
        "workload": each.study.workload,
        "metric": each.analysis.metric,
        "direction": each.analysis.direction,
        "test": {
            found.arm: {"mean": found.test_mean, "low": found.test_low, "high": found.test_high}
            for found in each.analysis.confirmed
            if found.configuration == "best"
        },
        "by_budget": {" - ".join(pair): each.by_budget(*pair) for pair in pairs},
        "best configurations": {" - ".join(pair): each.shipped(*pair) for pair in pairs},
        "growth of norm and effective step": {arm.arm: _of_invariant(arm) for arm in each.layers.arms},
    }


if __name__ == "__main__":
    main()
