"""Documentation and examples are up to date with the code."""

import importlib.util
import json
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import BaseModel

from service.cli.reference import reference
from service.documents import read_document
from studies.budget import Budget
from studies.catalog import Catalog
from studies.extension import Extension
from studies.objective import Objective
from studies.pruner import Asha, Hyperband, Median
from studies.resolve import resolve
from studies.resources import Resources
from studies.spec import ArmSpec, Confirmation, StudySpec, Training, parse_spec

__all__: list[str] = []

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path.name for path in (ROOT / "examples").iterdir() if path.suffix in {".json", ".yaml"})


def test_the_command_line_reference_is_up_to_date() -> None:
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == reference(), "run scripts/cli-docs"


def test_the_reference_does_not_depend_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = reference()
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TANGENT_URL", "http://elsewhere")
    assert reference() == expected


def test_every_command_that_ends_by_itself_offers_json() -> None:
    sections = re.findall(r"^## (.*?)\n\n```text\n(.*?)```", reference(), flags=re.MULTILINE | re.DOTALL)
    commands = {name: text for name, text in sections if "COMMAND [ARGS]" not in text}
    assert len(commands) > 25
    without = {name for name, text in commands.items() if "--json" not in text}
    assert without == {"tangent up", "tangent serve", "tangent worker join"}


@pytest.mark.parametrize(
    "model",
    [
        StudySpec,
        ArmSpec,
        Budget,
        Confirmation,
        Extension,
        Asha,
        Hyperband,
        Median,
        Objective,
        Training,
        Resources,
    ],
)
def test_every_field_of_a_study_is_documented(model: type[BaseModel]) -> None:
    described = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    missing = [name for name in model.model_fields if f"`{name}`" not in described]
    assert not missing, f"docs/study.md does not describe {missing} of {model.__name__}"


@pytest.fixture(scope="module")
def announced() -> Catalog:
    """The catalogue of this installation."""
    from workers.optimizers import load_optimizers
    from workers.workloads import load_workloads

    optimizers = {name: entry.card for name, entry in load_optimizers().items()}
    return Catalog(
        optimizers=optimizers, workloads={name: workload.card for name, workload in load_workloads().items()}
    )


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_can_be_run(name: str, announced: Catalog) -> None:
    assert resolve(parse_spec(read_document(str(ROOT / "examples" / name))), announced).arms


@pytest.mark.parametrize("document", ["README.md", "docs/study.md"])
def test_every_study_in_the_documents_can_be_run(document: str, announced: Catalog, tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```(yaml|json)\n(.*?)^```",
        (ROOT / document).read_text(encoding="utf-8"),
        flags=re.DOTALL | re.MULTILINE,
    )
    studies = [(kind, text) for kind, text in blocks if "workload" in text]
    assert studies
    for kind, text in studies:
        path = tmp_path / f"study.{kind}"
        path.write_text(text, encoding="utf-8")
        resolve(parse_spec(read_document(str(path))), announced)


def test_the_demo_searches_the_hyperparameters_specific_to_adamp() -> None:
    demo = json.loads((ROOT / "examples" / "digits.json").read_text())
    spaces = {arm["optimizer"]: set(arm["space"]) for arm in demo["arms"]}
    for name in ("adamp", "sgdp"):
        assert spaces[name] >= {"lr", "weight_decay", "delta", "wd_ratio", "nesterov"}


@pytest.fixture(scope="module")
def own() -> ModuleType:
    """The example package that extends the catalogue."""
    spec = importlib.util.spec_from_file_location("tangent_own", ROOT / "examples" / "own" / "tangent_own.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_package_registers_its_cards_under_their_names(own: ModuleType) -> None:
    groups = tomllib.loads((ROOT / "examples" / "own" / "pyproject.toml").read_text())["project"][
        "entry-points"
    ]
    for group in ("tangent.optimizers", "tangent.workloads"):
        for name, value in groups[group].items():
            assert getattr(own, value.partition(":")[2]).card.name == name


def test_the_example_optimizer_trains_the_example_workload(own: ModuleType) -> None:
    import torch

    from workers.optimizers import build_optimizer

    torch.manual_seed(0)
    workload = own.TwoMoons()
    data = workload.load_data(torch.device("cpu"))
    model = workload.build_model()
    assert sum(weight.numel() for weight in model.parameters()) == workload.card.parameters
    optimizer = build_optimizer(own.SIGNUM, model, own.SIGNUM.card.defaults | {"lr": 0.01}, decay_1d=True)
    for _ in range(100):
        optimizer.zero_grad()
        workload.loss(model(data.train.inputs), data.train.targets).backward()
        optimizer.step()
    right = workload.metric_sum(model(data.validation.inputs), data.validation.targets).item()
    assert right / len(data.validation) > 0.9


@pytest.mark.parametrize("name", ["TwoMoons", "AugmentedMoons"])
def test_the_example_workloads_pass_the_check(own: ModuleType, name: str) -> None:
    import torch

    from workers.workload_check import check_workload

    results = check_workload(getattr(own, name)(), device=torch.device("cpu"))
    assert [result.sentence for result in results if result.status == "error"] == []
