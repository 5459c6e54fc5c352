"""Kept files are listed and downloaded: whole, in ranges, resumed, and never from another place."""

import base64
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from catalogs import catalog
from simulated_dispatch import SimulatedDispatcher, report
from typer.testing import Result

from service.artifact_files import media_type
from service.client import Client
from service.downloads import DownloadFailed
from studies.artifacts import NewArtifact
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

CONTENT = bytes(range(256)) * 8000
Run = Callable[..., Result]


@dataclass(frozen=True)
class Kept:
    """A closed study that keeps the weights of its best, and a file that was too large."""

    study_id: str
    trial_id: str
    artifact_id: str
    file: Path

    @property
    def content(self) -> str:
        """The path of the file's content."""
        return f"/v1/artifacts/{self.artifact_id}/content"


@pytest.fixture
def kept(store: Store, tmp_path: Path) -> Kept:
    """Return a study with weights in a folder."""
    store.announce(catalog(), dispatcher="here")
    run = SimulatedDispatcher(store).run(keep={"weights": "best-and-defaults"}, confirmation={"seeds": 1})
    run.complete(run.begin(0, 1)[1], 0.9)
    trials = run.confirm(1, seeds=1)[0], run.confirm(0, seeds=1, first=1)[0]
    file = tmp_path / "kept" / ("a" * 32)
    file.parent.mkdir()
    file.write_bytes(CONTENT)
    artifacts = (
        NewArtifact(
            id=file.name,
            kind="weights",
            name="adamp-best.pt",
            size=len(CONTENT),
            sha256=hashlib.sha256(CONTENT).hexdigest(),
            url=str(file),
            weights_of="best",
        ),
        NewArtifact(
            id="b" * 32,
            kind="weights",
            name="adamp-defaults.pt",
            size=10**10,
            weights_of="defaults",
            reason="too large",
        ),
    )
    run.writer.start(trials)
    run.writer.record(
        [
            report(trial, run.study.epochs, ended="completed", value=0.5, artifacts=(artifact,))
            for trial, artifact in zip(trials, artifacts, strict=True)
        ]
    )
    run.writer.close(StudyMove.FINISH)
    return Kept(run.claim.study_id, trials[0].id, file.name, file)


def test_a_kept_file_is_sent_with_its_checksum_and_cannot_run_in_a_browser(
    http: httpx.Client, kept: Kept
) -> None:
    answer = http.get(kept.content)
    digest = hashlib.sha256(CONTENT)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["etag"] == f'"{digest.hexdigest()}"'
    assert answer.headers["repr-digest"] == f"sha-256=:{base64.b64encode(digest.digest()).decode()}:"
    assert answer.headers["content-disposition"].startswith(
        f'attachment; filename="{kept.study_id}-adamp-best.pt"'
    )
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-type"] == "application/octet-stream"
    assert http.head(kept.content).headers["content-length"] == str(len(CONTENT))
    again = http.get(kept.content, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", CONTENT[:1]),
        ("bytes=5-", CONTENT[5:]),
        ("bytes=-7", CONTENT[-7:]),
        ("bytes=100-99999999999", CONTENT[100:]),
    ],
)
def test_one_range_is_sent_as_requested(http: httpx.Client, kept: Kept, header: str, expected: bytes) -> None:
    answer = http.get(kept.content, headers={"range": header})
    assert (answer.status_code, answer.content) == (206, expected)
    start = len(CONTENT) - len(expected) if len(expected) > 1 else 0
    end = start + len(expected) - 1
    assert answer.headers["content-range"] == f"bytes {start}-{end}/{len(CONTENT)}"


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "bytes=-", "bytes=5-2", "lines=1-2", "bytes=x-", ""])
def test_a_range_in_another_form_is_ignored(http: httpx.Client, kept: Kept, header: str) -> None:
    assert http.get(kept.content, headers={"range": header}).status_code == 200


@pytest.mark.parametrize("header", [f"bytes={len(CONTENT)}-", "bytes=-0", "bytes=9999999999999999999-"])
def test_a_range_outside_the_file_is_refused(http: httpx.Client, kept: Kept, header: str) -> None:
    answer = http.get(kept.content, headers={"range": header})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{len(CONTENT)}"


def test_a_range_of_another_version_of_the_file_is_not_sent(http: httpx.Client, kept: Kept) -> None:
    answer = http.get(kept.content, headers={"range": "bytes=5-", "if-range": '"another"'})
    assert (answer.status_code, answer.content) == (200, CONTENT)


def test_files_are_listed_for_a_study_and_a_trial_with_those_that_were_not_kept(
    http: httpx.Client, kept: Kept
) -> None:
    found = http.get(f"/v1/studies/{kept.study_id}/artifacts").json()["items"]
    assert [(each["name"], each["is_kept"], each["reason"]) for each in found] == [
        ("adamp-best.pt", True, None),
        ("adamp-defaults.pt", False, "too large"),
    ]
    assert "url" not in found[0]
    of_trial = http.get(f"/v1/trials/{kept.trial_id}/artifacts").json()["items"]
    assert of_trial == found[:1]
    assert http.get(f"/v1/artifacts/{'b' * 32}/content").status_code == 404


@pytest.mark.parametrize(
    "id_", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd", "c" * 32, "A" * 32, "a" * 31]
)
def test_no_other_file_can_be_named(http: httpx.Client, kept: Kept, id_: str) -> None:
    del kept
    assert http.get(f"/v1/artifacts/{id_}/content").status_code in {404, 422}


def test_a_file_that_was_changed_deleted_or_replaced_by_a_link_is_not_sent(
    http: httpx.Client, kept: Kept, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(CONTENT)
    kept.file.unlink()
    assert http.get(kept.content).json()["type"].endswith("artifact-unavailable")
    kept.file.symlink_to(secret)
    assert http.get(kept.content).status_code == 503
    kept.file.unlink()
    os.mkfifo(kept.file)
    assert http.get(kept.content).status_code == 503
    kept.file.unlink()
    kept.file.write_bytes(CONTENT[:-1])
    assert http.get(kept.content).status_code == 503


def test_the_pages_link_to_what_is_kept(http: httpx.Client, kept: Kept) -> None:
    study = http.get(f"/studies/{kept.study_id}", headers={"accept": "text/html"}).text
    assert f'href="{kept.content}"' in study
    trial = http.get(f"/trials/{kept.trial_id}", headers={"accept": "text/html"}).text
    assert f'href="{kept.content}"' in trial
    assert hashlib.sha256(CONTENT).hexdigest() in trial


def test_the_command_downloads_the_best_weights_once(run: Run, kept: Kept, tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    result = run("weights", kept.study_id, "-o", str(path))
    assert result.exit_code == 0
    assert hashlib.sha256(CONTENT).hexdigest() in result.stdout
    assert path.read_bytes() == CONTENT
    assert run("weights", kept.study_id, "-o", str(path)).exit_code == 2, "it overwrites nothing"
    assert run("weights", kept.study_id, "adamp", "-o", str(path), "--force").exit_code == 0
    assert run("weights", kept.study_id, "nothing", "-o", f"{path}.2").exit_code == 2
    too_large = run("weights", kept.study_id, "adamp", "--defaults", "-o", f"{path}.2")
    assert (too_large.exit_code, "too large" in too_large.stderr) == (2, True)
    assert not (tmp_path / "best.pt.2").exists()


def test_an_interrupted_download_continues_and_a_damaged_one_fails(
    live: str, kept: Kept, tmp_path: Path
) -> None:
    target = tmp_path / "best.pt"
    digest = hashlib.sha256(CONTENT).hexdigest()
    part = tmp_path / f".best.pt.{digest[:16]}.part"
    with Client(live) as client:
        (artifact,) = client.trial_artifacts(kept.trial_id)
        part.write_bytes(CONTENT[:1000])
        seen: list[int] = []
        client.download(artifact, target, on_progress=seen.append)
        assert target.read_bytes() == CONTENT
        assert seen[0] > 1000
        part.write_bytes(b"x" * 1000)
        with pytest.raises(DownloadFailed):
            client.download(artifact, tmp_path / "best.pt")
        assert not part.exists()
        assert target.read_bytes() == CONTENT, "the complete file stays"


def test_only_pictures_and_text_have_a_type_of_their_own() -> None:
    assert [media_type(name) for name in ("a.PNG", "runs/b.txt", "c.svg", "d.html", "e.pt", "f")] == [
        "image/png",
        "text/plain; charset=utf-8",
        *["application/octet-stream"] * 4,
    ]
