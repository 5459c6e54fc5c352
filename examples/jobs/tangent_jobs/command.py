"""An unchanged `train.py` with flags, and the pattern of the line that it prints after each epoch."""

from pathlib import Path

from tangent import CommandWorkload, WorkloadCard

COMMAND = CommandWorkload(
    WorkloadCard(name="job-command", metric="accuracy", unit="fraction", direction="maximize", epochs=5),
    [
        *("{python}", str(Path(__file__).with_name("train.py")), "--opt", "{optimizer}"),
        *("--lr", "{lr}", "--weight-decay", "{weight_decay}", "--batch-size", "{training.batch_size}"),
        *("--epochs", "{epochs}", "--seed", "{seed}"),
    ],
    pattern=r"loss (?P<train_loss>\S+) val_acc (?P<validation>\S+) test_acc (?P<test>\S+)",
)
