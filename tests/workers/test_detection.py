"""Detection: boxes, average precision, the two detectors, their small workloads, and COCO's layout."""

import json
import math
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from workers.workload_errors import MachineUnfit
from workers.workloads import LoopWorkload, configured
from workers.workloads.boxes import Found, Truth, average_precision, ground_truth, overlaps, suppressed
from workers.workloads.centernet import STRIDE, centernet_boxes, centernet_loss
from workers.workloads.coco import CocoCenterNet, coco_split, read_annotations
from workers.workloads.detection import DETECTION
from workers.workloads.ssd import Level, default_boxes, ssd_boxes, ssd_loss

__all__: list[str] = []

BOXES = torch.tensor([[4.0, 8.0, 20.0, 24.0], [22.0, 3.0, 30.0, 15.0]])
LABELS = torch.tensor([2, 0])
LEVELS = (Level(cells=4, sides=(8, 12)), Level(cells=2, sides=(16,)))


def truth_of(*boxes: tuple[float, ...]) -> Any:
    """Return one picture with objects of category 7, given by their edges."""
    return ground_truth(
        [5],
        [3, 7],
        [
            {
                "image_id": 5,
                "category_id": 7,
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top),
                "iscrowd": 0,
            }
            for left, top, right, bottom in boxes
        ],
    )


def found(*boxes: tuple[float, ...], label: int = 7) -> Found:
    return Found(
        picture=5,
        boxes=torch.tensor(boxes),
        labels=torch.full((len(boxes),), label),
        scores=torch.linspace(0.9, 0.1, len(boxes)),
    )


def test_overlaps_and_suppression_of_boxes() -> None:
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    torch.testing.assert_close(
        overlaps(boxes, boxes), torch.tensor([[1, 1 / 3, 0], [1 / 3, 1, 0], [0, 0, 1]])
    )
    scores = torch.tensor([0.5, 0.9, 0.7])
    assert suppressed(boxes, scores, overlap=0.3).tolist() == [1, 2]
    assert suppressed(boxes, scores, overlap=0.5).tolist() == [1, 2, 0]


@pytest.mark.parametrize(
    ("guess", "expected"),
    [
        (found((0, 0, 10, 10)), 1.0),
        (found((0, 0, 10, 8.2)), 0.7),  # Seven of ten overlaps, 0.5 to 0.8, are met.
        (found((20, 0, 30, 10), (0, 0, 10, 10)), 0.5),  # A false box comes first.
        (found((0, 0, 10, 10), label=3), 0.0),
    ],
)
def test_average_precision_of_one_object(guess: Found, expected: float) -> None:
    assert average_precision(truth_of((0, 0, 10, 10)), [guess]) == pytest.approx(expected, abs=1e-6)


def test_average_precision_without_boxes_is_zero() -> None:
    nothing = Found(5, torch.empty(0, 4), torch.empty(0), torch.empty(0))
    assert average_precision(truth_of((0, 0, 10, 10)), [nothing]) == 0
    assert average_precision(truth_of(), [found((0, 0, 10, 10))]) == 0


@pytest.mark.parametrize("workload", DETECTION[2:], ids=lambda workload: workload.card.name)
def test_a_detector_without_finite_outputs_has_diverged(workload: LoopWorkload) -> None:
    model = workload.build_model().eval()
    last = [each for each in model.modules() if isinstance(each, nn.Conv2d) and each.bias is not None][-1]
    nn.init.constant_(last.get_parameter("bias"), math.nan)
    with torch.no_grad():
        values = workload.evaluate(model, "validation", device=torch.device("cpu"))
    assert set(values) == {"average precision", "loss"}
    assert all(math.isnan(float(value)) for value in values.values())  # pyright: ignore[reportArgumentType]


def perfect_centernet() -> Tensor:
    """Return the output [1, 7, 8, 8] that names the two objects in a picture of 32x32 pixels."""
    output = torch.zeros(1, 7, 8, 8)
    output[:, :3] = -20
    centres, sizes = (BOXES[:, :2] + BOXES[:, 2:]) / 2 / STRIDE, (BOXES[:, 2:] - BOXES[:, :2]) / STRIDE
    for label, (x, y), size in zip(LABELS, centres, sizes, strict=True):
        at = int(y), int(x)
        output[0, label, at[0], at[1]] = 20
        output[0, 3:5, at[0], at[1]] = size
        output[0, 5:, at[0], at[1]] = torch.stack([x, y]) - torch.stack([x, y]).floor()
    return output


def test_a_perfect_centernet_has_no_loss_and_finds_the_boxes() -> None:
    output = perfect_centernet()
    losses = centernet_loss(output, Truth.of([BOXES], [LABELS]))
    assert {name: round(value.item(), 5) for name, value in losses.items()} == {
        "loss": 0,
        "heat": 0,
        "size": 0,
        "offset": 0,
    }
    boxes, labels, scores = centernet_boxes(output, most=3)
    order = labels[0, :2].argsort(descending=True)
    torch.testing.assert_close(boxes[0, order], BOXES)
    assert scores[0, 1] > 0.99
    assert scores[0, 2] < 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_detectors_are_judged_in_float32_by_outputs_in_16_bits(dtype: torch.dtype) -> None:
    truth, defaults = Truth.of([BOXES], [LABELS]), default_boxes(LEVELS, size=32)
    torch.manual_seed(0)
    for output, loss_of, boxes_of in (
        (perfect_centernet(), centernet_loss, lambda each: centernet_boxes(each, most=2)),
        (
            torch.randn(1, len(defaults), 8),
            lambda each, objects: ssd_loss(each, objects, defaults),
            lambda each: ssd_boxes(each, defaults, most=9)[0],
        ),
    ):
        rounded = output.to(dtype)
        with torch.autocast("cpu", dtype=dtype):
            losses, boxes = loss_of(rounded, truth), boxes_of(rounded)
        assert {each.dtype for each in losses.values()} == {torch.float32}
        torch.testing.assert_close(losses, loss_of(rounded.float(), truth))
        torch.testing.assert_close(boxes, boxes_of(rounded.float()))


def test_a_bump_has_the_radius_of_the_authors_code() -> None:
    """CornerNet's formula is 1.91 for sides of 7 cells, and 2.19 for the 8 to which 7.25 are rounded up."""
    for side, reach in ((8.0, 0), (28.0, 1), (29.0, 2)):
        box = torch.tensor([[32.0 - side / 2, 32.0 - side / 2, 32.0 + side / 2, 32.0 + side / 2]])
        truth = Truth.of([box], [torch.tensor([0])])
        flat = torch.zeros(1, 5, 16, 16, requires_grad=True)
        centernet_loss(flat, truth)["heat"].backward()
        assert flat.grad is not None
        row = flat.grad[0, 0, 8, 9:]
        # Cells outside the bump count in full.
        assert int((row < row.max()).sum()) == reach


def test_padding_and_pictures_without_objects_add_nothing_to_centernets_loss() -> None:
    output = torch.randn(1, 7, 8, 8)
    alone = centernet_loss(output, Truth.of([BOXES], [LABELS]))
    empty = centernet_loss(output, Truth.of([BOXES[:0]], [LABELS[:0]]))
    together = centernet_loss(
        output.expand(2, -1, -1, -1), Truth.of([BOXES, BOXES[:0]], [LABELS, LABELS[:0]])
    )
    assert empty["size"] == empty["offset"] == 0
    torch.testing.assert_close(together["size"], alone["size"])
    # Both are per object: of the two there are, and of at least one.
    torch.testing.assert_close(together["heat"], alone["heat"] + empty["heat"] / 2)


def test_cells_near_a_centre_count_less_as_background() -> None:
    big = Truth.of([torch.tensor([[0.0, 0.0, 64.0, 64.0]])], [torch.tensor([0])])
    near, far = (torch.full((1, 5, 16, 16), -20.0) for _ in range(2))
    near[0, 0, 8, 8] = far[0, 0, 8, 8] = 20
    near[0, 0, 8, 9] = far[0, 0, 8, 15] = 5
    losses = [centernet_loss(output, big)["heat"] for output in (near, far)]
    assert losses[0] < losses[1] / 2


def test_default_boxes_are_centred_in_their_cells() -> None:
    boxes = default_boxes(LEVELS, size=32)
    assert boxes.shape == (4 * 4 * 2 + 2 * 2, 4)
    assert boxes[:3].tolist() == [[4, 4, 8, 8], [4, 4, 12, 12], [12, 4, 8, 8]]
    assert boxes[-1].tolist() == [24, 24, 16, 16]


def test_a_fitted_ssd_finds_the_boxes() -> None:
    defaults = default_boxes(LEVELS, size=32)
    output = torch.zeros(1, len(defaults), 8, requires_grad=True)
    truth = Truth.of([BOXES], [LABELS])
    first = loss = ssd_loss(output, truth, defaults)["loss"]
    optimizer = torch.optim.Adam([output], lr=0.3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = ssd_loss(output, truth, defaults)["loss"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05 * first.item()
    [(boxes, labels, scores)] = ssd_boxes(output.detach(), defaults, most=40)
    best = [int((labels == label).nonzero()[0]) for label in LABELS]
    torch.testing.assert_close(boxes[best], BOXES, atol=0.2, rtol=0)
    assert scores[best].min() > 0.9


@pytest.mark.parametrize("workload", DETECTION[2:], ids=lambda workload: workload.card.name)
def test_a_small_model_has_the_cards_parameters_and_splits_share_no_digit(workload: LoopWorkload) -> None:
    assert workload.card.parameters == sum(each.numel() for each in workload.build_model().parameters())
    pictures, truth = next(iter(workload.train_batches(batch_size=20, epoch=1)))
    assert pictures.shape == (20, 1, 48, 48)
    inside = truth.labels >= 0
    assert truth.boxes[inside].min() >= 0
    assert truth.boxes[inside].max() <= 48
    assert (inside.sum(dim=1) >= 1).all()


def write_coco(folder: Path, pictures: int = 10) -> None:
    """Write COCO's annotation files for pictures with two objects each and a crowd, ids from 100."""
    (folder / "annotations").mkdir(parents=True)
    for year, first in (("train2017", 100), ("val2017", 900)):
        (folder / year).mkdir()
        ids = range(first, first + pictures)
        content = {
            "images": [
                {"id": number, "file_name": f"{number:012}.jpg", "height": 90, "width": 120} for number in ids
            ],
            "categories": [{"id": 18, "name": "dog"}, {"id": 2, "name": "bicycle"}],
            "annotations": [
                {
                    "id": 10 * number + index,
                    "image_id": number,
                    "category_id": category,
                    "bbox": box,
                    "area": box[2] * box[3] * 0.8,
                    "iscrowd": int(index == 2),
                    "segmentation": [],
                }
                for number in ids
                for index, (category, box) in enumerate(
                    ((2, [10, 20, 40, 30.5]), (18, [60, 10, 50, 70]), (18, [0, 0, 9, 9]))
                )
            ],
        }
        (folder / "annotations" / f"instances_{year}.json").write_text(json.dumps(content), encoding="utf-8")


def test_cocos_layout_is_read(tmp_path: Path) -> None:
    write_coco(tmp_path)
    read = read_annotations(tmp_path / "annotations" / "instances_val2017.json")
    assert read.categories == (2, 18)
    assert read.files[903] == "000000000903.jpg"
    np.testing.assert_allclose(read.objects[903][1], [60, 10, 50, 70, 2800, 18, 0])
    train, validation, test = (coco_split(tmp_path, split).ids for split in ("train", "validation", "test"))
    assert (len(train), len(validation)) == (8, 2)
    assert sorted(train + validation) == list(range(100, 110))
    assert test == tuple(range(900, 910))


def test_a_missing_copy_of_coco_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    workload = CocoCenterNet()
    missing = workload.missing()
    assert missing is not None
    assert "detection" in missing or "instances_train2017.json" in missing


@pytest.mark.parametrize("workload", DETECTION[:2], ids=lambda workload: workload.card.name)
def test_missing_imagenet_weights_are_a_fault_of_the_machine(
    workload: LoopWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MachineUnfit, match=r"download them with .*IMAGENET1K_V1"):
        configured(workload, {"workload.pretrained": True}).build_model()


TRAIN = """
import sys, torch
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from torchvision.io import write_jpeg
from packs import CPU, OPTIMIZERS, member, outcome_of
from studies.training_settings import TrainingSettings
from workers.pack_protocol import Pack
from workers.training import train_pack
from workers.workloads.coco import CocoCenterNet, CocoSsd

folder = Path(sys.argv[1]) / "coco"
for year, first in (("train2017", 100), ("val2017", 900)):
    for number in range(first, first + 10):
        pixels = torch.randint(256, (3, 90, 120), dtype=torch.uint8)
        write_jpeg(pixels, str(folder / year / f"{number:012}.jpg"))
for workload in (CocoCenterNet(), CocoSsd()):
    assert workload.missing() is None, workload.missing()
    parameters = sum(each.numel() for each in workload.build_model().parameters())
    assert parameters == workload.card.parameters, (workload.card.name, parameters)
    pack = Pack(
        pack_id="pack", workload=workload.card.name, optimizer="adamp", members=(member("adamp", lr=1e-4),),
        from_epoch=0, to_epoch=1, epochs=1, training=TrainingSettings(batch_size=4), maximize=True,
        checkpoints=sys.argv[1],
    )
    reports = list(train_pack(pack, workload=workload, entry=OPTIMIZERS["adamp"], data=None, device=CPU))
    outcome = outcome_of(reports, "t")
    assert 0 <= outcome.test_value <= 1, outcome
    diverged = workload.build_model().eval()
    with torch.no_grad():
        next(diverged.parameters()).fill_(float("nan"))
        values = workload.evaluate(diverged, "validation", device=CPU)
    assert "loss" in values and values["average precision"] != values["average precision"], values
"""


@pytest.mark.slow
def test_coco_trains_on_ten_pictures(
    torchvision_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    write_coco(tmp_path / "coco")
    here = Path(__file__).parents[1]
    subprocess.run(
        [torchvision_python, "-W", "ignore", "-c", TRAIN, str(tmp_path), str(here), str(here.parent)],
        check=True,
        timeout=600,
    )
