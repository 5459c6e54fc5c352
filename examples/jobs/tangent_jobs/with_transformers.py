"""A script for Hugging Face's Trainer; the marked lines are Tangent's, the last one was `trainer.train()`."""

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch.utils.data import random_split
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

from tangent import ScriptWorkload, Trial, WorkloadCard, train_transformers  # 1


def accuracy(found: Any) -> dict[str, float]:
    return {"accuracy": float((found.predictions.argmax(-1) == found.label_ids).mean())}


def main(trial: Trial) -> None:  # 2
    pictures, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    pictures = pictures.float().view(-1, 1, 8, 8) / 16
    data: Any = [{"pixel_values": picture, "labels": label} for picture, label in zip(pictures, labels)]
    train, validation, test = random_split(data, [1077, 360, 360], torch.Generator().manual_seed(0))
    config = ResNetConfig(
        num_channels=1,
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        num_labels=10,  # pyright: ignore[reportCallIssue]
    )
    arguments = TrainingArguments(
        num_train_epochs=3,
        per_device_train_batch_size=32,
        per_device_eval_batch_size=180,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = Trainer(
        ResNetForImageClassification(config),
        arguments,
        train_dataset=train,
        eval_dataset=validation,
        compute_metrics=accuracy,
    )
    train_transformers(trial, trainer, test_dataset=test)  # 3


class TransformersDigits(ScriptWorkload):
    card = WorkloadCard(
        name="job-transformers", metric="accuracy", unit="fraction", direction="maximize", epochs=3
    )

    def run(self, trial: Trial) -> None:
        main(trial)
