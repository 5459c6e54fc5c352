"""Notes of studies over REST, by the client, on the command line, in bundles and on the page."""

import io
import json
import re
import time
import zipfile
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from auth_headers import bearer
from typer.testing import Result

from service.client import Client, ProblemError
from service.dashboard.markdown_html import user_html
from studies.notes import MAX_CHARACTERS
from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
Run = Callable[..., Result]
Play = Callable[..., str]
BROWSER = {"accept": "text/html"}
HOSTILE = """# Title

<script>alert(1)</script> [a](javascript:alert(1)) [b](https://example.org/?q="x) <https://example.org>

![a plot](https://elsewhere.example/p.png) [![x](https://elsewhere.example/q.png)](/suites/small)

| n | value |
| --- | ---: |
| 1 | 2 |

| a |
| - |
| `<b>` |
"""


def form_of(page: str) -> dict[str, str]:
    """Return the fields of the form of notes in a page."""
    version = re.search(r'<input type="hidden" name="version" value="(\d+)">\n<label for="notes-text">', page)
    text = re.search(r'<textarea id="notes-text"[^>]*>\n(.*?)</textarea>', page, re.DOTALL)
    assert version is not None
    assert text is not None
    return {"version": version[1], "text": unescape(text[1])}


def test_notes_are_replaced_only_by_who_has_read_them(http: httpx.Client, store: Store, body: Body) -> None:
    path = f"/v1/studies/{store.submit(parse_spec(body)).id}/notes"
    empty = http.get(path)
    assert (empty.json()["version"], empty.json()["text"], empty.json()["history"]) == (0, "", [])
    first = http.put(path, json={"text": "first"}, headers={"if-match": empty.headers["etag"]})
    assert (first.status_code, first.json()["version"], first.json()["text"]) == (200, 1, "first")
    stale = http.put(path, json={"text": "other"}, headers={"if-match": empty.headers["etag"]})
    assert (stale.status_code, stale.json()["type"]) == (412, "/problems/version-conflict")
    assert http.get(path, headers={"if-none-match": first.headers["etag"]}).status_code == 304
    http.put(path, content="text: |\n  second\n", headers={"content-type": "application/yaml"})
    assert http.get(path).json()["text"] == "second\n"
    assert http.get(path, params={"version": 1}).json()["text"] == "first"
    assert [each["version"] for each in http.get(path).json()["history"]] == [2, 1]
    assert http.get(path, params={"version": 3}).json()["type"] == "/problems/not-found"
    for wrong, pointer in (
        ({"text": "x" * (MAX_CHARACTERS + 1)}, "/text"),
        ({"text": 1}, "/text"),
        ({}, "/text"),
        ([], ""),
        ({"text": "x", "version": 2}, "/version"),
    ):
        answer = http.put(path, json=wrong)
        assert (answer.status_code, answer.json()["type"]) == (422, "/problems/notes-invalid"), wrong
        assert [fault["pointer"] for fault in answer.json()["errors"]] == [pointer]
    assert http.get(path).json()["version"] == 2


def test_only_the_owner_and_admins_write_notes(
    http: httpx.Client, store: Store, secrets: dict[str, str], body: Body
) -> None:
    study_id = http.post("/v1/studies", json=body, headers=bearer(secrets["alice"])).json()["id"]
    for name, status, has_form in (("vera", 403, False), ("bob", 403, False), ("alice", 200, True)):
        headers = bearer(secrets[name])
        answer = http.put(f"/v1/studies/{study_id}/notes", json={"text": "x"}, headers=headers)
        assert answer.status_code == status, name
        page = http.get(f"/studies/{study_id}", headers=headers | BROWSER).text
        assert ('id="notes-text"' in page) is has_form, name
        sent = {"text": "written by", "version": str(store.notes(study_id).version)}
        form = http.post(f"/studies/{study_id}/notes", data=sent, headers=headers | BROWSER)
        assert form.status_code == (303 if has_form else 403)
        if name == "bob":
            assert form_of(form.text)["text"].strip() == "written by"
            assert "The notes were not saved: study" in form.text
    assert store.notes(study_id).history[0].by == "alice"


def test_the_client_reads_and_writes_notes(live: str, body: Body, play: Play) -> None:
    study_id = play(body)
    with Client(live) as client:
        assert client.set_notes(study_id, "one", if_version=0).text == "one"
        assert client.set_notes(study_id, "two").version == 2
        assert client.notes(study_id, version=1).text == "one"
        assert client.study(study_id).notes_version == 2
        with pytest.raises(ProblemError) as refused:
            client.set_notes(study_id, "three", if_version=1)
        assert refused.value.slug == "version-conflict"


def test_the_command_line_shows_and_changes_notes_and_loses_no_text(
    run: Run, store: Store, body: Body, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study_id = play(body)
    assert "has no notes" in run("notes", study_id[:4]).stderr
    (tmp_path / "notes.md").write_text("from a *file*\n", encoding="utf-8")
    assert run("notes", study_id, "--set", str(tmp_path / "notes.md")).exit_code == 0
    assert run("notes", study_id).stdout == "from a *file*\n"
    assert run("notes", study_id, "--set", "-", input="piped").exit_code == 0
    assert json.loads(run("notes", study_id, "--json").stdout)["text"] == "piped"
    assert run("notes", study_id, "--version", "1").stdout == "from a *file*\n"
    assert [line.split()[0] for line in run("notes", study_id, "--history").stdout.splitlines()] == [
        "version",
        "2",
        "1",
    ]
    editor = tmp_path / "editor.sh"
    editor.write_text('echo " and edited" >> "$1"\n', encoding="utf-8")
    monkeypatch.setenv("VISUAL", f"sh {editor}")
    assert run("notes", study_id, "--edit").exit_code == 0
    assert store.notes(study_id).text == "piped and edited"
    # Someone else writes while the editor is open.
    monkeypatch.setattr(
        "service.cli.notes._run_editor",
        lambda path: (path.write_text("mine"), store.set_notes(study_id, "theirs")),
    )
    refused = run("notes", study_id, "--edit")
    assert refused.exit_code == 1
    kept = re.search(r"your text is in (\S+)", refused.stderr)
    assert kept is not None
    assert Path(kept[1]).read_text(encoding="utf-8") == "mine"
    Path(kept[1]).unlink()
    assert store.notes(study_id).text == "theirs"
    for wrong in (("--edit", "--set", "-"), ("--set", "-", "--history"), ("--set", str(tmp_path / "none"))):
        assert run("notes", study_id, *wrong).exit_code == 2, wrong
    assert "version 4" in run("show", study_id).stdout


def test_a_bundle_has_the_notes_and_a_clone_starts_without(
    http: httpx.Client, store: Store, body: Body, play: Play
) -> None:
    study_id = play(body, confirm=5)
    store.set_notes(study_id, "why *this*")
    with zipfile.ZipFile(io.BytesIO(http.get(f"/v1/studies/{study_id}/bundle").content)) as archive:
        assert archive.read("notes.md").decode() == "why *this*"
    clone = http.post(f"/v1/studies/{study_id}:clone").json()
    assert clone["notes_version"] == 0


def test_the_form_of_the_page_saves_notes_and_keeps_what_was_not_saved(
    http: httpx.Client, store: Store, body: Body, play: Play
) -> None:
    study_id = play(body | {"name": "Digits & <1>"})
    page = http.get(f"/studies/{study_id}", headers=BROWSER).text
    assert "There are no notes." in page
    mine = form_of(page) | {"text": "\n& **mine**\r\n\r\n</textarea>"}
    saved = http.post(f"/studies/{study_id}/notes", data=mine, headers=BROWSER)
    assert (saved.status_code, saved.headers["location"]) == (303, f"/studies/{study_id}#notes")
    assert store.notes(study_id).text == "\n& **mine**\n\n</textarea>"
    page = http.get(f"/studies/{study_id}", headers=BROWSER).text
    assert "<p>&amp; <strong>mine</strong></p>\n<p>&lt;/textarea&gt;</p>" in page
    assert form_of(page) == {"version": "1", "text": store.notes(study_id).text}
    stale = http.post(f"/studies/{study_id}/notes", data=mine | {"text": "late"}, headers=BROWSER)
    assert (stale.status_code, form_of(stale.text)) == (412, {"version": "1", "text": "late"})
    assert 'role="alert"' in stale.text
    assert "<strong>mine</strong>" in stale.text, "it shows what is stored, too"
    too_long = {"version": "0", "text": "x" * 20_001}
    long = http.post(f"/studies/{study_id}/notes", data=too_long, headers=BROWSER)
    assert (long.status_code, form_of(long.text)) == (422, too_long)
    hidden = http.post(f"/studies/{study_id}/notes", data=mine | {"text": "a\u2028b"}, headers=BROWSER)
    assert (hidden.status_code, "direction of writing or breaks the line" in hidden.text) == (422, True)
    for wrong, missing in (({"text": "x"}, ["/version"]), ({"version": "1"}, ["/text"])):
        refused = http.post(f"/studies/{study_id}/notes", data=wrong)
        assert refused.status_code == 422
        assert [fault["pointer"] for fault in refused.json()["errors"]] == missing
    assert http.post(f"/studies/{study_id}/notes", data=form_of(stale.text)).status_code == 303
    old = http.get(f"/studies/{study_id}/notes?version=1", headers=BROWSER).text
    assert "This is version 1 of 2." in old
    assert form_of(old) == {"version": "2", "text": store.notes(study_id, version=1).text}
    assert f'href="/v1/studies/{study_id}/notes?version=1"' in old
    assert http.get(f"/studies/{study_id}/notes?version=9", headers=BROWSER).status_code == 404


def test_notes_run_nothing_and_load_nothing_from_elsewhere() -> None:
    html = str(user_html(HOSTILE, name="notes"))
    assert "<script" not in html
    assert "<img" not in html
    assert "javascript:" not in re.sub(r">[^<]*<", "><", html), "only as text"
    assert re.findall(r'<a href="([^"]*)"( rel="noopener nofollow")?', html) == [
        (address, ' rel="noopener nofollow"')
        for address in (
            "https://example.org/?q=%22x",
            "https://example.org",
            "https://elsewhere.example/p.png",
            "/suites/small",
        )
    ]
    assert "style=" not in html
    assert html.startswith("<h3>Title</h3>")
    assert re.findall(r'aria-label="([^"]*)"', html) == ["Table: notes", "Table: notes (2)"]


@pytest.mark.parametrize(
    "piece", ["[", "![", "*a _b ", "`" * 3, "> ", "- ", "<", "[a](", "|a", "&", "\\[x]:"]
)
def test_the_longest_notes_of_any_piece_are_rendered_soon(piece: str) -> None:
    text = (piece * MAX_CHARACTERS)[:MAX_CHARACTERS]
    began = time.thread_time()
    user_html(text, name=f"notes of {piece}")
    assert time.thread_time() - began < 3
