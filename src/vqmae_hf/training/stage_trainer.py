"""The training loop of every stage: `transformers.Trainer` on Accelerate, plus what it cannot be told from outside."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.data_loader import prepare_data_loader
from accelerate.utils import find_batch_size
from torch.utils.data import DataLoader, Dataset
from transformers import ProcessorMixin, Trainer, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, EvalLoopOutput, rotate_checkpoints

from vqmae_hf.training.checkpoints import UNFINISHED, filled_in_one_go, move_into_place, told_where_it_failed
from vqmae_hf.training.finite_watch import GRADIENT_NORM, INPUT, FiniteWatch, FiniteWatchCallback
from vqmae_hf.training.shared_batches import SharedBatches
from vqmae_hf.training.token_stream import StreamedTokenWindows


class TermAverages:
    """Running means of named scalars that stay on their device until they are read."""

    def __init__(self, names: Sequence[str]):
        self.names = tuple(names)
        self.clear()

    def clear(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}
        self.weights: dict[str, float] = dict.fromkeys(self.names, 0.0)

    def add(self, outputs: dict[str, Any], weight: float) -> None:
        """Count the terms that the outputs have."""
        for name in self.names:
            value = outputs.get(name)
            if value is not None:
                total = value.detach().float().mean() * weight
                self.sums[name] = self.sums[name] + total if name in self.sums else total
                self.weights[name] += weight

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """Means over what was added, in all processes, since the last time. The one place that waits for the device."""
        if not self.names:
            return {}
        zero = torch.zeros((), device=accelerator.device)
        sums = torch.stack([self.sums.get(name, zero) for name in self.names])
        weights = torch.tensor([self.weights[name] for name in self.names], device=sums.device)
        totals = accelerator.reduce(torch.stack([sums, weights]), reduction="sum").tolist()
        self.clear()
        return {name: total / count for name, total, count in zip(self.names, *totals, strict=True) if count}


class StageTrainer(Trainer):
    """A subclass for seven reasons, each a method that Trainer offers no other way to reach:

    - `compute_loss`: the terms of the loss are outputs of the model, and Trainer drops them in training; weights that change
      from step to step are inputs;
    - `evaluation_loop`: their means over a data set belong to its metrics, before the best epoch is chosen;
    - `log`: they belong to the log of the same step;
    - `_get_grad_norm`: a run that diverges must stop and say of what, and the gradient norm is told to nobody else;
    - `get_train_dataloader`: an endless stream is dealt to its readers already, where Accelerate would have the main process
      read everything and send it around; and several processes shall share the batches of one, see `SharedBatches`;
    - `_save_checkpoint` and `_save`: what is written is there whole or not at all, and has its processor with it;
    - `prediction_step`: clips that fill up the last batch of several processes are no part of the validation loss.

    Args:
        terms: names of scalar outputs to report.
        loss_function: `(outputs, inputs) -> loss` in place of the model's own.
        step_inputs: state of the trainer -> numbers, or numbers by name, that the model takes in training besides its
            batch, such as the weight of a term that is warmed up; they are logged.
        processor: saved with the model. (As Trainer's `processing_class` it would have to hold a tokenizer.)
        **options: as for `Trainer`.

    Raises:
        ValueError: a tokenizer under FSDP.
    """

    def __init__(
        self,
        *,
        terms: Sequence[str] = (),
        loss_function: Callable[[Any, dict[str, Any]], torch.Tensor] | None = None,
        step_inputs: Callable[[TrainerState], dict[str, Any]] | None = None,
        processor: ProcessorMixin | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        if self.is_fsdp_enabled and hasattr(self.model, "quantizer"):
            raise ValueError(
                "FSDP would lose the codebook of a tokenizer, which averages move, not gradients; tokenizers are small: "
                "train them in several processes without FSDP (accelerate's distributed_type MULTI_GPU)."
            )
        # Our losses are means over the batch at hand. Trainer takes `**kwargs` in a forward for the promise to divide by
        # `num_items_in_batch`, and would not divide by the accumulation steps itself.
        self.model_accepts_loss_kwargs = False
        self.loss_function = loss_function
        self.step_inputs = step_inputs
        self.processor = processor
        self.writes_checkpoint = False
        self.training_terms = TermAverages(terms)
        self.evaluation_terms = TermAverages(terms)
        self.code_counts: torch.Tensor | None = None
        # Of the validation batch at hand, where they are known to be fewer than it has.
        self.real_rows: int | None = None
        self.finite_watch = FiniteWatch()
        self.add_callback(FiniteWatchCallback(self.finite_watch, self.accelerator))

    def get_train_dataloader(self) -> DataLoader:
        num_ranks = self.accelerator.num_processes
        if isinstance(self.train_dataset, StreamedTokenWindows):
            return self._own_loader(self.train_dataset, self._train_batch_size, collate_fn=self.data_collator)
        if num_ranks == 1:
            return super().get_train_dataloader()
        shared = SharedBatches(self.train_dataset, self.data_collator, self.accelerator.process_index, num_ranks)
        return self._own_loader(
            shared,
            num_ranks * self._train_batch_size,
            collate_fn=shared.collate,
            sampler=self._get_train_sampler(),
            drop_last=self.args.dataloader_drop_last,
        )

    def _own_loader(self, data: Dataset, batch_size: int, **options: Any) -> DataLoader:
        """A loader of what this process reads, which Accelerate only moves to the device."""
        loader = DataLoader(
            data,
            batch_size=batch_size,
            num_workers=self.args.dataloader_num_workers,
            prefetch_factor=self.args.dataloader_prefetch_factor,
            pin_memory=self.args.dataloader_pin_memory,
            **options,
        )
        config = self.accelerator.dataloader_config
        return prepare_data_loader(
            loader,
            self.accelerator.device,
            num_processes=1,
            process_index=0,
            put_on_device=True,
            use_seedable_sampler=config.use_seedable_sampler,
            data_seed=config.data_seed,
            non_blocking=config.non_blocking,
        )

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        if model.training and self.step_inputs is not None:
            inputs = {**inputs, **self.step_inputs(self.state)}
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        if self.loss_function is not None:
            loss = self.loss_function(outputs, inputs)
        if model.training:
            self.training_terms.add(outputs, weight=1.0)
            self._watch_loss(loss, outputs, inputs)
        else:
            weight = float(find_batch_size(inputs)) if self.real_rows is None else float(self.real_rows)
            if weight:
                self.evaluation_terms.add(outputs, weight)
                self._count_codes(outputs)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], prediction_loss_only: bool, *args: Any, **kwargs: Any
    ) -> Any:
        self.real_rows = self._rows_once()
        if self.real_rows is None:
            return super().prediction_step(model, inputs, prediction_loss_only, *args, **kwargs)
        rows = max(1, self.real_rows)  # a process that has none takes part all the same, and counts for nothing
        real = {name: value[:rows] if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}
        loss, logits, labels = super().prediction_step(model, real, True, *args, **kwargs)
        if not prediction_loss_only:  # which Trainer cuts to the rows that are real itself
            self.real_rows = 0
            _, logits, labels = super().prediction_step(model, inputs, False, *args, **kwargs)
        return loss, logits, labels

    def _rows_once(self) -> int | None:
        """Rows of this process's last validation batch that are not there to fill it up; None for the other batches."""
        state, process = self.accelerator.gradient_state, self.accelerator.process_index
        if self.accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
            return None
        batch_size = self.args.eval_batch_size
        return min(max(state.remainder - process * batch_size, 0), batch_size)

    def evaluation_loop(self, *args: Any, metric_key_prefix: str = "eval", **kwargs: Any) -> EvalLoopOutput:
        self.evaluation_terms.clear()
        self.code_counts = None
        output = super().evaluation_loop(*args, metric_key_prefix=metric_key_prefix, **kwargs)
        metrics = {**self.evaluation_terms.take(self.accelerator), **self._codebook_metrics()}
        output.metrics.update({f"{metric_key_prefix}_{name}": value for name, value in metrics.items()})
        return output

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            logs.update(self.training_terms.take(self.accelerator))
            logs.update({} if self.step_inputs is None else flat_numbers(self.step_inputs(self.state)))
        super().log(logs, start_time)

    def _get_output_dir(self, trial: Any = None) -> str:
        folder = super()._get_output_dir(trial)
        return str(Path(folder) / UNFINISHED) if self.writes_checkpoint else folder

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial))
        checkpoint = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        self.writes_checkpoint = True
        try:
            with told_where_it_failed(checkpoint):
                super()._save_checkpoint(model, trial)  # deletes no older ones, for it sees none
                self._name_the_best(checkpoint)
                # The main process, then one of each machine whose disk the others do not see.
                for moves in (self.accelerator.is_main_process, self.accelerator.is_local_main_process):
                    self.accelerator.wait_for_everyone()
                    if moves:
                        move_into_place(checkpoint)
        finally:
            self.writes_checkpoint = False
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            limit, best = self.args.save_total_limit, self.state.best_model_checkpoint
            rotate_checkpoints(str(folder), save_total_limit=limit, best_model_checkpoint=best, use_mtime=True)

    def _name_the_best(self, checkpoint: Path) -> None:
        """Where this checkpoint is the best so far, it is so under the name that it will have."""
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(checkpoint)
            if self.args.should_save:
                self.state.save_to_json(checkpoint.parent / UNFINISHED / checkpoint.name / TRAINER_STATE_NAME)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        with filled_in_one_go(Path(output_dir or self.args.output_dir)) as unfinished:
            super()._save(str(unfinished), state_dict)
            if self.processor is not None and self.args.should_save:
                self.processor.save_pretrained(unfinished)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # The scaler of fp16 looks for infinite gradients itself, and leaves such steps out.
        if norm is not None and self.accelerator.scaler is None:
            self.finite_watch.observe(GRADIENT_NORM, torch.as_tensor(norm), self.state.global_step + 1)
        return norm

    def _watch_loss(self, loss: torch.Tensor, outputs: dict[str, Any], inputs: dict[str, Any]) -> None:
        """Show what went into this step's loss to the watch, causes before what follows from them."""
        tensors = {name: value for name, value in inputs.items() if isinstance(value, torch.Tensor)}
        values: dict[str, Any] = {
            f"{INPUT}{name}": value for name, value in tensors.items() if value.is_floating_point()
        }
        values |= {name: outputs.get(name) for name in self.training_terms.names}
        for name, value in {**values, "loss": loss}.items():
            if value is not None:
                self.finite_watch.observe(name, value, self.state.global_step + 1)

    def _count_codes(self, outputs: dict[str, Any]) -> None:
        """Add up how often a tokenizer uses each code, over the whole validation set."""
        codes = outputs.get("codes")
        if codes is not None:
            counts = torch.bincount(codes.flatten(), minlength=self.model.config.codebook_size)
            self.code_counts = counts if self.code_counts is None else self.code_counts + counts

    def _codebook_metrics(self) -> dict[str, float]:
        """Share of the codes that the validation set uses, and exp(entropy of their usage)."""
        if self.code_counts is None:
            return {}
        counts = self.accelerator.reduce(self.code_counts, reduction="sum").double()
        usage = counts / counts.sum()
        entropy = -torch.xlogy(usage, usage).sum()
        return {"codebook_usage": (counts > 0).double().mean().item(), "codebook_perplexity": entropy.exp().item()}


def flat_numbers(values: dict[str, Any]) -> dict[str, float]:
    """Numbers, and numbers by name, as one level: {"weight": {"w": 1.0}} is {"weight/w": 1.0}."""
    flat: dict[str, float] = {}
    for name, value in values.items():
        flat |= (
            {f"{name}/{key}": number for key, number in value.items()} if isinstance(value, dict) else {name: value}
        )
    return flat
