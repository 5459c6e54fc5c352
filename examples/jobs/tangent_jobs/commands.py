"""Programs as workloads: a train.py with flags, a plain PyTorch script, and a shell script."""

from pathlib import Path

import sklearn.datasets

from tangent import CommandWorkload, WorkloadCard

HERE, DIGITS = Path(__file__).parent, Path(sklearn.datasets.__file__).parent / "data" / "digits.csv.gz"
CARD = WorkloadCard(name="job-train", metric="accuracy", unit="fraction", direction="maximize", epochs=5)

# Unchanged: a pattern finds the report of each epoch in its output.
TRAIN = CommandWorkload(
    CARD,
    [
        *("{python}", f"{HERE}/train.py", "--opt", "{optimizer}", "--lr", "{lr}"),
        *("--weight-decay", "{weight_decay}", "--batch-size", "{training.batch_size}"),
        *("--epochs", "{epochs}", "--seed", "{seed}"),
    ],
    pattern=r"loss (?P<train_loss>\S+) val_acc (?P<validation>\S+) test_acc (?P<test>\S+)",
)

PLAIN_PYTORCH = CommandWorkload(
    CARD.model_copy(update={"name": "job-plain-pytorch", "title": "job-plain-pytorch"}),
    ["{python}", f"{HERE}/plain_pytorch.py"],
)

SHELL = CommandWorkload(
    CARD.model_copy(update={"name": "job-shell", "title": "job-shell"}),
    ["sh", f"{HERE}/digits.sh", str(DIGITS), "{lr}", "{epochs}", "{seed}"],
    pattern=r"validation (?P<validation>\S+) test (?P<test>\S+)",
)
