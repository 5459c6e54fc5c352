"""An unchanged `train.py` with flags, and the pattern of the line that it prints after each epoch."""

from pathlib import Path

from tangent import CommandWorkload, WorkloadCard

COMMAND = CommandWorkload(
    WorkloadCard(
        name="job-command",
        title="Digits with an unchanged train.py",
        description="Scanned digits, a network with one hidden layer, trained by a program.",
        source="scikit-learn load_digits (Optical Recognition of Handwritten Digits, UCI), BSD-3",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.95,
        epochs=5,
        batch_size=32,
        examples={"train": 1077, "validation": 360, "test": 360},
        parameters=4810,
        epoch_s=0.5,
    ),
    [
        *("{python}", str(Path(__file__).with_name("train.py")), "--opt", "{optimizer}"),
        *("--lr", "{lr}", "--weight-decay", "{weight_decay}", "--batch-size", "{training.batch_size}"),
        *("--epochs", "{epochs}", "--seed", "{seed}"),
    ],
    pattern=r"loss (?P<train_loss>\S+) val_acc (?P<validation>\S+) test_acc (?P<test>\S+)",
)
