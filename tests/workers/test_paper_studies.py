"""The studies of `examples/paper` and `examples/paper-small` are valid, and cover their benchmarks."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.documents import read_document
from studies.catalog import Catalog
from studies.errors import SpecInvalid
from studies.resolve import resolve
from studies.spec import StudySpec, parse_spec
from workers.catalog import installed_catalog

__all__: list[str] = []

EXAMPLES = Path(__file__).parents[2] / "examples"
PAPER = sorted((EXAMPLES / "paper").glob("*.yaml"))
SMALL = sorted((EXAMPLES / "paper-small").glob("*.yaml"))


def study_of(file: Path) -> StudySpec:
    return parse_spec(read_document(str(file)))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalog]:
    """The catalogue on a machine without any data."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANGENT_DATA", str(tmp_path_factory.mktemp("data")))
        yield installed_catalog()


@pytest.fixture(scope="module")
def complete(bare: Catalog) -> Catalog:
    """The catalogue on a machine that lacks nothing."""
    cards = {name: card.model_copy(update={"missing": ""}) for name, card in bare.workloads.items()}
    return bare.model_copy(update={"workloads": cards})


@pytest.mark.parametrize("file", PAPER, ids=lambda file: file.stem)
def test_a_study_of_the_paper_is_valid_and_lacks_only_the_data(
    file: Path, bare: Catalog, complete: Catalog
) -> None:
    spec = study_of(file)
    assert f"{file.stem}-".startswith(f"{spec.workload}-")
    assert {arm.trials for arm in resolve(spec, complete).arms} == {1}
    with pytest.raises(SpecInvalid) as refused:
        resolve(spec, bare)
    assert [problem.pointer for problem in refused.value.problems] == ["/workload"]


def test_every_published_result_has_an_arm(complete: Catalog) -> None:
    arms = {spec.workload: {arm.optimizer for arm in spec.arms} for spec in map(study_of, PAPER)}
    for card in complete.workloads.values():
        if card.published:
            assert {result.optimizer for result in card.published} <= arms[card.name], card.name


def test_arms_of_a_paper_study_differ_in_the_optimizer_alone() -> None:
    """A verdict ranks all arms of a study, so two data sets or two training settings need two studies."""
    of_suites: dict[str | None, set[tuple[str, ...]]] = {}
    settings: Counter[str] = Counter()
    for spec in map(study_of, PAPER):
        optimizers = tuple(arm.optimizer for arm in spec.arms)
        assert len(set(optimizers)) == len(optimizers), spec.name
        names = {name for arm in spec.arms for name in arm.space}
        assert not {name for name in names if name.startswith(("workload.", "training."))}, spec.name
        of_suites.setdefault(spec.suite, set()).add(optimizers)
        settings[f"{spec.workload} {spec.space}"] += 1
    assert None not in of_suites
    assert {len(arms) for arms in of_suites.values()} == {1}
    assert set(settings.values()) == {1}


@pytest.mark.parametrize("file", SMALL, ids=lambda file: file.stem)
def test_a_small_study_is_paired_and_compares_the_same_arms_as_its_suite(
    file: Path, complete: Catalog
) -> None:
    spec = study_of(file)
    resolve(spec, complete)
    assert spec.search.paired == 8
    arms = {
        "paper-small": ["sgd", "sgdp", "adam", "adamw", "adamp"],
        "paper-small-delta": ["adamp", "adamp-tuned", "sgdp", "sgdp-tuned"],
    }
    assert spec.suite is not None
    assert [arm.name for arm in spec.arms] == arms[spec.suite]
