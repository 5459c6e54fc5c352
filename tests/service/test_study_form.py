"""The form of a study: it loses nothing, submits what it shows, and says what is wrong where it is wrong."""

import ast
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from submission_form import SubmissionForm

from service.dashboard.form_document import NotInForm, document_of, fields_of
from service.dashboard.study_texts import study_texts
from service.documents import read_document
from service.request_documents import read_document_text
from studies.brief_spec import brief_spec
from studies.catalog import Catalog
from studies.cluster_views import MachineView
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

HTML = {"accept": "text/html", "sec-fetch-site": "same-origin"}
FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = [FOLDER / "digits.json", *sorted(FOLDER.glob("*.yaml")), *sorted(FOLDER.glob("paper*/*.yaml"))]
EXAMPLES += sorted(FOLDER.glob("jobs/studies/*.yaml"))
STUDY: dict[str, Any] = {
    "name": 'Quotes ", commas and <b>',
    "workload": "digits-mlp",
    "arms": [
        "adamp",
        {
            "optimizer": "adamp",
            "name": "own",
            "space": {
                "lr": {"low": 1e-5, "high": 0.1, "log": True},
                "nesterov": {"choices": [True, False]},
                "betas": [0.9, 0.999],
                "delta": "tune",
                "training.batch_size": 64,
            },
        },
        {"optimizer": "adamw", "space": {"weight_decay": 0.0}},
    ],
    "space": {"training.clip_norm": {"low": 0.1, "high": 10, "log": True}, "groups.norms.lr": "tune"},
    "budget": {"trials_per_arm": 20, "steps": 600, "evaluate_every": 200},
    "search": {"paired": 15, "until": {"max_pairs": 30, "pairs": [["adamp", "adamw"]], "drop_losers": True}},
    "pruner": {"kind": "asha", "reduction_factor": 2},
    "objective": {"at": "best"},
    "confirmation": {"seeds": 3},
    "training": {"schedule": "warmup-cosine", "decay_1d": False},
    "resources": {"max_pack_size": 4, "priority": "low"},
    "keep": {"weights": "best", "days": 30},
    "tags": ["thesis", "2024"],
    "suite": "small",
    "seed": 7,
    "check_workload": False,
}
AWKWARD = ["1e-4", "12", "true", "a, b", ' "quoted" ', "", "tune", 1.0, 1, -3e-12, True, "ü"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_passes_through_the_form_and_its_texts_unchanged(path: Path) -> None:
    document = read_document(path)
    spec = parse_spec(document)
    assert parse_spec(document_of(fields_of(document))) == spec
    brief = brief_spec(spec)
    assert parse_spec(brief) == spec
    assert document_of(fields_of(brief)) == brief
    json_text, yaml_text, curl, program = study_texts(brief, url="http://lab:8780", has_token=True)
    assert read_document_text(json_text.text) == read_document_text(yaml_text.text) == brief
    assert read_document_text(curl.text.partition("<<'END'\n")[2].removesuffix("\nEND")) == brief
    assignment = ast.parse(program.text).body[2]
    assert isinstance(assignment, ast.Assign)
    assert ast.literal_eval(assignment.value) == brief


def test_there_are_examples() -> None:
    assert len(EXAMPLES) > 50


def test_a_study_with_every_kind_of_field_passes_through_unchanged() -> None:
    assert document_of(fields_of(STUDY)) == STUDY
    space = {f"x{n}": value for n, value in enumerate(AWKWARD)} | {"all": {"choices": AWKWARD}}
    odd = {"arms": [{"optimizer": "adamp", "space": space}], "tags": ["1", "x, y", '"'], "seed": "12"}
    assert json.dumps(document_of(fields_of(odd)), sort_keys=True) == json.dumps(odd, sort_keys=True)
    yaml_text = study_texts(odd, url="http://lab", has_token=False)[1].text
    assert json.dumps(read_document_text(yaml_text)) == json.dumps(odd)


@given(st.lists(st.text('",\\\\ a1', max_size=4), min_size=1, max_size=4))
@example(['"a', 'b"'])
def test_texts_with_quotes_and_commas_stay_as_many_as_they_are(texts: list[str]) -> None:
    space = {"x": {"choices": texts}, "y": texts[0], "z": texts[:2]}
    study = {"arms": [{"optimizer": "adamp", "space": space}], "tags": texts}
    assert document_of(fields_of(study)) == study


def test_a_dimension_without_its_values_survives_the_text_and_gets_no_others(http: httpx.Client) -> None:
    at = "/arms/0/space"
    typed = {
        "/workload": "digits-mlp",
        "/arms/0/optimizer": "adamp",
        **dict.fromkeys((f"{at}/lr", f"{at}/lr/listed"), "fixed"),
        **dict.fromkeys((f"{at}/eps", f"{at}/eps/listed"), "range"),
        f"{at}/eps/scale": "log",
        **dict.fromkeys((f"{at}/delta", f"{at}/delta/listed"), "range"),
        f"{at}/delta/high": "0.5",
        **dict.fromkeys((f"{at}/wd_ratio", f"{at}/wd_ratio/listed"), "choices"),
        **dict.fromkeys((f"{at}/betas", f"{at}/betas/listed"), "pair"),
        "/budget/trials_per_arm": "8",
    }
    page = SubmissionForm(http.post("/new", data=typed | {"do": "redraw"}, headers=HTML).text)
    assert page.fields | typed == page.fields
    assert not any(page.fields[f"{at}/{name}"] for name in ("lr/value", "eps/low", "wd_ratio/choices"))
    faulty = [name for name, has in page.attributes.items() if has.get("aria-invalid")]
    assert {name.split("/")[4] for name in faulty} == {"lr", "eps", "delta", "wd_ratio", "betas"}
    text = SubmissionForm(http.post("/new", data=page.fields | {"do": "text"}, headers=HTML).text)
    spec = text.texts["spec-text"]
    again = SubmissionForm(http.post("/new", data={"spec": spec, "do": "form"}, headers=HTML).text)
    assert {name: again.fields.get(name) for name in typed} == typed
    assert http.post("/new", data=again.fields, headers=HTML).status_code == 422
    chosen = page.fields | {f"{at}/lr": "range"}
    other = SubmissionForm(http.post("/new", data=chosen | {"do": "redraw"}, headers=HTML).text)
    assert other.fields[f"{at}/lr/low"] == "1e-05", "the card's range, for a way that was just chosen"


@pytest.mark.parametrize(
    ("more", "pointers"),
    [
        ({"bugdet": 3, "keep": {"wieghts": 1}}, {"/bugdet", "/keep/wieghts"}),
        ({"arms": [{"optimizer": "adamp", "spaec": {}}]}, {"/arms/0/spaec"}),
        (
            {"space": {"training.clip_norm": {"low": 1, "step": 2}}, "budget": 3},
            {"/space/training.clip_norm", "/budget"},
        ),
        ({"tags": "one", "search": {"stopped_at": [["adamp", 3]]}}, {"/tags", "/search/stopped_at"}),
    ],
)
def test_what_the_form_cannot_show_stays_as_text(
    http: httpx.Client, more: dict[str, Any], pointers: set[str]
) -> None:
    with pytest.raises(NotInForm) as error:
        fields_of(STUDY | more)
    assert set(error.value.pointers) == pointers
    text = json.dumps(STUDY | more)
    page = SubmissionForm(http.post("/new", data={"spec": text, "do": "form"}, headers=HTML).text)
    assert json.loads(page.texts["spec-text"]) == STUDY | more
    assert all(pointer in page.texts["findings"] for pointer in pointers)


def test_a_study_that_is_too_large_for_the_form_stays_as_text(http: httpx.Client) -> None:
    typed = {f"/arms/{n % 90}/space/x{n}": "tune" for n in range(2_600)}
    page = SubmissionForm(http.post("/new", data=typed | {"do": "redraw"}, headers=HTML).text)
    assert "more than 2500 entries" in page.texts["findings"]
    assert json.loads(page.texts["spec-text"]) == document_of(typed)


def test_the_form_and_the_text_submit_the_same_study(http: httpx.Client, store: Store) -> None:
    sent = http.post("/new", data=fields_of(STUDY), headers=HTML)
    assert sent.status_code == 303, sent.text
    by_form = store.study(sent.headers["location"].rpartition("/")[2]).spec
    answer = http.post("/v1/studies", json=STUDY)
    assert by_form == store.study(answer.json()["id"]).spec == parse_spec(STUDY)


def test_what_the_page_shows_submits_the_study_that_it_shows(http: httpx.Client, store: Store) -> None:
    page = SubmissionForm(
        http.post("/new", data={"spec": json.dumps(STUDY), "do": "form"}, headers=HTML).text
    )
    assert "This study is valid" in page.texts["findings"]
    fields = {name: text for name, text in page.fields.items() if text}
    assert document_of({name: text for name, text in fields.items() if name.startswith("/")}) == STUDY
    assert json.loads("{" + page.texts["same-json"].partition("{")[2]) == STUDY
    sent = http.post("/new", data=fields, headers=HTML)
    assert store.study(sent.headers["location"].rpartition("/")[2]).spec == parse_spec(STUDY)


def test_every_fault_is_at_its_field_and_nothing_typed_is_lost(http: httpx.Client, store: Store) -> None:
    typed = fields_of(STUDY) | {
        "/budget/trials_per_arm": "many",
        "/budget/steps": "601",
        "/arms/1/space/lr/low": "0.2",
        "/arms/2/space/weight_decay/value": "-1",
        "/pruner/min_epochs": "0",
        "/tags": "Thesis, 2024",
        "/search/verdict_at": "9",
    }
    answer = http.post("/new", data=typed | {"check": "1"}, headers=HTML)
    assert (answer.status_code, store.studies().total) == (422, 0)
    page = SubmissionForm(answer.text)
    assert {name: page.fields[name] for name in typed} == typed
    faults = http.post("/v1/studies", json=document_of(typed)).json()["errors"]
    assert len(faults) >= 5
    described = ""
    for name, has in page.attributes.items():
        if has.get("aria-invalid"):
            ids = str(has["aria-describedby"]).split()
            described += page.texts[ids[0]]
            assert f"#{has['id']}" in page.links, name
    plain = described.replace("`", "")
    for fault in faults:
        assert fault["detail"].replace("`", "") in plain, fault
        assert fault["pointer"] in page.texts["findings"]


def test_the_form_changes_without_scripts(http: httpx.Client) -> None:
    def pressed(page: SubmissionForm, button: str, **typed: str) -> SubmissionForm:
        answer = http.post("/new", data=page.fields | typed | {"do": button}, headers=HTML)
        assert answer.status_code == 200
        return SubmissionForm(answer.text)

    page = SubmissionForm(http.get("/new", headers=HTML).text)
    page = pressed(page, "add-arm", **{"add-arm": "adamp"})
    assert [page.fields[f"/arms/{n}/optimizer"] for n in range(3)] == ["adamp", "adamw", "adamp"]
    assert page.fields["/arms/2/name"] == "adamp-2"
    page = pressed(page, "add:", add="training.batch_size")
    page = pressed(page, "add:/arms/2", **{"add/arms/2": "training.schedule"})
    page = pressed(page, "redraw", **{"/arms/2/space/lr": "range", "/space/training.batch_size": "choices"})
    assert page.fields["/arms/2/space/lr/low"] == "1e-05", "the card's range is there to edit"
    page = pressed(page, "remove-arm:1")
    document = json.loads("{" + page.texts["same-json"].partition("{")[2])
    own = {"lr": {"low": 1e-5, "high": 1.0, "log": True}, "training.schedule": "tune"}
    assert document["arms"] == ["adamp", {"optimizer": "adamp", "name": "adamp-2", "space": own}]
    assert document["space"] == {"training.batch_size": {"choices": [8, 16, 32, 64, 128]}}
    text = pressed(page, "text")
    assert json.loads(text.texts["spec-text"]) == document
    again = SubmissionForm(
        http.post("/new", data={"spec": text.texts["spec-text"], "do": "form"}, headers=HTML).text
    )
    same = {name for name, value in page.fields.items() if value and not name.endswith("/listed")}
    assert {name: again.fields.get(name) for name in same} == {name: page.fields[name] for name in same}


def test_a_clone_is_filled_in_without_what_is_a_default(http: httpx.Client, store: Store) -> None:
    study = store.submit(
        parse_spec({"workload": "char-lm", "arms": ["adamw"], "budget": {"trials_per_arm": 9}})
    )
    page = SubmissionForm(http.get(f"/new?study={study.id}", headers=HTML).text)
    filled = {name: text for name, text in page.fields.items() if text and name.startswith("/")}
    assert filled == {
        "/workload": "char-lm",
        "/arms/0/optimizer": "adamw",
        "/budget/trials_per_arm": "9",
    }


def test_a_workload_that_lacks_something_says_what(
    http: httpx.Client, store: Store, catalog: Catalog
) -> None:
    card = catalog.workloads["char-lm"].model_copy(
        update={"name": "gone", "missing": "torchvision is not installed; run `pip install torchvision`"}
    )
    store.announce(catalog.model_copy(update={"workloads": {"gone": card}}), dispatcher="here")
    page = http.post("/new", data=fields_of(STUDY | {"workload": "gone"}) | {"check": "1"}, headers=HTML).text
    assert "char lm (gone), cannot be trained here" in page
    assert "torchvision is not installed; run <code>pip install torchvision</code>" in page


def test_a_check_says_what_the_machines_make_of_a_study_and_which_gap_it_can_see(
    http: httpx.Client, store: Store
) -> None:
    machine = MachineView(cpus=6, cpu_share=0.1, memory_bytes=2, memory_used_bytes=1)
    store.heartbeat("here", machine=machine)
    study = {"workload": "digits-mlp", "arms": ["adamp", "adamw"], "budget": {"trials_per_arm": 33}}
    plan = http.post("/v1/studies?validate_only=true", json=study).json()
    assert plan["placement"] == {
        "cpus": 6.0,
        "gpus": 0.0,
        "packs_at_once": 6,
        "estimate_s": pytest.approx(plan["estimate_cpu_s"] / 6),
    }
    assert plan["visible_gap"] == pytest.approx(1.74, abs=0.01)
    page = http.post("/new", data=fields_of(study) | {"check": "1"}, headers=HTML).text
    assert "Machines now: 6 cores, at most 6 packs at once" in page.replace("\N{NO-BREAK SPACE}", " ")
    assert "a difference of 1.7 points" in page
    large = study | {"resources": {"cpus_per_pack": 8, "gpus_per_pack": 1}}
    assert http.post("/v1/studies?validate_only=true", json=large).json()["placement"]["packs_at_once"] == 0
    small = study | {"budget": {"trials_per_arm": 4}}
    assert (
        "fewer than 8 pairs" in http.post("/new", data=fields_of(small) | {"check": "1"}, headers=HTML).text
    )
