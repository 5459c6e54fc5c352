"""Retrieval: recall@1 as the library has it, batches for triplets, and each data set's published lists."""

import math
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torch import nn
from torch.nn import functional

from workers.workload_check import check_workload
from workers.workloads import LoopWorkload, builtin_workloads, configured
from workers.workloads.retrieval import RETRIEVAL, Embedder, Retrieval, recall_at_1
from workers.workloads.retrieval_benchmarks import RETRIEVAL_BENCHMARKS, RetrievalBenchmark

__all__: list[str] = []

CPU = torch.device("cpu")
BENCHMARKS = {workload.card.name: workload for workload in RETRIEVAL_BENCHMARKS}
SMALL = {workload.card.name: workload for workload in RETRIEVAL}


def test_recall_is_the_precision_at_one_of_the_library() -> None:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    torch.manual_seed(0)
    found, labels = functional.normalize(torch.randn(1500, 3)), torch.randint(4, (1500,))
    gallery, classes = functional.normalize(torch.randn(200, 3)), torch.randint(4, (200,))
    library = AccuracyCalculator(include=("precision_at_1",), k=1, knn_func=CustomKNN(CosineSimilarity()))
    among_themselves = library.get_accuracy(found, labels)["precision_at_1"]
    in_gallery = library.get_accuracy(found, labels, gallery, classes)["precision_at_1"]
    assert recall_at_1(found, labels) == pytest.approx(among_themselves)
    assert recall_at_1(found, labels, gallery=(gallery, classes)) == pytest.approx(in_gallery)


def test_recall_under_autocast_is_that_of_float32() -> None:
    torch.manual_seed(0)
    body = nn.Linear(4, 8)
    nn.init.ones_(body.bias)
    model, images, labels = Embedder(body, nn.Identity()), 0.1 * torch.randn(200, 4), torch.arange(200) // 2
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(images)
        recall = recall_at_1(found, labels)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(200))
    assert recall == recall_at_1(found, labels)
    # All cosines are near 1, where bfloat16 has steps of 0.004.
    assert (found @ found.T).min() > 0.8


def test_a_network_without_finite_embeddings_has_diverged() -> None:
    workload = SMALL["digits-retrieval"]
    model = Embedder(nn.Sequential(nn.Flatten(), nn.Linear(64, 8)), nn.Identity())
    assert set(workload.evaluate(model, "test", device=CPU)) == {"recall@1"}
    nn.init.constant_(model.body[1].bias, math.nan)  # pyright: ignore[reportIndexIssue, reportArgumentType]
    found = workload.evaluate(model, "test", device=CPU)
    assert [math.isnan(found[name]) for name in ("recall@1", "loss")] == [True, True]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", SMALL)
def test_no_class_is_in_two_splits(name: str) -> None:
    workload = SMALL[name]
    splits = [workload.query_images("validation"), workload.query_images("test")]
    sizes = [len(each.labels) for each in (workload.train_images(), *splits)]
    assert dict(zip(("train", "validation", "test"), sizes, strict=True)) == workload.card.examples
    seen = [
        {image.numpy().tobytes() for image, _ in each.images} for each in (workload.train_images(), *splits)
    ]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]
    assert workload.train_images().labels.unique().tolist() == [0, 1, 2, 3, 4]


def test_a_batch_of_triplets_has_as_many_images_of_each_class() -> None:
    workload = configured(SMALL["digits-retrieval"], {"workload.loss": "triplet"})
    torch.manual_seed(0)
    batches = list(workload.train_batches(batch_size=24, epoch=1))
    assert len(batches) == workload.steps_per_epoch(24) == 37
    for images, labels in batches:
        assert (images.shape, sorted(labels.bincount().tolist())[-3:]) == ((24, 1, 8, 8), [8, 8, 8])
    with pytest.raises(ValueError, match=r"multiple of 8, .* from 16 to 40, got 48"):
        list(workload.train_batches(batch_size=48, epoch=1))


def test_proxies_are_a_group_of_their_own() -> None:
    for loss, count in (("proxy-anchor", 1), ("triplet", 0)):
        workload = configured(SMALL["digits-retrieval"], {"workload.loss": loss})
        model = workload.build_model()
        assert len(workload.parameter_groups(model)["proxies"]) == count
        embeddings = model(torch.rand(2, 1, 8, 8))
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(2))


def cub(folder: Path) -> list[str]:
    """Write the lists of 200 birds with two images each."""
    names = [f"{label:03d}.Bird/Bird_{number}.jpg" for label in range(1, 201) for number in (1, 2)]
    lines = [f"{number} {name}" for number, name in enumerate(names, 1)]
    (folder / "images.txt").write_text("\n".join(lines))
    labels = [f"{number} {1 + (number - 1) // 2}" for number in range(1, 401)]
    (folder / "image_class_labels.txt").write_text("\n".join(labels) + "\n")
    return [f"images/{name}" for name in names]


def cars(folder: Path) -> list[str]:
    """Write the annotations of 196 cars with two images each."""
    names = [f"car_ims/{number:06d}.jpg" for number in range(1, 393)]
    fields = ("relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test")
    rows = np.zeros((1, 392), dtype=[(field, object) for field in fields])
    for number, name in enumerate(names):
        rows[0, number] = (name, 1, 1, 9, 9, 1 + number // 2, 0)
    savemat(folder / "cars_annos.mat", {"annotations": rows, "class_names": ["car"]})
    return names


def clothes(folder: Path) -> list[str]:
    """Write the partition of ten pieces of clothing for training and two for the test."""
    items = [(f"img/WOMEN/Tees/id_{n // 2:08d}/0{n % 2}_1_front.jpg", n // 2) for n in range(24)]
    parts = ["train"] * 20 + ["query", "gallery"] * 2
    (folder / "Eval").mkdir()
    (folder / "Eval" / "list_eval_partition.txt").write_text(
        "24\nimage_name item_id evaluation_status\n"
        + "".join(
            f"{path}    id_{item:08d} {part}\n" for (path, item), part in zip(items, parts, strict=True)
        )
    )
    return [f"Img/{path}" for path, _ in items]


def products(folder: Path) -> list[str]:
    """Write the lists of ten products for training and two for the test."""
    names = [f"bicycle_final/{100 + n // 2}_{n % 2}.JPG" for n in range(24)]
    lines = [f"{n + 1} {1 + n // 2} 1 {name}" for n, name in enumerate(names)]
    for split, own in (("train", lines[:20]), ("test", lines[20:])):
        (folder / f"Ebay_{split}.txt").write_text("image_id class_id super_class_id path\n" + "\n".join(own))
    return names


LAYOUTS = {
    "cub-retrieval": (cub, 200, 200, 0),
    "cars196-retrieval": (cars, 196, 196, 0),
    "inshop-retrieval": (clothes, 20, 2, 2),
    "sop-retrieval": (products, 20, 4, 0),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_published_lists_are_read(name: str, tmp_path: Path) -> None:
    write, train, test, gallery = LAYOUTS[name]
    names = write(tmp_path)
    found = BENCHMARKS[name].read(tmp_path)
    files = [*found.train, *found.test, *(found.gallery or [])]
    assert (len(found.train), len(found.test), len(found.gallery or [])) == (train, test, gallery)
    assert {path for path, _ in files} == {tmp_path / each for each in names}
    assert not {label for _, label in found.train} & {label for _, label in found.test}


def errors(workload: LoopWorkload) -> list[str]:
    return [
        f"{each.check}: {each.sentence}"
        for each in check_workload(workload, device=CPU)
        if each.status in ("error", "warning") and each.check != "card: epoch_s"
    ]


@pytest.mark.parametrize("name", [*SMALL])
def test_small_workloads_have_no_errors(name: str) -> None:
    workload = builtin_workloads()[name]
    assert isinstance(workload, Retrieval)
    assert errors(workload) == []


def test_a_workload_trains_with_triplets() -> None:
    workload = configured(SMALL["digits-retrieval"], {"workload.loss": "triplet"})
    assert [each for each in errors(workload) if not each.startswith("card: parameters")] == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_missing_has_a_command_or_a_layout(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    workload = BENCHMARKS[name]
    assert isinstance(workload, RetrievalBenchmark)
    missing = workload.missing() or ""
    assert "tangent-studies[vision]" in missing or str(tmp_path / workload.data_set) in missing


CHECK = """
import sys, torch, torchvision
from workers.workload_check import check_workload
from workers.workloads import builtin_workloads

torch.manual_seed(0)
torch.set_num_threads(1)
torch.save(torchvision.models.resnet50().state_dict(), sys.argv[2])
for each in check_workload(builtin_workloads()[sys.argv[1]], device=torch.device("cpu"), batch_size=4):
    print(each.status, each.check, each.sentence, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inshop-retrieval", "sop-retrieval"])
def test_a_benchmark_trains_on_a_few_images(name: str, torchvision_python: Path, tmp_path: Path) -> None:
    """With weights that are not pretrained, in the place of those that are."""
    folder = tmp_path / "data" / BENCHMARKS[name].data_set
    weights = tmp_path / "torch" / "hub" / "checkpoints" / "resnet50-0676ba61.pth"
    for parent in (folder, weights.parent):
        parent.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for each in LAYOUTS[name][0](folder):
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / each)
    done = subprocess.run(
        [torchvision_python, "-c", CHECK, name, weights],
        env=os.environ | {"TANGENT_DATA": str(tmp_path / "data"), "TORCH_HOME": str(tmp_path / "torch")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ok resuming" in done.stdout
    assert "error" not in done.stdout
