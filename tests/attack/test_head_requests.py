"""HEAD has the status and the headers of GET, without a body."""

from collections.abc import Iterator

from fastapi import FastAPI
from populated_store import AttackTarget

__all__: list[str] = []

# They differ between any two responses.
NOT_COMPARED = {"date", "x-request-id", "x-analysis-age"}


def paths(app: FastAPI, known: dict[str, str]) -> Iterator[str]:
    """Yield the path of each GET of the API, and the pages, with existing ids."""
    for path, operations in app.openapi()["paths"].items():
        if "get" in operations:
            yield path.format(**known)
    yield from (
        "/",
        "/new",
        "/optimizers",
        "/optimizers/adamp",
        "/workloads",
        "/workloads/digits-mlp",
        "/suites",
        "/suites/small",
        "/docs",
        "/login",
        "/account",
    )
    yield from (f"/studies/{known['study_id']}", f"/studies/{known['study_id']}/trials.csv")
    yield from (f"/trials/{known['trial_id']}", f"/studies/{known['study_id']}/live", "/openapi.json")
    yield from ("/nothing", "/v1/studies/zzzzzzzz", "/v1/studies?page_size=0")


def test_head_works_wherever_get_does(attacked: AttackTarget) -> None:
    known = {
        "study_id": attacked.data.completed[0],
        "trial_id": attacked.data.trials[0],
        "suite_name": "small",
        "name": "adamp",
        "webhook_id": "zzzzzzzz",
        "artifact_id": "0" * 32,
        "slug": "not-json",
    }
    headers = {"accept-encoding": "gzip"}
    different: dict[str, object] = {}
    with attacked.client("root") as client:
        for path in paths(attacked.app, known):
            # The counters change with every request, and the file with the time.
            if path in {"/metrics", "/v1/studies/{study_id}/bundle".format(**known)}:
                continue
            # The list of studies gets its verdicts in the background.
            not_compared = NOT_COMPARED | ({"content-length"} if path == "/" else set())
            got, asked = client.get(path, headers=headers), client.head(path, headers=headers)
            expected, found = (
                {name: value for name, value in answer.headers.items() if name not in not_compared}
                for answer in (got, asked)
            )
            if (asked.status_code, found, asked.content) != (got.status_code, expected, b""):
                different[path] = (got.status_code, asked.status_code, expected.items() ^ found.items())
    assert different == {}


def test_head_of_a_file_and_of_an_event_stream_ends_at_once(attacked: AttackTarget) -> None:
    with attacked.client("vera") as client:
        bundle = client.head(f"/v1/studies/{attacked.data.completed[0]}/bundle")
        assert (bundle.status_code, bundle.headers["content-type"]) == (200, "application/zip")
        assert int(bundle.headers["content-length"]) > 1000
        for _ in range(3):
            stream = client.head(
                f"/v1/studies/{attacked.data.running}/events", headers={"accept": "text/event-stream"}
            )
            assert stream.status_code == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
        # The connection still works, and no stream is left open.
        assert client.get("/healthz").json()["status"] == "up"
    assert attacked.app.state.streams.open == 0
