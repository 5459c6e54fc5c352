"""9-class ImageNet: the published classes and groups, and the accuracy over them."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from workers.workloads.imagenet9 import (
    CLASSES,
    IMAGENET9,
    bagnet18,
    class_images,
    grouped_images,
    unbiased_accuracy,
)

__all__: list[str] = []

FOLDERS = [folder for folders in CLASSES.values() for folder in folders]


def test_images_of_the_published_classes_are_found(tmp_path: Path) -> None:
    for folder in (FOLDERS[0], FOLDERS[-1], "n99999999"):
        (tmp_path / folder).mkdir()
        for number in (2, 1):
            (tmp_path / folder / f"{folder}_{number}.JPEG").touch()
    found = class_images(tmp_path)
    assert [(path.name, label) for path, label in found] == [
        *((f"n02085620_{number}.JPEG", 0) for number in (1, 2)),
        *((f"n02219486_{number}.JPEG", 8) for number in (1, 2)),
    ]
    assert len(FOLDERS) == len(set(FOLDERS)) == 42, "the classes of clovaai/rebias"


def test_groups_are_read_from_the_published_list(tmp_path: Path) -> None:
    listed = tmp_path / "9class_imagenet_val.csv"
    listed.write_text(
        "path,category,cluster1,cluster2,cluster3\n"
        "n01641577/ILSVRC2012_val_00001652.JPEG,frog,1,5,3\n"
        "n02085620/ILSVRC2012_val_00003748.JPEG,dog,0,8,4\n"
    )
    files, groups = grouped_images(tmp_path / "val", listed)
    assert list(files) == [
        (tmp_path / "val" / "n01641577" / "ILSVRC2012_val_00001652.JPEG", 2),
        (tmp_path / "val" / "n02085620" / "ILSVRC2012_val_00003748.JPEG", 0),
    ]
    assert groups.tolist() == [[1, 5, 3], [0, 8, 4]]


def test_the_unbiased_accuracy_is_a_mean_over_groups_of_five_or_more() -> None:
    # In the first grouping class 0 has groups of 10 and 5 images, in the second one of 11 and another of 4.
    labels = torch.zeros(15).long()
    groups = torch.stack([(torch.arange(15) >= 10).long(), (torch.arange(15) >= 11).long()], dim=1)
    right = torch.arange(15) >= 10
    assert unbiased_accuracy(right, labels, groups) == pytest.approx(((0 + 1) / 2 + 1 / 11) / 2)


def test_the_second_network_sees_little() -> None:
    """Its receptive field is 5 pixels: a convolution of 3x3, then one of 3x3 on its outputs."""
    torch.manual_seed(0)
    model = bagnet18().eval()
    body = nn.Sequential(*list(model.children())[:-2])
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    body(image)[0, :, 2, 2].sum().backward()
    assert image.grad is not None
    rows, columns = image.grad.abs().sum((0, 1)).nonzero(as_tuple=True)
    assert (rows.max() - rows.min() + 1, columns.max() - columns.min() + 1) == (5, 5)
    assert model(torch.rand(2, 3, 64, 64)).shape == (2, 512)


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    missing = IMAGENET9[0].missing() or ""
    assert "tangent-studies[vision]" in missing or str(tmp_path / "imagenet") in missing


CHECK = """
import sys, torch
from workers.workload_check import check_workload
from workers.workloads import builtin_workloads

torch.set_num_threads(1)
for each in check_workload(builtin_workloads()[sys.argv[1]], device=torch.device("cpu"), batch_size=4):
    print(each.status, each.check, each.sentence, flush=True)
"""


@pytest.mark.slow
def test_it_trains_on_ten_images(torchvision_python: Path, tmp_path: Path) -> None:
    names = [f"{folder}/{number}.JPEG" for folder in (FOLDERS[0], FOLDERS[-1]) for number in range(5)]
    draws = np.random.default_rng(0)
    for name in [
        f"{part}/{each}" for part in ("imagenet/train", "imagenet/val", "imagenet-a") for each in names
    ]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(tmp_path / name)
    for folder in ("imagenet-a/n01641577", "rebias"):
        (tmp_path / folder).mkdir()
    rows = [f"{name},animal,{n % 2},{n % 3},0" for n, name in enumerate(names)]
    text = "\n".join(["path,category,cluster1,cluster2,cluster3", *rows])
    (tmp_path / "rebias" / "9class_imagenet_val.csv").write_text(text)
    done = subprocess.run(
        [torchvision_python, "-c", CHECK, "imagenet9"],
        env=os.environ | {"TANGENT_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ok resuming" in done.stdout
    assert "error" not in done.stdout
