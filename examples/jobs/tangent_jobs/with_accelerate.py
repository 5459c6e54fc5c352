"""A script for Accelerate that takes its optimizer, schedule and epochs from the trial."""

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from tangent import ScriptWorkload, Trial, WorkloadCard

SIZES = [1077, 360, 360]


class AccelerateDigits(ScriptWorkload):
    card = WorkloadCard(
        name="job-accelerate", metric="accuracy", unit="fraction", direction="maximize", epochs=10
    )

    def run(self, trial: Trial) -> None:
        accelerator = Accelerator()
        pictures, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
        train, *others = zip((pictures.float() / 16).split(SIZES), labels.split(SIZES), strict=True)
        loader = DataLoader(TensorDataset(*train), trial.training.batch_size, shuffle=True)
        model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        model, optimizer, loader = accelerator.prepare(model, trial.optimizer(model), loader)
        scheduler = trial.scheduler(optimizer, steps_per_epoch=len(loader))
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        trial.restore(parts)

        def measured(inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
            with torch.no_grad():
                outputs = model(inputs.to(accelerator.device)).cpu()
            right = (outputs.argmax(1) == targets).float().mean()
            return {"accuracy": right, "loss": cross_entropy(outputs, targets)}

        for _ in trial.epochs():
            for inputs, targets in loader:
                loss = cross_entropy(model(inputs), targets)
                accelerator.backward(loss)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            validation, test = (measured(*split) for split in others)
            trial.report(validation=validation, test=test["accuracy"])
            trial.save(parts)
