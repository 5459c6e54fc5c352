"""ImageNet's workloads train on a copy of ten images, with torchvision in an environment of its own."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workers.workloads import builtin_workloads

__all__: list[str] = []

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
NAMES = [name for name in builtin_workloads() if name.startswith("imagenet-")]
# Prints the status of every check, and the shape of a batch with each augmentation. Two processes share one.
CHECK = """
import copy, json, sys, torch
from workers.workload_check import check_workload
from workers.workloads import builtin_workloads, configured
torch.set_num_threads(1)
workload = builtin_workloads()[sys.argv[1]]
missing = workload.missing()
assert missing is None, missing
found = check_workload(workload, device=torch.device("cpu"), batch_size=4)
results = [(each.check, each.status, each.sentence) for each in found]
shapes = []
for policy in ("none", "autoaugment", "randaugment", "trivialaugment"):
    chosen = configured(workload, {"workload.augmentation": policy, "workload.stochastic_depth": 0.5})
    images, targets = next(iter(chosen.train_batches(batch_size=4, epoch=1)))
    shapes.append([list(images.shape), list(targets.shape)])
chosen.training_step(chosen.build_model(), (images, targets)).backward()
def classes(rank, world_size):
    part = copy.copy(workload)
    vars(part).update(rank=rank, world_size=world_size)
    torch.manual_seed(0)
    return next(iter(part.train_batches(batch_size=4, epoch=1)))[1].tolist()
assert sorted(classes(0, 2) + classes(1, 2)) == sorted(classes(0, 1))
print(json.dumps({"results": results, "shapes": shapes}))
"""


def check(python: Path, name: str, data: Path) -> list[str]:
    """Check a workload in the environment with torchvision, and return its errors."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TANGENT_DATA": str(data)}
    done = subprocess.run(
        [str(python), "-c", CHECK, name], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["shapes"] == [[[4, 3, 224, 224], [4]]] * 4
    assert found["results"]
    return [sentence for _, status, sentence in found["results"] if status == "error"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of ImageNet with ten images for training and four for validation, as folders."""
    data, numbers = tmp_path_factory.mktemp("folders"), np.random.default_rng(0)
    for part, images in (("train", 10), ("val", 4)):
        for number in range(images):
            file = data / "imagenet" / part / f"n{number % 2:08d}" / f"{part}_{number}.JPEG"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(numbers.integers(256, size=(60, 80, 3)).astype(np.uint8)).save(file)
    return data


@pytest.mark.parametrize("name", NAMES)
def test_each_model_trains_on_folders_of_images(name: str, torchvision_python: Path, folders: Path) -> None:
    assert check(torchvision_python, name, folders) == []


def test_images_that_hugging_faces_datasets_saved_are_read(
    torchvision_python: Path, folders: Path, tmp_path: Path
) -> None:
    save = (
        "import sys; from datasets import DatasetDict, load_dataset\n"
        "saved = load_dataset('imagefolder', data_dir=sys.argv[1])\n"
        "saved.save_to_disk(sys.argv[2])\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    subprocess.run(
        [str(torchvision_python), "-c", save, str(folders / "imagenet"), str(tmp_path / "imagenet")],
        check=True,
        env=environment,
    )
    assert check(torchvision_python, "imagenet-resnet18", tmp_path) == []
