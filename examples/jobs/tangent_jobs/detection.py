"""Detection with a small CenterNet: any number of boxes in a picture, three losses, average precision."""

from collections.abc import Iterable
from typing import Any

import torch
from faster_coco_eval import COCO, COCOeval_faster
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate, l1_loss, max_pool2d
from torch.utils.data import DataLoader

from tangent import LoopWorkload, WorkloadCard

DIGITS, LABELS = (torch.tensor(part) for part in load_digits(return_X_y=True))
SCENES = {"train": range(800), "validation": range(800, 1000), "test": range(1000, 1200)}


def scene(number: int) -> dict[str, Tensor]:
    """Return a picture [1, 32, 32] of one to three digits, their boxes (x, y, width, height) and classes."""
    draw = torch.Generator().manual_seed(number)
    first = 0 if number < 800 else 1  # Training and evaluation share no digit.
    picture, boxes, classes = torch.zeros(1, 32, 32), [], []
    for corner in torch.randperm(4, generator=draw)[: int(torch.randint(1, 4, (), generator=draw))]:
        size = 8 + int(torch.randint(9, (), generator=draw))
        row = 2 * int(torch.randint(890, (), generator=draw)) + first
        x, y = (
            torch.randint(17 - size, (2,), generator=draw) + 16 * torch.tensor([corner % 2, corner // 2])
        ).tolist()
        digit = DIGITS[row].float().view(1, 1, 8, 8) / 16
        picture[:, y : y + size, x : x + size] = interpolate(digit, size, mode="bilinear")[0]
        boxes.append([x, y, size, size])
        classes.append(LABELS[row])
    return {"picture": picture, "boxes": torch.tensor(boxes).float(), "classes": torch.tensor(classes)}


class Detection(LoopWorkload):
    card = WorkloadCard(
        name="job-detection",
        metric="average_precision",
        unit="fraction",
        direction="maximize",
        epochs=10,
        batch_size=20,
        examples={"train": 800},
    )

    def build_model(self) -> nn.Module:
        return nn.Sequential(
            *(nn.Conv2d(1, 32, 5, stride=2, padding=2), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 14, 1)),
        )

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[list[dict[str, Tensor]]]:
        scenes: Any = [scene(number) for number in SCENES["train"]]
        return DataLoader(scenes, batch_size, shuffle=True, collate_fn=list)

    def training_step(self, model: nn.Module, batch: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        found = model(torch.stack([item["picture"] for item in batch]))
        boxes, classes = (torch.cat([item[name] for item in batch]) for name in ("boxes", "classes"))
        item = torch.cat([torch.full_like(of["classes"], number) for number, of in enumerate(batch)])
        centres = (boxes[:, :2] + boxes[:, 2:] / 2) / 4
        x, y = centres.long().unbind(1)
        heat = torch.zeros_like(found[:, :10])
        heat[item, classes, y, x] = 1
        losses = {
            "centre": 10 * binary_cross_entropy_with_logits(found[:, :10], heat, weight=1 + 19 * heat),
            "size": l1_loss(found[item, 10:12, y, x], boxes[:, 2:] / 16),
            "offset": l1_loss(found[item, 12:, y, x], centres - centres.floor()),
        }
        return {"loss": sum(losses.values(), torch.zeros(())), **losses}

    def evaluate(self, model: nn.Module, split: str, *, device: torch.device) -> dict[str, float]:
        truth: list[dict[str, Any]] = []
        guesses: list[dict[str, Any]] = []
        for number in SCENES[split]:
            item = scene(number)
            found = model(item["picture"][None].to(device)).cpu()[0]
            scores, at = (
                (found[:10].sigmoid() * (max_pool2d(found[:10], 3, 1, 1) == found[:10])).flatten().topk(10)
            )
            label, y, x = torch.unravel_index(at, (10, 8, 8))
            size, corner = 16 * found[10:12, y, x].T, 4 * (found[12:, y, x].T + torch.stack([x, y], 1))
            boxes = torch.cat([corner - size / 2, size], 1)
            for box, kind, score in zip(boxes.tolist(), label.tolist(), scores.tolist()):
                guesses.append({"image_id": number, "category_id": kind, "bbox": box, "score": score})
            for box, kind in zip(item["boxes"].tolist(), item["classes"].tolist()):
                own = {"id": len(truth) + 1, "area": box[2] * box[3], "iscrowd": 0}
                truth.append({"image_id": number, "category_id": kind, "bbox": box, **own})
        categories = [{"id": kind} for kind in range(10)]
        coco = COCO(
            {"images": [{"id": n} for n in SCENES[split]], "categories": categories, "annotations": truth}
        )
        judged = COCOeval_faster(coco, coco.loadRes(guesses), "bbox", print_function=lambda *_: None)
        judged.run()
        return {"average_precision": float(judged.stats[0])}
