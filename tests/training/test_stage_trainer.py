from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset
from transformers import TrainingArguments
from transformers.utils import ModelOutput

from vqmae_hf.training.stage_trainer import StageTrainer


@dataclass
class ToyOutput(ModelOutput):
    loss: torch.Tensor | None = None
    square: torch.Tensor | None = None
    absent: torch.Tensor | None = None
    codes: torch.Tensor | None = None


class Toy(nn.Module):
    """Fits a plane; `**kwargs` in its forward make Trainer think that it counts items itself."""

    config = SimpleNamespace(codebook_size=10, keys_to_ignore_at_inference=["square", "codes"])

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x, labels=None, **kwargs):
        error = self.linear(x).squeeze(1) - labels
        loss = error.square().mean()
        return ToyOutput(loss=loss, square=loss * 1.0, codes=(labels.abs() * 3).long().clamp(max=4))


class Points(Dataset):
    def __init__(self, n):
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(n, 3, generator=generator)
        self.y = self.x.sum(1) + 1

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return {"x": self.x[i], "labels": self.y[i]}


def make_trainer(folder, batch=8, accumulation=1, n=32, model=None, **options):
    torch.manual_seed(0)
    args = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        max_steps=4,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=5,
        gradient_accumulation_steps=accumulation,
        logging_steps=2,
        save_strategy="no",
        optim="sgd",
        learning_rate=0.1,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        **options.pop("arguments", {}),
    )
    data = Points(n)
    model = model or Toy()
    return StageTrainer(
        model=model, args=args, train_dataset=data, eval_dataset=data, terms=("square", "absent"), **options
    )


def test_logged_terms_are_means_over_the_steps_since_the_last_log(tmp_path):
    trainer = make_trainer(tmp_path, accumulation=2, batch=4)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "square" in entry]
    assert [entry["step"] for entry in logs] == [2, 4]
    for entry in logs:
        assert entry["square"] == pytest.approx(entry["loss"], rel=1e-5)
    assert all("absent" not in entry for entry in logs)


def test_validation_terms_are_weighted_by_the_batch(tmp_path):
    trainer = make_trainer(tmp_path, n=13)  # batches of 5, 5 and 3
    metrics = trainer.evaluate()
    errors = (trainer.model.linear(trainer.eval_dataset.x).squeeze(1) - trainer.eval_dataset.y).square()
    assert metrics["eval_square"] == pytest.approx(errors.mean().item(), rel=1e-5)
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_square"], rel=1e-5)
    codes = (trainer.eval_dataset.y.abs() * 3).long().clamp(max=4)
    usage = torch.bincount(codes, minlength=10).double() / 13
    assert metrics["eval_codebook_usage"] == pytest.approx((usage > 0).double().mean().item())
    assert metrics["eval_codebook_perplexity"] == pytest.approx(torch.exp(-torch.xlogy(usage, usage).sum()).item())
    assert trainer.state.log_history[-1]["eval_square"] == metrics["eval_square"]


def test_accumulated_batches_are_one_large_batch(tmp_path):
    large = make_trainer(tmp_path, batch=16)
    small = make_trainer(tmp_path, batch=4, accumulation=4)
    large.train()
    small.train()
    torch.testing.assert_close(large.model.linear.weight, small.model.linear.weight, rtol=1e-5, atol=1e-6)
    assert large.state.log_history[0]["loss"] == pytest.approx(small.state.log_history[0]["loss"], rel=1e-5)


def test_another_loss_takes_the_place_of_the_models_own(tmp_path):
    def nothing(outputs, inputs):
        return 0 * outputs["loss"]

    trainer = make_trainer(tmp_path, loss_function=nothing)
    before = trainer.model.linear.weight.clone()
    trainer.train()
    assert torch.equal(trainer.model.linear.weight, before)
    assert trainer.state.log_history[0]["loss"] == 0
    assert trainer.state.log_history[0]["square"] > 0
