"""A script for Lightning; the marked lines are Tangent's, the last in place of `trainer.fit(...)`."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset, random_split

from tangent import ScriptWorkload, Trial, WorkloadCard, fit_lightning  # 1


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))

    def training_step(self, batch: list[Tensor], number: int) -> Tensor:
        loss = cross_entropy(self.network(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], number: int) -> None:
        outputs = self.network(batch[0])
        self.log("val_accuracy", (outputs.argmax(1) == batch[1]).float().mean())
        self.log("val_loss", cross_entropy(outputs, batch[1]))

    def test_step(self, batch: list[Tensor], number: int) -> None:
        self.log("test_accuracy", (self.network(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


def main(trial: Trial) -> None:  # 2
    pictures, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
    data = TensorDataset(pictures.float() / 16, labels)
    train, validation, test = random_split(data, [1077, 360, 360], torch.Generator().manual_seed(0))
    loaders = [DataLoader(train, 32, shuffle=True), DataLoader(validation, 360), DataLoader(test, 360)]
    trainer = lightning.Trainer(
        max_epochs=10,
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    fit_lightning(trial, trainer, Classifier(), loaders[0], loaders[1], test_dataloaders=loaders[2])  # 3


class LightningDigits(ScriptWorkload):
    card = WorkloadCard(
        name="job-lightning", metric="accuracy", unit="fraction", direction="maximize", epochs=10
    )

    def run(self, trial: Trial) -> None:
        main(trial)
