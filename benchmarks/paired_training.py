"""The verdict by tuning budget on real training: do two studies agree, and does a study of 256 pairs?

    tangent up &
    .venv/bin/python benchmarks/paired_training.py --json paired.json --markdown paired.md
    # A quick check that takes minutes:
    .venv/bin/python benchmarks/paired_training.py --workloads digits-mlp --optimizers adamw adamp sgdp \
        --pairs 8 --reference 16 --epochs 2

It submits three studies of each workload to a running service, waits for them, and compares their words at
one budget k: two studies of `--pairs` pairs of trials with different seeds, and a reference of `--reference`
pairs with a third seed. All trials are paired (the sampler is `random`), and nothing is confirmed. The same
command again finds the studies that it submitted before, so it may be interrupted.

Columns:
    decided         pairs of arms that the first and the second study decide, of all pairs.
    agree           pairs that both decide with the same word.
    contradict      pairs that both decide with opposite words.
    reference       pairs that the reference decides.
    contradicted    words of the first and the second study that are opposite to the reference's word.
    wrong sign      words of the two studies against the sign of the reference's difference, decided or not.
    inside          intervals of the two studies that hold the reference's difference.
    spread          median, over the pairs of arms of the first study, of the half width of the interval.

With eight optimizers, 32 and 256 pairs, this trains 2,568 trials of each workload.
"""

import argparse
import hashlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tables import Table, add_outputs, machine, publish

from service.client import Client
from studies.analysis.views import PairByBudget
from studies.paired_search import default_budget
from studies.states import CLOSED_STUDY_STATES
from studies.views import StudyView

__all__ = ["main"]

_WORKLOADS: Final = ("digits-cnn", "digits-mlp", "mnist5k-cnn")
_OPTIMIZERS: Final = ("adam", "adamw", "adamp", "nadam", "radam", "lion", "sgd-nesterov", "sgdp")
_OPPOSITE: Final = {("better", "worse"), ("worse", "better")}
_POLL_S: Final = 10.0

_Words = Mapping[tuple[str, str], PairByBudget]


def _body(given: argparse.Namespace, workload: str, *, pairs: int, seed: int) -> dict[str, Any]:
    """Return a study's submission: every trial but the default configuration is paired."""
    budget = {"trials_per_arm": pairs + 1} | ({"epochs": given.epochs} if given.epochs else {})
    return {
        "name": f"{workload}, {pairs} pairs, seed {seed}",
        "workload": workload,
        "arms": list(given.optimizers),
        "budget": budget,
        "sampler": "random",
        "pruner": "none",
        "confirmation": {"seeds": 0},
        "search": {"paired": pairs, "verdict_at": given.budget},
        "seed": seed,
    }


def _key(body: Mapping[str, Any]) -> str:
    return "paired-training-" + hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _closed(client: Client, study: StudyView) -> StudyView:
    while study.state not in CLOSED_STUDY_STATES:
        time.sleep(_POLL_S)
        study = client.study(study.id)
    return study


def _words(client: Client, study: StudyView) -> _Words:
    verdict = client.analysis(study.id).by_budget
    if verdict is None or verdict.state != "judged":
        raise SystemExit(f"study {study.id} has no verdict by budget: {verdict and verdict.why_none}")
    return {(pair.first, pair.second): pair for pair in verdict.pairs}


def compare(first: _Words, second: _Words, reference: _Words) -> dict[str, Any]:
    """Return how the words of two studies agree, with each other and with a larger study.

    Args:
        first: every pair of arms of one study.
        second: the same pairs of the other.
        reference: the same pairs of the larger study.
    """
    decided = [{pair for pair, at in words.items() if at.word != "undecided"} for words in (first, second)]
    both = decided[0] & decided[1]
    words = [at for each in (first, second) for at in each.values()]
    called = [at for at in words if at.word != "undecided"]
    contradicted = sum((at.word, reference[at.first, at.second].word) in _OPPOSITE for at in called)
    wrong = inside = known = 0
    for at in words:
        true = reference[at.first, at.second].difference
        if true is None or at.difference is None or at.low is None or at.high is None:
            continue
        known += 1
        inside += at.low <= true <= at.high
        wrong += at.word != "undecided" and at.difference * true < 0
    widths = [(at.high - at.low) / 2 for at in first.values() if at.low is not None and at.high is not None]
    return {
        "pairs": len(first),
        "decided": [len(each) for each in decided],
        "agree": sum(first[pair].word == second[pair].word for pair in both),
        "contradict": sum(first[pair].word != second[pair].word for pair in both),
        "reference": sum(at.word != "undecided" for at in reference.values()),
        "called": len(called),
        "contradicted": contradicted,
        "wrong_sign": wrong,
        "inside": inside,
        "intervals": known,
        "spread": statistics.median(widths) if widths else None,
    }


def _row(workload: str, found: Mapping[str, Any], minutes: Sequence[float]) -> list[str]:
    one, other = found["decided"]
    return [
        workload,
        f"{one} and {other} of {found['pairs']}",
        str(found["agree"]),
        str(found["contradict"]),
        str(found["reference"]),
        f"{found['contradicted']} of {found['called']}",
        f"{found['wrong_sign']} of {found['called']}",
        f"{found['inside']} of {found['intervals']}",
        "–" if found["spread"] is None else f"{100 * found['spread']:.2f}",
        ", ".join(f"{each:.0f}" for each in minutes),
    ]


def main() -> None:
    """Submit, wait, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8780", help="the service (http://127.0.0.1:8780)")
    parser.add_argument("--token", help="a token, if the service needs one")
    parser.add_argument("--workloads", nargs="+", default=list(_WORKLOADS))
    parser.add_argument("--optimizers", nargs="+", default=list(_OPTIMIZERS))
    parser.add_argument("--pairs", type=int, default=32, help="pairs of the two studies (32)")
    parser.add_argument("--reference", type=int, default=256, help="pairs of the larger study (256)")
    parser.add_argument("--budget", type=int, help="the primary k of all studies (an eighth of --pairs)")
    parser.add_argument("--epochs", type=int, help="epochs of a trial; by default the workload's")
    parser.add_argument("--seeds", type=int, nargs=3, default=[1, 2, 3], help="seeds of the studies (1 2 3)")
    add_outputs(parser)
    given = parser.parse_args()
    given.budget = given.budget or default_budget(given.pairs)
    sizes = (given.pairs, given.pairs, given.reference)
    found: dict[str, Any] = {}
    rows: list[list[str]] = []
    with Client(given.url, given.token) as client:
        bodies = {
            workload: [
                _body(given, workload, pairs=pairs, seed=seed)
                for pairs, seed in zip(sizes, given.seeds, strict=True)
            ]
            for workload in given.workloads
        }
        for body in itertools.chain.from_iterable(bodies.values()):
            client.validate(body)
        for workload, of_workload in bodies.items():
            # One at a time, so that the minutes of a study are its own. The same key finds a study again.
            studies = [
                _closed(client, client.submit(body, idempotency_key=_key(body))) for body in of_workload
            ]
            words = [_words(client, study) for study in studies]
            minutes = [
                (study.ended_at - study.created_at).total_seconds() / 60
                for study in studies
                if study.ended_at
            ]
            compared = compare(*words)
            found[workload] = {
                **compared,
                "minutes": minutes,
                "studies": [study.id for study in studies],
                "words": [[at.model_dump(mode="json") for at in each.values()] for each in words],
            }
            rows.append(_row(workload, compared, minutes))
            print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    table = Table(
        title=(
            f"{len(given.optimizers)} optimizers, {given.pairs} pairs twice against {given.reference}, "
            f"k = {given.budget}"
        ),
        header=[
            "workload",
            "decided",
            "agree",
            "contradict",
            "reference",
            "contradicted",
            "wrong sign",
            "inside",
            "spread, points",
            "minutes",
        ],
        rows=rows,
    )
    publish(given, {"machine": machine(), "workloads": found}, [table])


if __name__ == "__main__":
    main()
