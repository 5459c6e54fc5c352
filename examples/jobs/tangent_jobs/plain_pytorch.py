"""A plain PyTorch script; the marked lines are Tangent's."""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from tangent import trial  # 1

pictures, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
pictures = pictures.float() / 16
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = trial.optimizer(model)  # 2, was torch.optim.AdamW(model.parameters(), lr=1e-3)
for _epoch in trial.epochs():  # 3, was range(10)
    for rows in torch.randperm(1077).split(32):
        optimizer.zero_grad()
        cross_entropy(model(pictures[rows]), labels[rows]).backward()
        optimizer.step()
    right = (model(pictures).argmax(1) == labels).float()
    trial.report(validation=right[1077:1437].mean(), test=right[1437:].mean())  # 4, was print(...)
