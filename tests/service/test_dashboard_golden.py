"""The wording of whole pages, as text files under `golden/`.

After a deliberate change of wording, write the files anew and review their diff:

    UPDATE_GOLDEN=1 python -m pytest tests/service/test_dashboard_golden.py
"""

import os
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from catalogs import catalog
from pruned_studies import Pruned
from trained_studies import Trained

from studies.store import Store

_GOLDEN: Final = Path(__file__).parent / "golden"
_IGNORED: Final = frozenset({"head", "pre", "script", "svg", "textarea"})
_CELLS: Final = frozenset({"td", "th", "dt", "dd", "option"})
_INLINE: Final = frozenset(
    {"a", "b", "br", "button", "code", "em", "input", "label", "span", "strong", "time"}
)
# Differs from run to run: times, and the duration of the run itself.
_VARYING: Final = (
    (r"\d{1,2} [A-Z][a-z]{2} \d{4}, \d\d:\d\d:\d\d UTC", "TIME"),
    (r"(?<=finished in )[\d.]+ s", "DURATION"),
    (r"(?<=Took \| )[\d.]+ s|(?<=Elapsed \| )[\d.]+ s", "DURATION"),
)


class _Text(HTMLParser):
    """Collects the text of a page: a line for each block, the cells of a row on one line.

    The numbers under the charts are left out; other tests check them.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self._ignored = 0
        self._parts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        is_numbers = tag == "details" and str(dict(attrs).get("id")).endswith("-numbers")
        if tag in _IGNORED or is_numbers or (tag == "details" and self._ignored):
            self._ignored += 1
        elif tag in _CELLS:
            self._parts.append("\t")
        elif tag not in _INLINE:
            self._parts.append("\n")
        elif tag == "br":
            self._parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _IGNORED or (tag == "details" and self._ignored):
            self._ignored -= 1
        elif tag not in _CELLS and tag not in _INLINE:
            self._parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._ignored:
            self._parts.append(re.sub(r"\s+", " ", data))

    def lines(self) -> list[str]:
        """Return the lines that have a text."""
        lines = (re.sub(r" +", " ", line).strip() for line in "".join(self._parts).split("\n"))
        return [re.sub(r" *\t *", " | ", line) for line in lines if line]


def completed_study(store: Store) -> tuple[str, list[str]]:
    run = Trained(
        store,
        name="golden study",
        arms=["adamp", "adamw", "sgdp", "stepper"],
        budget={"trials_per_arm": 6, "epochs": 3},
        confirmation={"seeds": 3},
        width=8,
    )
    return f"/studies/{run.train().confirm().close().id}", [run.id]


def paired_study(store: Store) -> tuple[str, list[str]]:
    run = Trained(
        store,
        name="golden study",
        arms=["adamp", "adamw", "stepper"],
        budget={"trials_per_arm": 20, "epochs": 3},
        search={"paired": 16},
        confirmation={"seeds": 3},
        width=8,
    )
    return f"/studies/{run.train().confirm().close().id}", [run.id]


def running_study(store: Store) -> tuple[str, list[str]]:
    run = Pruned(store, name="golden study").fit("adamp", width=8, w1=900.0, w8=5670.0).train(2)
    return f"/studies/{run.id}", [run.id]


def trial(store: Store) -> tuple[str, list[str]]:
    run = Trained(store, name="golden study", budget={"trials_per_arm": 2, "epochs": 3}).train().close()
    return f"/trials/{run.id}.adamp.1", [run.id]


def suite(store: Store) -> tuple[str, list[str]]:
    fields: dict[str, Any] = {
        "arms": ["adamp", "adamw", "stepper"],
        "budget": {"trials_per_arm": 5, "epochs": 2},
        "confirmation": {"seeds": 3},
        "suite": "small-nets",
    }
    runs = [
        Trained(store, workload=workload, name=f"on {workload}", width=8, **fields).train().confirm().close()
        for workload in ("digits-mlp", "char-lm")
    ]
    return "/suites/small-nets", [run.id for run in runs]


def comparison(store: Store) -> tuple[str, list[str]]:
    fields: dict[str, Any] = {"budget": {"trials_per_arm": 4, "epochs": 2}, "confirmation": {"seeds": 3}}
    runs = [
        Trained(store, name=name, arms=["adamp", other], width=8, **fields).train().confirm().close()
        for name, other in (("one", "adamw"), ("two", "sgdp"))
    ]
    return f"/compare?study={runs[0].id}&study={runs[1].id}", [run.id for run in runs]


def page_text(http: httpx.Client, path: str, study_ids: list[str]) -> str:
    answer = http.get(path, headers={"accept": "text/html"})
    assert answer.status_code == 200, answer.text
    text = "\n".join(_Text(answer.text).lines()).replace("\N{NO-BREAK SPACE}", " ")
    for n, study_id in enumerate(study_ids, start=1):
        text = text.replace(study_id, f"study{n}")
    for pattern, replacement in _VARYING:
        text = re.sub(pattern, replacement, text)
    return f"{text}\n"


@pytest.mark.parametrize("page", [completed_study, paired_study, running_study, trial, suite, comparison])
def test_a_page_reads_as_its_golden_file(
    http: httpx.Client, store: Store, page: Callable[[Store], tuple[str, list[str]]]
) -> None:
    store.announce(catalog(), dispatcher="here")
    text = page_text(http, *page(store))
    golden = _GOLDEN / f"{page.__name__}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


_NOUNS: Final = (
    *(
        "arm",
        "chart",
        "check",
        "comparison",
        "confirmation run",
        "epoch",
        "pair",
        "point",
        "remark",
        "replicate",
    ),
    *("run", "rung", "seed", "studie", "trial"),
)


def test_no_page_uses_the_plural_after_one(http: httpx.Client, store: Store) -> None:
    store.announce(catalog(), dispatcher="here")
    fields: dict[str, Any] = {
        "arms": ["adamp"],
        "budget": {"trials_per_arm": 1, "epochs": 1},
        "confirmation": {"seeds": 1},
        "suite": "small-nets",
    }
    run = Trained(store, **fields).train().confirm().close()
    paths = ("/", f"/studies/{run.id}", f"/studies/{run.id}?phase=confirmation", "/suites/small-nets")
    texts = [page_text(http, path, [run.id]) for path in paths]
    texts += [golden.read_text("utf-8") for golden in _GOLDEN.glob("*.txt")]
    one = re.compile(rf"(?<![\d.,])1 (?:more |fresh |pruned )?(?:{'|'.join(_NOUNS)})s\b")
    assert [found for text in texts for found in one.findall(text)] == []
