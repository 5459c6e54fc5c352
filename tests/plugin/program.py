"""A program that minimises (x - 1)^2 by the step size in its arguments, without torch."""

import argparse
import json

from tangent import CommandTrial

__all__: list[str] = []

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, required=True)
lr = parser.parse_args().lr
trial = CommandTrial()
restored = trial.restore()
x = json.loads(restored.read_text()) if restored is not None else trial.seed % 7 + 2.0
state = trial.folder / "x.json"
for _ in trial.epochs():
    x -= lr * 2 * (x - 1)
    trial.report(validation=(x - 1) ** 2, test=(x - 1) ** 2 + 0.01)
    state.write_text(json.dumps(x))
    trial.save(state)
