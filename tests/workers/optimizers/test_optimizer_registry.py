"""Building an optimizer from a card and a configuration, and adding optimizers from other packages."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_regression import build_model, train

from studies.recipe import recipe
from studies.space import Range
from workers.optimizers import build_optimizer, load_optimizers
from workers.optimizers.registry import check, parameter_groups

__all__: list[str] = []

ENTRIES = load_optimizers()

PLUGIN = """
from dataclasses import replace

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.space import Range
from workers.optimizers import OptimizerEntry
from workers.optimizers.registry import upstream

def entry(name):
    lr = Hyperparameter(
        name="lr", description="d", unit="u", default=0.1, search=Range(low=0.1, high=1.0),
        source="s", tuned=True, bounds=Bounds(low=0)
    )
    card = OptimizerCard(
        name=name, title="T", description="d", reference="r",
        import_line="from torch.optim import Rprop", constructor="Rprop", hyperparameters=(lr,)
    )
    return upstream(card, "torch.optim")

one = entry("rprop")
several = [entry("rprop-a"), entry("rprop-b")]
taken = entry("adamp")

smoothing = Hyperparameter(
    name="smoothing", description="d", unit="u", default=0.5, search=Range(low=0.1, high=1.0),
    source="s", tuned=True, bounds=Bounds(low=0)
)
smoothed = replace(
    one,
    card=one.card.model_copy(
        update={"name": "smoothed", "hyperparameters": (*one.card.hyperparameters, smoothing)}
    ),
)
wrong = 3
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Put a distribution with these entry points on the import path, as pip would."""
    module = f"plugin_{folder.name}"
    (folder / f"{module}.py").write_text(PLUGIN)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "\n".join(["[tangent.optimizers]", *(line.replace("plugin:", f"{module}:") for line in lines)])
    )
    monkeypatch.syspath_prepend(folder)


def test_a_package_adds_optimizers_by_entry_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "first = plugin:one", "second = plugin:several")
    entries = load_optimizers()
    assert set(entries) - set(ENTRIES) == {"rprop", "rprop-a", "rprop-b"}
    assert isinstance(
        build_optimizer(entries["rprop"], build_model(), {"lr": 0.2}, decay_1d=False), torch.optim.Rprop
    )


@pytest.mark.parametrize(
    "line", ["broken = plugin_that_is_not_there:one", "broken = plugin:missing", "broken = plugin:wrong"]
)
def test_a_broken_package_is_skipped_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    install(tmp_path, monkeypatch, line, "fine = plugin:one")
    assert set(load_optimizers()) - set(ENTRIES) == {"rprop"}
    assert "broken = plugin_" in caplog.text


def test_an_entry_point_cannot_replace_a_built_in_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    install(tmp_path, monkeypatch, "clash = plugin:taken")
    entries = load_optimizers()
    assert set(entries) == set(ENTRIES)
    assert entries["adamp"].card.title == "AdamP"
    assert "already has the name 'adamp'" in caplog.text


def test_listing_the_catalogue_does_not_wait_for_slow_imports() -> None:
    code = (
        "import sys, workers.optimizers as o; o.load_optimizers(); print('pytorch_optimizer' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_sgdp_rejects_a_decay_that_would_flip_weights() -> None:
    card = ENTRIES["sgdp"].card
    parameters = {**card.defaults, "lr": 1.0, "weight_decay": 0.5, "momentum": 0.9}
    message = (
        r"^sgdp needs lr \* weight_decay < 1 - momentum, got lr=1.0, weight_decay=0.5, "
        r"momentum=0.9: weight decay multiplies"
    )
    with pytest.raises(ValueError, match=message):
        check(card, parameters)


@pytest.mark.parametrize(
    ("name", "parameter", "value", "message"),
    [
        (
            "adamp",
            "nesterov",
            1,
            r"^adamp: expected nesterov to be False or True, got 1; its default is False$",
        ),
        ("adamp", "wd_ratio", 1.5, r"^adamp: expected wd_ratio in \[0, 1\], got 1.5; its default is 0.1$"),
        (
            "sgd-nesterov",
            "momentum",
            0.0,
            r"^sgd-nesterov: expected momentum in \(0, 1\), got 0; its default is 0.9$",
        ),
        (
            "lookahead-adamw",
            "k",
            2.5,
            r"^lookahead-adamw: expected a whole number for k, got 2.5; its default is 5$",
        ),
        (
            "adafactor",
            "beta2_decay",
            0.1,
            r"^adafactor: expected beta2_decay in \(-inf, 0\], got 0.1; its default is -0.8$",
        ),
        (
            "lion",
            "lr",
            "1e-3",
            r"^lion: expected a number for lr, got '1e-3'; write lr: 0.001; its default is 0.0001$",
        ),
    ],
)
def test_an_illegal_value_is_rejected_with_a_reason(
    name: str, parameter: str, value: float | str, message: str
) -> None:
    card = ENTRIES[name].card
    with pytest.raises(ValueError, match=message):
        check(card, {**card.defaults, parameter: value})


def test_the_card_and_not_json_decides_which_numbers_are_integers() -> None:
    entry = ENTRIES["lookahead-adamw"]
    build_optimizer(entry, build_model(), {**entry.card.defaults, "k": 6.0, "lr": 1}, decay_1d=True)


def test_python_code_leaves_out_what_the_constructor_does_not_accept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "smoothed = plugin:smoothed")
    code = recipe(load_optimizers()["smoothed"].card, {"lr": 0.2, "smoothing": 0.75})
    names: dict[str, Any] = {"model": build_model()}
    exec(code, names)
    assert names["optimizer"].param_groups[0]["lr"] == 0.2
    assert "\n# not arguments of Rprop: smoothing=0.75\n" in code


def test_a_frozen_parameter_is_skipped_and_a_frozen_model_rejected() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[0].requires_grad_(False)
    assert [p.shape for group in parameter_groups(model, spare_1d=True) for p in group["params"]] == [
        (1, 2),
        (1,),
    ]
    model.requires_grad_(False)
    with pytest.raises(ValueError, match="expected a model with trainable parameters, got a Sequential"):
        parameter_groups(model, spare_1d=True)


def test_parameters_are_exempt_from_decay_only_if_there_is_decay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, "first = plugin:one")
    optimizer = build_optimizer(load_optimizers()["rprop"], build_model(), {"lr": 0.2}, decay_1d=False)
    assert len(optimizer.param_groups) == 1
    assert "weight_decay" not in optimizer.param_groups[0]


GROUP_NUMBERS = [(name, number) for name, entry in ENTRIES.items() for number in entry.card.per_group]


@pytest.mark.parametrize(("name", "number"), GROUP_NUMBERS)
def test_a_group_of_all_parameters_trains_like_an_arm_with_its_number(name: str, number: str) -> None:
    card = ENTRIES[name].card
    # Everything that one number needs to have an effect.
    enabled = {"weight_decay": 0.1, "momentum": 0.5} if "weight_decay" in card.names else {}
    own = card.defaults | {each: value for each, value in enabled.items() if each in card.names}
    hyperparameter = card.hyperparameter(number)
    assert hyperparameter is not None
    dimension = hyperparameter.search
    assert isinstance(dimension, Range)
    value = hyperparameter.typed(dimension.low + (dimension.high - dimension.low) / 3)
    trajectories: list[Tensor] = []
    for parameters in (own | {number: value}, own | {f"groups.all.{number}": value}, own):
        model = build_model()
        groups = {"all": list(model.parameters())}
        optimizer = build_optimizer(ENTRIES[name], model, parameters, decay_1d=True, groups=groups)
        trajectories.append(train(model, optimizer, steps=6))
    alone, grouped, without = trajectories
    assert torch.equal(alone, grouped)
    assert not torch.equal(alone, without) or value == own[number]
