"""Train a network on scanned digits; nothing here knows of Tangent."""

import argparse

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--opt", default="adamw", choices=["adamw", "sgd"])
parser.add_argument("--lr", type=float, default=1e-3)
parser.add_argument("--weight-decay", type=float, default=0.01)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

torch.manual_seed(args.seed)
pictures, labels = (torch.tensor(part) for part in load_digits(return_X_y=True))
pictures = pictures.float() / 16
model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[args.opt]
optimizer = kind(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
loss = torch.tensor(0.0)
for epoch in range(1, args.epochs + 1):
    for rows in torch.randperm(1077).split(args.batch_size):
        loss = cross_entropy(model(pictures[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (model(pictures).argmax(1) == labels).float()
    val, test = right[1077:1437].mean(), right[1437:].mean()
    print(f"epoch {epoch} loss {loss:.4f} val_acc {val:.4f} test_acc {test:.4f}", flush=True)
