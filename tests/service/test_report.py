"""Reports over REST: all formats have the same content, and no study name can do harm in any."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest
from trained_studies import Trained

from service.report import html, latex, markdown
from service.report.rows import arm_rows
from service.report.sanitize import plain
from service.report.study_report import StudyReport
from studies.extension import parse_extension
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

Play = Callable[..., str]

HOSTILE = [
    "</title><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "| a | b |",
    "`code` **bold** [link](javascript:alert(1)) ![x](http://evil.example/x.png)",
    r"\input{/etc/passwd} \write18{id} $x$ %comment ^^5c &{}#_~",
    "@torvalds fixes #1, see https://evil.example or www.evil.example",
    "\N{RIGHT-TO-LEFT OVERRIDE}sdrawkcab\N{POP DIRECTIONAL FORMATTING} \N{ZERO WIDTH SPACE}",
    "日本語 émoji 🎉 Łódź ﬁ",
]


@pytest.fixture
def study(play: Play, body: dict[str, Any]) -> str:
    return play(body | {"name": "Adams, compared"}, confirm=5)


def report_of(http: httpx.Client, study: str, form: str) -> str:
    answer = http.get(f"/v1/studies/{study}/report", params={"format": form})
    assert answer.status_code == 200, answer.text
    return answer.text


def test_json_contains_the_study_its_analysis_methods_and_code(http: httpx.Client, study: str) -> None:
    found = json.loads(report_of(http, study, "json"))
    assert set(found) == {"study", "arms", "analysis", "methods", "configurations", "layers"}
    assert found["study"] == http.get(f"/v1/studies/{study}").json()
    assert found["analysis"] == http.get(f"/v1/studies/{study}/analysis").json()
    assert [(c["arm"], c["configuration"]) for c in found["configurations"]] == [
        ("adamp", "best"),
        ("adamp", "defaults"),
        ("adamw", "best"),
        ("adamw", "defaults"),
    ]
    assert "\noptimizer = AdamP(model.parameters(), lr=0.002, " in found["configurations"][0]["python"]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "html"),
        ("text/markdown", "markdown"),
        ("application/x-tex;q=0.9", "latex"),
        ("application/json", "json"),
        ("*/*", "json"),
    ],
)
def test_without_a_format_the_accept_header_decides(
    http: httpx.Client, study: str, accept: str, form: str
) -> None:
    asked = http.get(f"/v1/studies/{study}/report", headers={"accept": accept})
    named = http.get(
        f"/v1/studies/{study}/report", params={"format": form}, headers={"accept": "nothing/known"}
    )
    assert asked.text == named.text
    assert asked.headers["content-type"] == named.headers["content-type"]
    assert "Accept" in asked.headers["vary"].split(", ")


def test_an_unchanged_report_is_not_sent_again(http: httpx.Client, study: str) -> None:
    path = f"/v1/studies/{study}/report?format=html"
    etag = http.get(path).headers["etag"]
    again = http.get(path, headers={"if-none-match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)


def test_an_unknown_study_or_format_is_an_error(http: httpx.Client, study: str) -> None:
    assert http.get("/v1/studies/nothing/report").json()["type"] == "/problems/study-not-found"
    assert http.get("/v1/studies/nothing/bundle").json()["type"] == "/problems/study-not-found"
    refused = http.get(f"/v1/studies/{study}/report?format=pdf")
    assert (refused.status_code, refused.json()["type"]) == (422, "/problems/parameter-invalid")


@pytest.mark.parametrize("form", ["markdown", "html", "latex", "json"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_queued_study_has_a_report(
    http: httpx.Client, store: Store, body: dict[str, Any], form: str, sampler: str
) -> None:
    study = store.submit(parse_spec(body | {"sampler": sampler})).id
    assert study in report_of(http, study, form)


@pytest.mark.parametrize("form", ["markdown", "html", "latex", "json"])
def test_a_study_without_confirmation_says_so(
    http: httpx.Client, play: Play, body: dict[str, Any], form: str
) -> None:
    study = play(body | {"confirmation": {"seeds": 0}})
    assert re.search(
        r"No configuration (was retrained|has been confirmed) on fresh seeds",
        report_of(http, study, form),
    )


@pytest.mark.parametrize("form", ["markdown", "html", "latex", "json"])
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_study_of_diverged_trials_has_a_report(
    http: httpx.Client, play: Play, body: dict[str, Any], form: str, sampler: str
) -> None:
    study = play(body | {"sampler": sampler, "budget": {"trials_per_arm": 1, "epochs": 2}})
    text = report_of(http, study, form)
    # The finding quotes why the trials diverged.
    assert "nan" not in text.lower().replace("finance", "").replace("the loss is nan", "")


@pytest.mark.parametrize("form", ["markdown", "html", "latex"])
def test_every_format_contains_the_finding_and_the_means(http: httpx.Client, study: str, form: str) -> None:
    text = report_of(http, study, form)
    analysis = http.get(f"/v1/studies/{study}/analysis").json()
    for found in analysis["confirmed"]:
        if found["configuration"] == "best":
            assert f"{100 * found['test_mean']:.2f}" in text
    if form != "latex":
        assert analysis["finding"]["winner"] == "adamw"
        assert plain(analysis["finding"]["sentence"]).partition("%")[0] in text
        assert "Holm" in text
        assert "AdamP(model.parameters()" in text


class _Page(HTMLParser):
    """The tags and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "path", "link", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(text: str) -> _Page:
    page = _Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def test_the_page_loads_no_resources_and_runs_no_scripts(http: httpx.Client, study: str) -> None:
    page = page_of(report_of(http, study, "html"))
    assert {tag for tag, _ in page.tags}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a"}
    )
    assert not [
        (tag, attrs)
        for tag, attrs in page.tags
        if {"src", "href", "style"} & set(attrs) or any(name.startswith("on") for name in attrs)
    ]
    assert "url(" not in report_of(http, study, "html")


def test_the_pages_policy_allows_only_its_own_style(http: httpx.Client, study: str) -> None:
    answer = http.get(f"/v1/studies/{study}/report?format=html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    (meta,) = [
        attrs["content"]
        for tag, attrs in page_of(answer.text).tags
        if tag == "meta" and "http-equiv" in attrs
    ]
    assert meta is not None
    assert policy.startswith(meta)


def test_every_chart_has_a_title_and_a_description_with_its_numbers(http: httpx.Client, study: str) -> None:
    text = report_of(http, study, "html")
    charts = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert len(charts) == 2
    for chart in charts:
        (named,) = re.findall(r'aria-labelledby="([^"]+)"', chart)
        for name in named.split():
            (text_of_label,) = re.findall(rf'id="{name}">([^<]+)<', chart)
            assert text_of_label
        assert 'role="img"' in chart
        assert "AdamW" in re.findall(r"<desc[^>]*>([^<]+)<", chart)[0]
        assert "nan" not in chart.lower()


@pytest.mark.parametrize("name", HOSTILE)
def test_no_study_name_injects_html(http: httpx.Client, play: Play, body: dict[str, Any], name: str) -> None:
    harmless = page_of(report_of(http, play(body | {"name": "harmless"}, confirm=5), "html"))
    page = page_of(report_of(http, play(body | {"name": name}, confirm=5), "html"))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert plain(name) in page.text


@pytest.mark.parametrize("name", HOSTILE)
def test_no_study_name_is_markup_in_markdown(
    http: httpx.Client, play: Play, body: dict[str, Any], name: str
) -> None:
    text = report_of(http, play(body | {"name": name}), "markdown")
    title = text.splitlines()[0]
    assert (
        re.sub(r"\\([\\`*_{}\[\]<>#|~!&$:.])", r"\1", re.sub("([@#])\u200b", r"\1", title))
        == f"# {plain(name)}"
    )
    bare = re.sub(r"\\.", "", title.removeprefix("# "))
    assert not set(bare) & set("`*_[]<>#|!$")
    assert not re.search(r"https?:|www\.|@\w", bare)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_study_name_is_a_command_in_latex(
    http: httpx.Client, play: Play, body: dict[str, Any], name: str
) -> None:
    text = report_of(http, play(body | {"name": name}), "latex")
    assert text.isascii()
    commands = set(re.findall(r"\\([A-Za-z]+)", text))
    ours = {
        "usepackage",
        "begin",
        "end",
        "centering",
        "caption",
        "label",
        "toprule",
        "midrule",
        "bottomrule",
        "textbf",
        "pm",
        "times",
    }
    assert commands - ours <= {
        "textbackslash",
        "textasciitilde",
        "textasciicircum",
        "textless",
        "textgreater",
        "textbar",
        "L",
        "l",
        "textquotedblright",
    }
    assert balanced(text)


def balanced(text: str) -> bool:
    """Return whether braces, environments and rows of a LaTeX text are balanced; this does not run TeX."""
    bare = (
        re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
        .replace("\\\\", "")
        .replace("\\%", "")
        .replace("\\&", "")
    )
    bare = re.sub(r"\\[{}$#_]", "", bare)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    begun = re.findall(r"\\begin\{(\w+)\}", text)
    ended = re.findall(r"\\end\{(\w+)\}", text)
    return depth == 0 and begun == ended[::-1] and bare.count("$") % 2 == 0 and "%" not in bare


def test_every_row_of_the_latex_table_has_a_cell_in_every_column(http: httpx.Client, study: str) -> None:
    text = report_of(http, study, "latex")
    (columns,) = re.findall(r"\\begin\{tabular\}\{([a-z]+)\}", text)
    rows = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(rows) == 3
    assert {len(row.split(" & ")) for row in rows} == {len(columns)}
    first = rows[1].split(" & ")
    assert first[1] == r"\textbf{AdamW}"
    assert re.fullmatch(r"\$\d\d\.\d\d \\pm \d+\.\d\d\$", first[2])
    assert (first[3], first[4], first[5]) == ("5", "3", "6")
    assert rows[1].endswith(r"2 \\")
    assert rows[2].endswith(r"-- \\")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a--b", "a-{}-b"),
        ("a – b", r"a \textendash{} b"),
        ("Łódź", r"\L{}\'{o}d\'{z}"),
        ("naïve", r"na\"{\i}ve"),
        ("日", "?"),
        ("a\nb\0c", "a bc"),
        ("97.31\N{NO-BREAK SPACE}%", r"97.31~\%"),
    ],
)
def test_latex_text_is_escaped_to_ascii(text: str, expected: str) -> None:
    assert latex.escaped(text) == expected


def test_a_fence_is_longer_than_any_run_of_backticks_in_the_code() -> None:
    from service.report.sections import Code

    written = markdown._block(Code("title", "x = '````'\n"))
    assert written.splitlines()[-1] == "`````"


def test_the_page_has_the_dashboards_colours_in_light_and_dark() -> None:
    assert {style.count("--arm-7:") for style in html._STYLES.values()} == {2}
    assert "@media screen and (prefers-color-scheme: dark) {" in html._STYLES["auto"]


def test_the_report_is_described_in_the_api(open_app: Any) -> None:
    described = open_app.openapi()
    assert (
        described["components"]["schemas"]["StudyReport"]["properties"].keys()
        == StudyReport.model_fields.keys()
    )
    content = described["paths"]["/v1/studies/{study_id}/report"]["get"]["responses"]["200"]["content"]
    assert set(content) == {"application/json", "text/markdown", "text/html", "application/x-tex"}
    assert set(described["paths"]["/v1/studies/{study_id}/bundle"]["get"]["responses"]["200"]["content"]) == {
        "application/zip"
    }


def test_differences_in_a_metric_without_a_unit_have_no_unit(
    http: httpx.Client, play: Play, body: dict[str, Any]
) -> None:
    study = play(body, confirm=5)
    found = StudyReport.model_validate_json(report_of(http, study, "json"))
    card = found.study.workload_card.model_copy(update={"unit": "none"})
    pure = found.model_copy(update={"study": found.study.model_copy(update={"workload_card": card})})
    assert "first minus second.\n" in markdown.markdown(pure)
    assert "first minus second, in percentage points.\n" in markdown.markdown(found)


def test_replicates_are_not_described_as_paired(http: httpx.Client, play: Play, body: dict[str, Any]) -> None:
    study = play(body, confirm=5)
    found = StudyReport.model_validate_json(report_of(http, study, "json"))
    budget = found.study.spec.budget.model_copy(update={"replicates": 2})
    spec = found.study.spec.model_copy(update={"budget": budget})
    assert "Mean paired differences" in markdown.markdown(found)
    assert "paired differences in the test" not in markdown.markdown(
        found.model_copy(update={"study": found.study.model_copy(update={"spec": spec})})
    )


def test_a_report_without_results_has_no_section_on_sensitivity(
    http: httpx.Client, store: Store, play: Play, body: dict[str, Any]
) -> None:
    assert "## Sensitivity" in report_of(http, play(body), "markdown")
    queued = store.submit(parse_spec(body)).id
    assert "## Sensitivity" not in report_of(http, queued, "markdown")


def test_arms_that_were_not_compared_are_not_undecided(
    http: httpx.Client, play: Play, body: dict[str, Any]
) -> None:
    rows = arm_rows(
        StudyReport.model_validate_json(report_of(http, play(body | {"confirmation": {"seeds": 0}}), "json"))
    )
    assert [row.undecided_with for row in rows] == [(), ()]


def test_the_latex_table_counts_only_trials_that_ran(
    http: httpx.Client, play: Play, body: dict[str, Any]
) -> None:
    found = StudyReport.model_validate_json(report_of(http, play(body, confirm=5), "json"))
    first = found.arms[0].model_copy(
        update={
            "progress": found.arms[0].progress.model_copy(
                update={"trials": 300, "finished": 46, "cancelled": 2}
            )
        }
    )
    text = latex.latex(found.model_copy(update={"arms": (first, *found.arms[1:])}))
    assert "300" not in text
    assert " & 44 & " in text


@pytest.mark.parametrize("form", ["markdown", "html", "latex"])
@pytest.mark.parametrize("name", ["   ", "\N{ZERO WIDTH SPACE}", "\N{RIGHT-TO-LEFT OVERRIDE}"])
def test_an_invisible_name_is_replaced_by_the_id(
    http: httpx.Client, play: Play, body: dict[str, Any], form: str, name: str
) -> None:
    study = play(body | {"name": name})
    text = report_of(http, study, form)
    assert re.search(
        {"markdown": f"^# {study}\n", "html": f"<h1>{study}</h1>", "latex": rf"caption\{{{study}\. "}[form],
        text,
    )


def test_markdown_does_not_reference_issues() -> None:
    assert "#1" not in markdown.escaped("fixes #1")


def test_a_format_with_zero_quality_is_not_sent(http: httpx.Client, study: str) -> None:
    path = f"/v1/studies/{study}/report"
    assert (
        http.get(path, headers={"accept": "text/html;q=0, text/markdown"})
        .headers["content-type"]
        .startswith("text/markdown")
    )
    assert (
        http.get(path, headers={"accept": "text/html;q=0.2, text/markdown;q=0.9"})
        .headers["content-type"]
        .startswith("text/markdown")
    )
    assert (
        http.get(path, headers={"accept": "text/html;q=many"}).headers["content-type"].startswith("text/html")
    )


@pytest.mark.parametrize("when", ["study", "arms", "study_record", "every_trial"])
@pytest.mark.parametrize("path", ["report?format=markdown", "report?format=html", "bundle"])
def test_a_study_extended_during_the_request_has_a_report_and_a_bundle(
    http: httpx.Client,
    store: Store,
    play: Play,
    body: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
    path: str,
) -> None:
    study = play(body, confirm=5)
    read, again = getattr(store, when), {"optimizer": "adamw", "name": "again"}

    extended: list[str] = []

    def extended_first(*given: Any, **named: Any) -> Any:
        if not extended:
            extended.append(study)
            store.extend(study, parse_extension({"arms": [again]}))
        return read(*given, **named)

    monkeypatch.setattr(store, when, extended_first)
    answer = http.get(f"/v1/studies/{study}/{path}")
    assert answer.status_code == 200, answer.text


def test_an_interval_above_100_percent_is_shown_up_to_100_but_its_half_width_is_kept(
    http: httpx.Client, store: Store
) -> None:
    # Two seeds have a wide interval, whose upper end is above 100 %.
    budget = {"trials_per_arm": 8, "epochs": 3}
    study = (
        Trained(store, width=8, seed=4, budget=budget, confirmation={"seeds": 2}).train().confirm().close().id
    )
    analysis = http.get(f"/v1/studies/{study}/analysis").json()
    best = [each for each in analysis["confirmed"] if each["configuration"] == "best"]
    widest = max(best, key=lambda each: each["test_high"])
    assert widest["test_high"] > 1
    half = 100 * (widest["test_high"] - widest["test_mean"])
    found = re.findall(r"\\pm (\d+\.\d+)", report_of(http, study, "latex"))
    assert pytest.approx(half, abs=0.02) in [float(each) for each in found]
    shown = re.findall(r"to\s([\d.]+)\s%", report_of(http, study, "html"))
    assert max(map(float, shown)) == 100.0


def test_an_interval_over_replicates_is_shown_up_to_100_percent(http: httpx.Client, store: Store) -> None:
    budget = {"trials_per_arm": 8, "epochs": 3, "replicates": 2}
    run = Trained(store, width=8, seed=4, budget=budget, confirmation={"seeds": 2})
    page = report_of(http, run.train().confirm().close().id, "html")
    assert max(map(float, re.findall(r"to\s([\d.]+)\s%", page))) == 100.0
