"""What the small siblings of the AdamP paper's benchmarks say about its claims.

    for file in examples/paper-small/*.yaml; do tangent submit "$file"; done
    # when all studies are completed:
    .venv/bin/python benchmarks/paper_claims.py --into docs/results --json claims.json --markdown claims.md

It reads the two suites of examples/paper-small from a running service, prints tables, and with `--into`
writes the report of each study there, as HTML with its figures. Studies that are not completed are left out.
Studies in the file of `--json` that this service does not have are kept, so the suites may run in parts.

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
import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tables import Table, add_outputs, machine, publish

from service.client import Client
from studies.analysis.views import PairByBudget, PairVerdict
from studies.direction import Direction, sign
from studies.formatting import ABSENT, change, change_interval, metric_interval, number
from studies.layers import ArmLayers
from studies.states import StudyState
from studies.views import StudyView

__all__ = ["main"]

_SUITE: Final = "paper-small"
_TUNING_SUITE: Final = "paper-small-delta"
_ARMS: Final = ("sgd", "sgdp", "adam", "adamw", "adamp")
_CLAIMS: Final = (("adamp", "adamw"), ("adamp", "adam"), ("sgdp", "sgd"))
_TUNING: Final = (("adamp-tuned", "adamp"), ("sgdp-tuned", "sgdp"))

_OPPOSITE: Final = {"better": "worse", "worse": "better", "undecided": "undecided"}
_Figures = dict[str, Any]
_AnyPair = PairByBudget | PairVerdict


def _figures(client: Client, study: StudyView, pairs: Sequence[tuple[str, str]]) -> _Figures:
    """Return the figures of a study that the tables show."""
    analysis, layers = client.analysis(study.id), client.study_layers(study.id)
    by_budget = analysis.by_budget
    judged = () if by_budget is None else by_budget.pairs
    return {
        "study": study.name,
        "suite": study.suite,
        "workload": study.workload,
        "metric": analysis.metric,
        "unit": analysis.unit,
        "direction": analysis.direction,
        "k": None if by_budget is None else by_budget.primary,
        "test": {
            found.arm: [found.test_mean, found.test_low, found.test_high]
            for found in analysis.confirmed
            if found.configuration == "best"
        },
        "by_budget": {" - ".join(pair): _turned(judged, *pair, analysis.direction) for pair in pairs},
        "best": {" - ".join(pair): _turned(analysis.pairs, *pair, analysis.direction) for pair in pairs},
        "scale_invariant": [sum(layers.scale_invariance.values()), len(layers.scale_invariance)],
        "growth": {arm.arm: _growth(arm) for arm in layers.arms},
    }


def _turned(pairs: Iterable[_AnyPair], first: str, second: str, direction: Direction) -> _Figures:
    """Return a pair's word and its difference, positive if the first arm has the better values."""
    for pair in pairs:
        if {pair.first, pair.second} != {first, second} or pair.difference is None:
            continue
        is_swapped = pair.first != first
        turn = (-1 if is_swapped else 1) * sign(direction)
        ends = [None if end is None else turn * end for end in (pair.low, pair.high)]
        low, high = ends if turn > 0 else reversed(ends)
        word = _OPPOSITE[pair.word] if is_swapped else pair.word
        return {"word": word, "difference": turn * pair.difference, "low": low, "high": high}
    return {"word": None, "difference": None, "low": None, "high": None}


def _growth(arm: ArmLayers) -> tuple[float, float] | None:
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
    known: dict[str, _Figures] = {}
    if given.json is not None and given.json.exists():
        known = {each["study"]: each for each in json.loads(given.json.read_text())["studies"]}
    with Client(given.url, given.token) as client:
        for suite, pairs in ((_SUITE, _CLAIMS), (_TUNING_SUITE, _TUNING)):
            for study in _completed(client, suite):
                known[study.name] = _figures(client, study, pairs)
                if given.into is not None:
                    given.into.mkdir(parents=True, exist_ok=True)
                    report = client.report(study.id, form="html")
                    (given.into / f"{study.name}.html").write_text(report, encoding="utf-8")
    studies = [known[name] for name in sorted(known)]
    claims = [each for each in studies if each["suite"] == _SUITE]
    tuning = [each for each in studies if each["suite"] == _TUNING_SUITE]
    tables = [
        _test_values(claims),
        *_differences("claim", claims, _CLAIMS),
        _layers(claims),
        *_differences("tuning", tuning, _TUNING),
    ]
    publish(given, {"machine": machine(), "studies": studies}, tables)


def _completed(client: Client, suite: str) -> Iterator[StudyView]:
    for each in client.suite(suite).studies:
        if each.state is StudyState.COMPLETED:
            yield client.study(each.study_id)
        else:
            print(f"{each.name} ({each.study_id}) is {each.state}: left out", file=sys.stderr)


def _test_values(studies: Sequence[_Figures]) -> Table:
    rows: list[list[str]] = []
    for each in studies:
        cells = [
            metric_interval(*each["test"][arm], unit=each["unit"]) if arm in each["test"] else ABSENT
            for arm in _ARMS
        ]
        rows.append([each["study"], f"{each['metric']}, {each['direction']}", *cells])
    return Table(
        title="Test values of the best configurations", header=["study", "metric", *_ARMS], rows=rows
    )


def _differences(
    name: str, studies: Sequence[_Figures], pairs: Sequence[tuple[str, str]]
) -> tuple[Table, Table]:
    """Return the table of all differences, and the counts of their words and signs."""
    header = ["study", "k"]
    rows = [[each["study"], str(each["k"] or ABSENT)] for each in studies]
    counted: list[list[str]] = []
    for pair in pairs:
        header += [f"{' - '.join(pair)}, after k trials", "best configurations"]
        for kind, asked in (("by_budget", "after k trials"), ("best", "best configurations")):
            found: list[_Figures] = [each[kind][" - ".join(pair)] for each in studies]
            for row, each, one in zip(rows, studies, found, strict=True):
                row.append(_cell(one, each["unit"]))
            words = Counter(each["word"] for each in found)
            known = [each["difference"] for each in found if each["difference"] is not None]
            counted.append(
                [
                    f"{' against '.join(pair)}, {asked}",
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


def _cell(found: _Figures, unit: str) -> str:
    """Return a difference with its interval and its word."""
    if found["difference"] is None:
        return ABSENT
    word = found["word"] if found["word"] == "undecided" else f"**{found['word']}**"
    return (
        f"{change(found['difference'], unit)} ({change_interval(found['low'], found['high'], unit)}) {word}"
    )


def _layers(studies: Sequence[_Figures]) -> Table:
    rows: list[list[str]] = []
    for each in studies:
        invariant, tested = each["scale_invariant"]
        cells = [
            ABSENT
            if each["growth"].get(arm) is None
            else ", ".join(number(v, 3) for v in each["growth"][arm])
            for arm in _ARMS
        ]
        rows.append([each["study"], f"{invariant} of {tested}", *cells])
    return Table(
        title="Growth of norm and of effective step, scale-invariant weights",
        header=["study", "scale-invariant", *(f"{arm}: norm, step" for arm in _ARMS)],
        rows=rows,
    )


if __name__ == "__main__":
    main()
