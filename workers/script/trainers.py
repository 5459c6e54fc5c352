"""Trials whose loop is a trainer of Lightning or of Hugging Face's transformers.

The libraries are imported only when their function is called.
"""

__all__ = ["fit_lightning", "train_transformers"]

import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from workers.script.trial import Trial
from workers.script.trial_task import ForeignState
from workers.seeding import noise_seed, seed_generators
from workers.tensor_states import mapped
from workers.workload_errors import CannotTrain

if TYPE_CHECKING:
    import transformers
    from lightning import pytorch as lightning

_CHECKPOINT = "checkpoint"


def fit_lightning(
    trial: Trial,
    trainer: "lightning.Trainer",
    model: "lightning.LightningModule",
    train_dataloaders: Any = None,
    val_dataloaders: Any = None,
    *,
    test_dataloaders: Any = None,
    datamodule: "lightning.LightningDataModule | None" = None,
) -> None:
    """Fit a model as a trial, in place of `trainer.fit`.

    The arm's optimizer and schedule take the place of what `configure_optimizers` returns, and the trial's
    budget of epochs that of `max_epochs`. Each epoch is reported with the metrics that `validation_step`
    logs, and the epochs that count with those of `test_step`. A metric of the card may be logged under its
    name, or with the prefix `val_`, `val/`, `test_` or `test/`; `val_loss` is the validation loss,
    `train_loss` the training loss. Lightning's checkpoint is the trial's.

    Args:
        trial: the trial.
        trainer: a trainer for one device that validates once in an epoch.
        model: the model to fit.
        train_dataloaders: as for `trainer.fit`.
        val_dataloaders: as for `trainer.fit`.
        test_dataloaders: as for `trainer.test`; not needed with a datamodule.
        datamodule: as for `trainer.fit`.

    Raises:
        CannotTrain: the trainer validates more or less often than once in an epoch, the study's budget counts
            steps, or several processes train the trial.
    """
    _refuse_processes(trial, "fit_lightning")
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import LambdaCallback

    if trainer.check_val_every_n_epoch != 1 or trainer.val_check_interval != 1.0:
        raise CannotTrain(
            "expected a Lightning trainer that validates at the end of each epoch, got one with "
            f"check_val_every_n_epoch={trainer.check_val_every_n_epoch} and "
            f"val_check_interval={trainer.val_check_interval}; leave them out"
        )
    file = trial.folder / "lightning.ckpt"
    if trial.evaluate_every is not None:
        raise CannotTrain(
            f"expected a budget of epochs for fit_lightning, got one of {trial.task.budget}; write epochs "
            "instead of steps and evaluate_every in the study"
        )
    trainer.fit_loop.max_epochs = trial.budget

    def configure_optimizers() -> Any:
        optimizer = trial.optimizer(model)
        steps = int(trainer.estimated_stepping_batches) // trial.budget
        scheduler = trial.scheduler(optimizer, steps_per_epoch=max(steps, 1))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def test() -> dict[str, float | Tensor]:
        # The trainer is busy fitting.
        tester = Trainer(
            accelerator="cpu" if trial.device.type == "cpu" else "gpu",
            devices=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            found = tester.test(model, dataloaders=test_dataloaders, datamodule=datamodule, verbose=False)
        finally:
            model.trainer = trainer
        return _named(trial, {name: value for part in found for name, value in part.items()}, "test")

    def begin_epoch(*_: object) -> None:
        epoch = trainer.current_epoch
        seed_generators(noise_seed(trial.seed, epoch=epoch + 1), device=trial.device)
        if trainer.fit_loop.is_resuming and epoch > 0:
            # Lightning has begun this epoch's batches already, with other seeds.
            iter(getattr(trainer.fit_loop, "_data_fetcher"))  # noqa: B009 # it has no public name

    def end_epoch(*_: object) -> None:
        metrics = trainer.callback_metrics
        trial.save({_CHECKPOINT: _LightningState(trainer, file)})
        trial.report(
            validation=_named(trial, metrics, "val"), test=test, train_loss=metrics.get("train_loss")
        )
        trainer.should_stop = trainer.should_stop or trial.is_over

    model.configure_optimizers = configure_optimizers
    # Lightning calls callbacks in order: this one sees what the others have logged.
    callback = LambdaCallback(on_train_epoch_start=begin_epoch, on_train_epoch_end=end_epoch)
    trainer.callbacks.append(callback)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    kept = trial.restore()
    if kept is not None:
        file.write_bytes(kept[_CHECKPOINT]["file"].numpy())
    trainer.fit(
        model,
        train_dataloaders,
        val_dataloaders,
        datamodule=datamodule,
        ckpt_path=file if kept is not None else None,
        weights_only=False,
    )


class _LightningState(ForeignState):
    """A trainer's checkpoint, written when it is needed."""

    def __init__(self, trainer: "lightning.Trainer", file: Path) -> None:
        self._trainer, self._file = trainer, file

    def state_dict(self) -> dict[str, Tensor]:
        """Return the checkpoint's file."""
        # What was saved before may still be mapped into memory.
        self._file.unlink(missing_ok=True)
        self._trainer.save_checkpoint(self._file)
        return {"file": mapped(self._file)}

    def weights(self) -> Mapping[str, Any]:
        """Return the state of the model."""
        return self._trainer.lightning_module.state_dict()


def train_transformers(trial: Trial, trainer: "transformers.Trainer", *, test_dataset: Any = None) -> None:
    """Train as a trial, in place of `trainer.train()` of Hugging Face's `Trainer`.

    The arm's optimizer and schedule take the place of the trainer's, and the trial's budget that of
    `num_train_epochs` or `max_steps`. Each epoch, or interval of `evaluate_every` steps, is reported with
    what `compute_metrics` returns for `eval_dataset`, and those that count with what it returns for
    `test_dataset`. The trainer's checkpoint is the trial's.

    Args:
        trial: the trial.
        trainer: a trainer with an `eval_dataset` and `compute_metrics`.
        test_dataset: the examples of the test split.

    Raises:
        CannotTrain: several processes train the trial.
    """
    _refuse_processes(trial, "train_transformers")
    from transformers import TrainerCallback

    folder = trial.folder / "transformers"
    # The types of transformers are incomplete.
    untyped: Any = trainer
    arguments: Any = trainer.args
    arguments.output_dir = str(folder)
    every = trial.evaluate_every
    if every is None:
        arguments.num_train_epochs = trial.budget
        arguments.eval_strategy = arguments.save_strategy = "epoch"
    else:
        arguments.max_steps = trial.budget
        arguments.eval_strategy = arguments.save_strategy = "steps"
        arguments.eval_steps = arguments.save_steps = every
    arguments.seed = trial.seed % 2**32
    arguments.save_total_limit = 1
    arguments.save_only_model = False
    measured: dict[str, Any] = {}

    def test() -> dict[str, float | Tensor]:
        return _named(trial, untyped.predict(test_dataset).metrics or {}, "test")

    class Reports(TrainerCallback):
        """Reports each epoch once its checkpoint is written."""

        def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            seed_generators(noise_seed(trial.seed, epoch=int(state.epoch or 0) + 1), device=trial.device)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args, control
            if every is not None and state.global_step % every == 0:
                epoch = state.global_step // every + 1
                seed_generators(noise_seed(trial.seed, epoch=epoch), device=trial.device)

        def on_evaluate(self, args: Any, state: Any, control: Any, **found: Any) -> None:
            del args, state, control
            measured.update(found["metrics"])

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            del args
            losses = [line["loss"] for line in state.log_history if "loss" in line]
            checkpoint = folder / f"checkpoint-{state.global_step}"
            trial.save({_CHECKPOINT: _TransformersState(checkpoint, untyped.model)})
            trial.report(
                validation=_named(trial, measured, "eval"),
                test=test,
                train_loss=losses[-1] if losses else None,
                step=state.global_step,
            )
            control.should_training_stop = control.should_training_stop or trial.is_over

    trainer.add_callback(Reports)
    optimizer = trial.optimizer(untyped.model)
    steps = len(untyped.get_train_dataloader())
    each = max(-(-steps // arguments.gradient_accumulation_steps), 1)
    trainer.optimizer, trainer.lr_scheduler = optimizer, trial.scheduler(optimizer, steps_per_epoch=each)
    kept = trial.restore()
    if kept is None:
        trainer.train()
        return
    archived = folder.with_suffix(".tar")
    archived.write_bytes(kept[_CHECKPOINT]["files"].numpy())
    with tarfile.open(archived) as archive:
        archive.extractall(folder, filter="data")
    archived.unlink()
    trainer.train(resume_from_checkpoint=str(next(folder.glob("checkpoint-*"))))


class _TransformersState(ForeignState):
    """A checkpoint folder, read when it is needed."""

    def __init__(self, folder: Path, model: nn.Module) -> None:
        self._folder, self._model = folder, model

    def state_dict(self) -> dict[str, Tensor]:
        """Return the files of the folder, as an archive."""
        archived = self._folder.with_suffix(".tar")
        with tarfile.open(archived, mode="w") as archive:
            archive.add(self._folder, arcname=self._folder.name)
        files = mapped(archived)
        archived.unlink()
        return {"files": files}

    def weights(self) -> Mapping[str, Any]:
        """Return the state of the model."""
        return self._model.state_dict()


def _refuse_processes(trial: Trial, function: str) -> None:
    if trial.distributed:
        raise CannotTrain(
            f"expected one process in a trial of {function}, got {trial.world_size}; set processes_per_trial "
            "to 1, or write the loop with DistributedDataParallel or Accelerate"
        )


def _named(trial: Trial, found: Mapping[str, Any], prefix: str) -> dict[str, float | Tensor]:
    """Return the trial's metrics, and a loss, out of those that a library names with a prefix.

    A missing metric is left out: `trial.report` explains it.
    """
    named: dict[str, float | Tensor] = {}
    for name in (*trial.metrics, "loss"):
        # A plain `loss` is the training loss.
        plain = () if name == "loss" else (name,)
        for key in (f"{prefix}_{name}", f"{prefix}/{name}", *plain):
            if key in found:
                named[name] = found[key]
                break
    return named
