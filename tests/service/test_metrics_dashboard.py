"""The Grafana dashboard and the Prometheus rules use only metrics, labels and states that exist."""

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from service.app import create_app
from service.settings import ServiceSettings
from studies.states import StudyState, TrialState
from studies.store import Store

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "tangent.json"
# Prometheus itself creates `up` for each scrape.
NAME = re.compile(r"\b(?:(?:tangent|process|python)_[a-z_]+|up(?=\{))")
STATES = {
    "tangent_studies": {state.value for state in StudyState},
    "tangent_trials": {state.value for state in TrialState},
}

ClientOf = Callable[..., AbstractContextManager[httpx.Client]]


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text(encoding="utf-8"))


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for group in yaml.safe_load((DEPLOY / "prometheus-rules.yml").read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def expressions() -> dict[str, str]:
    """Return every query, by its location."""
    asked = {
        f"panel {panel['title']}, {target['refId']}": target["expr"]
        for panel in panels()
        for target in panel["targets"]
    }
    return asked | {f"alert {rule['alert']}": rule["expr"] for rule in rules()}


@pytest.fixture
def offered(settings: ServiceSettings, store: Store, client_of: ClientOf) -> dict[str, set[str]]:
    """The labels of every sample that a lightly used service exports, by the sample's name."""
    app: FastAPI = create_app(settings, store)
    with client_of(app) as client:
        client.get("/v1/studies")
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(client.get("/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found | {"up": set()}


def test_every_metric_in_a_query_exists(offered: dict[str, set[str]]) -> None:
    asked = {where: set(NAME.findall(expression)) for where, expression in expressions().items()}
    assert all(asked.values())
    assert {
        where: sorted(names - set(offered)) for where, names in asked.items() if names - set(offered)
    } == {}


def test_every_label_in_a_query_exists(offered: dict[str, set[str]]) -> None:
    # Prometheus adds these labels to every metric.
    added = {"job", "instance"}
    for where, expression in expressions().items():
        names = NAME.findall(expression)
        known = added.union(*(offered[name] for name in names))
        used = set(re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)\s*\"", expression))
        for listed in re.findall(r"\bby \(([^)]*)\)", expression):
            used |= {label.strip() for label in listed.split(",")}
        assert used <= known, where


def test_every_state_in_a_query_exists() -> None:
    for where, expression in expressions().items():
        for name, states in re.findall(
            r"(tangent_studies|tangent_trials)\{[^}]*state=~?\"([^\"]+)\"", expression
        ):
            assert set(states.split("|")) <= STATES[name], where


def test_every_metric_is_on_the_dashboard(offered: dict[str, set[str]]) -> None:
    shown = {
        name for panel in panels() for target in panel["targets"] for name in NAME.findall(target["expr"])
    }
    # One of a histogram's three metrics suffices; the version is used for the list of jobs.
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in offered if name.startswith("tangent_")} - {
        "tangent_build_info"
    }
    assert ours - {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown} == set()
    assert "tangent_build_info" in json.dumps(dashboard()["templating"])


def test_the_dashboard_is_complete_and_no_panels_overlap() -> None:
    whole = dashboard()
    ids = [panel["id"] for panel in whole["panels"]]
    assert len(ids) == len(set(ids))
    assert whole["id"] is None
    defined = {variable["name"] for variable in whole["templating"]["list"]}
    builtin = {"__rate_interval", "__all"}
    assert set(re.findall(r"\$\{?(\w+)\}?", json.dumps(whole))) <= defined | builtin
    taken: set[tuple[int, int]] = set()
    for panel in whole["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24
        taken |= cells
    for panel in panels():
        assert panel["title"]
        assert panel["description"], panel["title"]


def test_prometheus_scrapes_the_service_and_loads_the_rules() -> None:
    configured = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = configured["scrape_configs"]
    assert (job["job_name"], job["metrics_path"]) == ("tangent", "/metrics")
    assert job["authorization"]["type"] == "Bearer"
    assert {place["port"] for place in job["dns_sd_configs"]} == {ServiceSettings.load().port}
    assert all((DEPLOY / name).is_file() for name in configured["rule_files"])


def test_every_alert_has_a_summary_and_a_severity() -> None:
    assert rules()
    for rule in rules():
        assert rule["annotations"]["summary"], rule["alert"]
        assert rule["labels"]["severity"] in {"page", "ticket"}, rule["alert"]


def test_every_metric_is_documented(offered: dict[str, set[str]]) -> None:
    explained = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")
    ours = {re.sub(r"_(bucket|sum|count)$", "", name) for name in offered if name.startswith("tangent_")}
    assert [name for name in sorted(ours) if f"`{name}`" not in explained] == []
