"""Takes the pictures in docs/images: every page of a service, in both themes, as WebP files.

`screenshots.py [HOME]` starts a service and a dispatcher of its own, below HOME or in a temporary folder, and
trains the studies that the pages show, if HOME does not have them: a few minutes on four cores.
"""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import yaml
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from service.client import Client, ProblemError, ServiceUnreachable
from studies.states import StudyState

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
PORT = 8990
READY_S, TRAINED_S, SHOWN_S = 180, 1800, 60
DESK: Final[ViewportSize] = {"width": 1440, "height": 1000}
PHONE: Final[ViewportSize] = {"width": 390, "height": 844}
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
ON_PHONE = {"home", "study", "study-charts"}
SUITE = "small-nets"
NOTES = """\
The network has batch normalisation, so most of its weights are scale-invariant.

* Does AdamP gain from its projection here, or from the smaller weight decay?
* Next: the same arms with `"sampler": "tpe"` and twice the trials.
"""
# The plots in view are drawn, and every analysis is there.
IS_DRAWN = """() => {
  const isDrawn = (plot) => {
    const { top, bottom } = plot.getBoundingClientRect();
    return !plot.checkVisibility() || bottom < 0 || top > innerHeight || plot.querySelector(".main-svg");
  };
  const isPending = document.getElementById("pending") || /being analysed/.test(document.body.textContent);
  return !isPending && [...document.querySelectorAll(".plot")].every(isDrawn);
}"""


@dataclass(frozen=True)
class Shown:
    """A picture.

    Attributes:
        name: its file is NAME-light.webp or NAME-dark.webp.
        title: what it shows.
        path: the page.
        below: a selector of the element at the top of the picture; None for the top of the page.
    """

    name: str
    title: str
    path: str
    below: str | None = None


def main() -> None:
    """Take every picture."""
    if len(sys.argv) > 1:
        take_all(Path(sys.argv[1]).resolve())
        return
    with tempfile.TemporaryDirectory(prefix="tangent-screenshots-") as folder:
        take_all(Path(folder))


def take_all(home: Path) -> None:
    """Take every picture with a service below a home folder, and write the page that lists them."""
    IMAGES.mkdir(exist_ok=True)
    with running_service(home) as url:
        secret = new_token(home)
        with Client(url, token=secret) as client:
            pages = trained_pages(client)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            for theme in THEMES:
                take(browser, url, secret, pages, theme)
            browser.close()
    write_list(pages)


@contextmanager
def running_service(home: Path) -> Iterator[str]:
    """Run `tangent up` and yield its address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANGENT_")}
    # Pages name this folder where a workload lacks its data.
    environment["TANGENT_DATA"] = "/data"
    command = [sys.executable, "-m", "service", "up", "--home", str(home), "--port", str(PORT)]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "screenshots.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{PORT}"
        wait_until_ready(url)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def wait_until_ready(url: str) -> None:
    """Wait until a service responds and knows what its dispatcher can run."""
    deadline = time.monotonic() + READY_S
    with Client(url) as client:
        while True:
            try:
                client.readiness()
            except (ProblemError, ServiceUnreachable):
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return


def new_token(home: Path) -> str:
    """Return the secret of a new admin token; earlier tokens keep their names."""
    problem = ""
    for number in range(1, 100):
        name = "ada" if number == 1 else f"ada-{number}"
        command = [
            sys.executable,
            "-m",
            "service",
            "token",
            "create",
            name,
            "--role",
            "admin",
            "--home",
            str(home),
        ]
        made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if made.returncode == 0:
            return made.stdout.strip().splitlines()[-1].strip()
        problem = made.stderr
    raise SystemExit(f"no token could be created: {problem}")


def trained_pages(client: Client) -> list[Shown]:
    """Return the pages to show, after training what they show."""
    digits = trained(
        client,
        {
            "name": "Four optimizers on handwritten digits",
            "workload": "digits-cnn",
            "arms": ["adamp", "adamw", "sgdp", "sgd-nesterov"],
            "budget": {"trials_per_arm": 24, "epochs": 8},
            "tags": ["digits"],
        },
    )
    if not client.notes(digits).text:
        client.set_notes(digits, NOTES)
    small: dict[str, Any] = {
        "arms": ["adamp", "adamw", "sgd-nesterov"],
        "budget": {"trials_per_arm": 16, "epochs": 6},
        "suite": SUITE,
    }
    first, second = (
        trained(client, small | {"name": f"Three optimizers on {workload}", "workload": workload})
        for workload in ("digits-mlp", "digits-cnn")
    )
    again = trained(
        client,
        small
        | {
            "name": "Lion and AdamW on digits-mlp",
            "workload": "digits-mlp",
            "arms": ["lion", "adamw"],
            "suite": None,
        },
    )
    long = yaml.safe_load((ROOT / "examples" / "asha.yaml").read_text())
    long["budget"] = {"trials_per_arm": 729, "epochs": 27}
    long["name"] = "Four optimizers, 729 trials each"
    still = [study.id for study in client.every_study(state=StudyState.RUNNING) if study.name == long["name"]]
    running = still[0] if still else client.submit(long).id
    wait(lambda: client.study(running).progress.finished > 40, TRAINED_S)
    best, *others = sorted(
        (trial for trial in client.every_trial(digits) if trial.value is not None),
        key=lambda trial: -(trial.value or 0.0),
    )
    return [
        Shown("home", "The list of studies", "/"),
        Shown("study", "A study", f"/studies/{digits}"),
        Shown("study-search", "What its search found", f"/studies/{digits}", below="#search"),
        Shown(
            "study-charts",
            "How its results depend on the learning rate",
            f"/studies/{digits}",
            below="#sensitivity",
        ),
        Shown("study-training", "How its best configurations train", f"/studies/{digits}", below="#training"),
        Shown("study-trials", "Its trials", f"/studies/{digits}", below="#trials-title"),
        Shown("study-notes", "Its notes", f"/studies/{digits}", below="#notes"),
        Shown("running", "A running study", f"/studies/{running}"),
        Shown("trial", "A trial", f"/trials/{best.id}"),
        Shown("compare-studies", "Studies side by side", f"/compare?study={first}&study={again}"),
        Shown("compare-workloads", "Studies of several workloads", f"/compare?study={first}&study={second}"),
        Shown("compare-trials", "Trials side by side", f"/compare?trial={best.id}&trial={others[0].id}"),
        Shown("suites", "Suites", "/suites"),
        Shown("suite", "A suite", f"/suites/{SUITE}"),
        Shown("optimizers", "Optimizers", "/optimizers"),
        Shown("optimizer", "An optimizer", "/optimizers/adamp"),
        Shown("workloads", "Workloads", "/workloads"),
        Shown("workload", "A workload", "/workloads/digits-cnn"),
        Shown("new", "A new study", "/new?workload=digits-cnn"),
        Shown("delete", "Deleting a study", f"/studies/{again}/delete"),
        Shown("help", "The manual", "/help"),
        Shown("manual", "A document of the manual", "/help/statistics"),
        Shown("api", "The API", "/docs"),
        Shown("api-request", "A request of the API", "/docs#submit_study"),
        Shown("account", "An account", "/account"),
        Shown("login", "The login", "/login"),
        Shown("problem", "A problem", "/studies/zzzzzzzz"),
    ]


def trained(client: Client, body: dict[str, Any]) -> str:
    """Return the id of a completed study; train it unless the service has one of this name."""
    known = {study.name: study.id for study in client.every_study()}
    study = known.get(body["name"]) or client.submit(body).id
    print(f"{body['name']} ({study}) ...", flush=True)
    wait(lambda: client.study(study).state in ("completed", "failed", "cancelled"), TRAINED_S)
    if client.study(study).state != "completed":
        raise SystemExit(f"study {study} was not completed: {client.study(study).state_reason}")
    return study


def wait(is_done: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise SystemExit("the studies took too long to train")
        time.sleep(1)


def take(
    browser: Browser, url: str, secret: str, pages: list[Shown], theme: Literal["light", "dark"]
) -> None:
    """Take the pictures of one theme."""
    for size, chosen in ((DESK, pages), (PHONE, [each for each in pages if each.name in ON_PHONE])):
        context = browser.new_context(viewport=size, color_scheme=theme, timezone_id="UTC", locale="en-GB")
        origin = {"origin": url}
        context.request.post(f"{url}/login", form={"token": secret}, headers=origin)
        page = context.new_page()
        for shown in chosen:
            show(page, url, shown)
            name = shown.name if size is DESK else f"{shown.name}-phone"
            picture = Image.open(io.BytesIO(page.screenshot()))
            picture.save(IMAGES / f"{name}-{theme}.webp", quality=70, method=6)
            print(f"{name}-{theme}", flush=True)
        context.close()


def show(page: Page, url: str, shown: Shown) -> None:
    """Bring what a picture shows into view and wait until it is complete."""
    # The same address with another fragment would not be loaded again.
    page.goto("about:blank")
    page.goto(url + shown.path)
    if shown.below is not None:
        page.evaluate(f"document.querySelector({json.dumps(shown.below)}).scrollIntoView()")
    deadline = time.monotonic() + SHOWN_S
    while not page.evaluate(IS_DRAWN):
        if time.monotonic() > deadline:
            raise SystemExit(f"{shown.path} was not complete after {SHOWN_S} s")
        page.wait_for_timeout(200)
        if shown.below is not None:
            page.evaluate(f"document.querySelector({json.dumps(shown.below)}).scrollIntoView()")
    page.wait_for_timeout(300)


def write_list(pages: list[Shown]) -> None:
    """Write the document that shows every picture."""
    lines = ["# Pictures of the pages", "", "Taken by `scripts/screenshots`; do not edit.", ""]
    for shown in pages:
        names = [shown.name, *([f"{shown.name}-phone"] if shown.name in ON_PHONE else [])]
        lines += [f"## {shown.title}", ""]
        for name in names:
            lines += [
                f"![{shown.title}, light]({name}-light.webp)",
                f"![{shown.title}, dark]({name}-dark.webp)",
                "",
            ]
    (IMAGES / "README.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
