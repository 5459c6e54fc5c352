"""What a pack reports about a mistake in its workload: what to change, and the user's own frames."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from studies.space import Parameters
from studies.training_settings import TrainingSettings
from studies.trials import CardDifference
from workers.pack_protocol import EpochReport, Member, Pack
from workers.trainable import PackTrainable
from workers.workload_errors import WorkloadFault
from workers.workloads.digits import DigitsMlp

__all__: list[str] = []

PLUGIN = Path(__file__).parents[1] / "plugin"
ADAMW: Parameters = {"lr": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01}


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the package with faulty workloads."""
    monkeypatch.syspath_prepend(str(PLUGIN))


def fault_of(workload: str) -> WorkloadFault:
    """Return the error that ends a pack of the workload."""
    return WorkloadFault(**json.loads(first_epoch(workload)["fault"]))


def first_epoch(workload: str, *, width: int | None = 1) -> dict[str, Any]:
    """Train one epoch of a pack of two, and return what its worker reports."""
    pack = Pack(
        pack_id="p",
        workload=workload,
        optimizer="adamw",
        members=tuple(Member(trial_id=f"s.adamw.{n}", attempt=1, parameters=ADAMW, seed=3) for n in range(2)),
        from_epoch=0,
        to_epoch=4,
        epochs=4,
        training=TrainingSettings(batch_size=16),
        maximize=False,
        width=width,
    )
    return PackTrainable({"pack": pack.model_dump_json(), "cpus": 1, "gpus": 0}).step()


@pytest.mark.parametrize(
    ("workload", "function", "is_for_all", "mistake"),
    [
        ("without-file", "load_data", True, r"FileNotFoundError: .*points\.csv.*make this file available on"),
        ("file-in-loss", "loss", True, r"FileNotFoundError: .*weights\.csv"),
        ("on-wrong-device", "load_data", True, r"return tensors on cpu, got the inputs .* on meta; .*\.to\("),
        ("vector-loss", "loss", True, r"return a scalar tensor, got a tensor of shape \[16\]; .*\.mean\(\)"),
        ("constant-loss", "loss", True, r"to depend on the parameters, .*\.detach\(\)"),
        ("number-metric", "metric_sum", True, r"return a scalar tensor, got a float; .*\.sum\(\)"),
        ("mixed-devices", "loss", False, r"expected device cpu.*device=inputs\.device"),
        ("broken", "loss", False, r"RuntimeError: the third layer has no weights"),
    ],
)
def test_an_error_names_the_workloads_function_and_what_to_change(
    workload: str, function: str, is_for_all: bool, mistake: str
) -> None:
    fault = fault_of(workload)
    assert fault.is_for_all is is_for_all
    assert (fault.unfit_machine is not None) is ("FileNotFound" in mistake)
    assert re.search(rf"\b{function} of workload '{workload}'.*{mistake}", fault.reason)
    assert re.search(r"\(tangent_plugin\.py, line \d+\)$", fault.reason)
    files = re.findall(r'File "(.+?)", line', fault.traceback)
    assert set(files) == {str(PLUGIN / "tangent_plugin.py")}, "only the user's frames"


@pytest.mark.parametrize("answer", [1 / 3, PermissionError("/data")])
def test_a_workload_that_cannot_tell_what_is_missing_is_a_fault_of_the_machine(
    answer: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_self: object) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(DigitsMlp, "missing", missing)
    fault = fault_of("digits-mlp")
    assert fault.unfit_machine is not None
    assert fault.is_for_all
    assert re.search("0.333|PermissionError: /data", fault.reason)


def test_a_traceback_has_all_frames_of_the_user() -> None:
    fault = fault_of("deep-error")
    # Python itself folds equal frames in a row.
    assert re.search(r"in loss\n", fault.traceback)
    assert "[Previous line repeated 5 more times]" in fault.traceback
    assert fault.traceback.endswith("KeyError: 'weights'")


def test_data_that_differs_from_the_card_comes_with_a_packs_first_report() -> None:
    report = EpochReport.model_validate_json(first_epoch("wrong-card")["report"])
    assert report.card_differences == (
        CardDifference(kind="examples", split="train", expected=64, found=48),
        CardDifference(kind="overlap", split="test", other="train", expected=16, found=16),
    )
    assert EpochReport.model_validate_json(first_epoch("plane")["report"]).card_differences == ()


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize(
    ("workload", "cause"), [("nan-metric", "metric_sum"), ("nan-data", "check the data")]
)
def test_nan_that_no_learning_rate_explains_is_a_fault_of_the_workload(
    width: int, workload: str, cause: str
) -> None:
    report = EpochReport.model_validate_json(first_epoch(workload, width=width)["report"])
    for member in report.members:
        assert member.outcome is not None
        assert (member.outcome.state, member.outcome.value) == ("failed", None)
        assert cause in str(member.outcome.reason)
        assert "lr" not in str(member.outcome.reason)
