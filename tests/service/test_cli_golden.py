"""The wording of the command line and of reports, one whole output per kind, kept in `golden/`.

`tests/golden_text.py` says how to rewrite the files. Help texts are kept in docs/cli.md instead.
"""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from golden_text import assert_golden
from trained_studies import Trained
from typer.testing import Result

from studies.store import Store

__all__: list[str] = []

GOLDEN = Path(__file__).parent / "golden"


def _stable(text: str, *, study: str = "", url: str = "", folder: str = "") -> str:
    """Return an output with ids, ports, folders and times replaced, because they differ from run to run."""
    for given, shown in ((url, "http://127.0.0.1:8780"), (study, "STUDY_ID"), (folder, "FOLDER")):
        text = text.replace(given, shown) if given else text
    # An id has as many characters as its placeholder, so that columns keep their widths.
    text = re.sub(r"\b\d+ s ago", "0 s ago", text)
    text = re.sub(r"^(took +)\S.*$", r"\g<1>0.00 s", text, flags=re.MULTILINE)
    # The width of the frame around a usage error depends on the terminal.
    text = re.sub(r"[─╭╮╰╯│]+", "", text)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


@pytest.mark.parametrize("command", ["list", "show", "best", "trials", "verdict"])
def test_the_output_for_a_confirmed_study_matches_its_golden_file(
    command: str, run: Callable[..., Result], play: Callable[..., str], body: dict[str, Any], live: str
) -> None:
    study = play(body | {"name": "Digits"}, confirm=5)
    shown = run(command, *([] if command == "list" else [study])).stdout
    assert_golden(GOLDEN / f"cli-{command}.txt", _stable(shown, study=study, url=live))


@pytest.mark.parametrize("command", ["show", "trials", "verdict"])
def test_the_output_in_80_columns_matches_its_golden_file(
    command: str, run: Callable[..., Result], play: Callable[..., str], body: dict[str, Any], live: str
) -> None:
    study = play(body | {"name": "Digits"}, confirm=5)
    shown = run(command, study, columns=80).stdout
    assert_golden(GOLDEN / f"cli-{command}-80.txt", _stable(shown, study=study, url=live))


def test_errors_match_their_golden_file(
    run: Callable[..., Result], body: dict[str, Any], tmp_path: Path
) -> None:
    def submitted(name: str, text: str) -> tuple[str, ...]:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return ("submit", str(tmp_path / name))

    narrow = {"optimizer": "adamp", "space": {"lr": {"low": 0.1, "high": 0.01}}}
    commands = {
        "no such option": ("list", "--colour"),
        "no such command": ("sumbit",),
        "no such study": ("show", "zzzzzzzz"),
        "no such optimizer": ("optimizers", "adampp"),
        "no such file": ("submit", str(tmp_path / "none.yaml")),
        "not YAML": submitted("broken.yaml", "arms: [adamp\nworkload: digits-mlp\n"),
        "not a study": submitted("list.json", "[]"),
        "an empty study": submitted("empty.json", "{}"),
        "a misspelt optimizer": submitted("misspelt.json", json.dumps(body | {"arms": ["adampp"]})),
        "a range that is upside down": submitted("range.json", json.dumps(body | {"arms": [narrow]})),
        "no trials": submitted("none.json", json.dumps(body | {"budget": {"trials_per_arm": 0}})),
    }
    parts: list[str] = []
    for title, arguments in commands.items():
        result = run(*arguments)
        shown = _stable(result.stderr, folder=str(tmp_path))
        parts.append(f"# {title} (exit status {result.exit_code})\n{shown}")
    assert_golden(GOLDEN / "cli-errors.txt", "\n".join(parts))


@pytest.mark.parametrize(("form", "suffix"), [("markdown", "md"), ("latex", "tex")])
def test_the_report_of_a_confirmed_study_matches_its_golden_file(
    form: str,
    suffix: str,
    run: Callable[..., Result],
    play: Callable[..., str],
    body: dict[str, Any],
) -> None:
    study = play(body | {"name": "Digits", "budget": {"trials_per_arm": 5, "epochs": 2}}, confirm=5)
    shown = _stable(run("report", study, "--format", form).stdout, study=study)
    shown = re.sub(r"\d+ \w+ \d{4}, [\d:\\]+ UTC", "1 Jan 2026, 00:00:00 UTC", shown)
    assert_golden(GOLDEN / f"report.{suffix}", shown)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (("verdict",), "cli-verdict-paired.txt"),
        (("power",), "cli-power.txt"),
        (("report", "--format", "markdown"), "report-paired.md"),
        (("report", "--format", "latex"), "report-paired.tex"),
    ],
)
def test_what_is_shown_of_paired_trials_matches_its_golden_file(
    arguments: tuple[str, ...], name: str, run: Callable[..., Result], store: Store
) -> None:
    budget = {"trials_per_arm": 18, "epochs": 2}
    study = Trained(
        store,
        name="Digits",
        arms=["adamp", "adamw"],
        budget=budget,
        search={"paired": 16},
        confirmation={"seeds": 5},
        width=8,
    )
    study.train().confirm().close()
    shown = _stable(run(*arguments, study.id).stdout, study=study.id)
    shown = re.sub(r"\d+ \w+ \d{4}, [\d:\\]+ UTC", "1 Jan 2026, 00:00:00 UTC", shown)
    assert_golden(GOLDEN / name, shown)


def test_the_readme_of_a_bundle_matches_its_golden_file(
    run: Callable[..., Result], play: Callable[..., str], body: dict[str, Any], tmp_path: Path
) -> None:
    study = play(body | {"name": "Digits"}, confirm=5)
    run("export", study, "-o", str(tmp_path / "bundle.zip"))
    with zipfile.ZipFile(tmp_path / "bundle.zip") as archive:
        readme = archive.read("README.txt").decode()
    assert_golden(GOLDEN / "bundle-readme.txt", _stable(readme, study=study))
