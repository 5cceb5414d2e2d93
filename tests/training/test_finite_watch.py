"""What becomes NaN or infinite in training is named, at its step, and nothing of it is saved."""

from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import TrainingArguments
from transformers.utils import ModelOutput

from vqmae_hf.training.finite_watch import DivergedTrainingError, FiniteWatch, FiniteWatchCallback
from vqmae_hf.training.stage_trainer import StageTrainer

BAD_STEP = 5


@dataclass
class TwoTerms(ModelOutput):
    loss: torch.Tensor | None = None
    audio_loss: torch.Tensor | None = None
    contrastive_loss: torch.Tensor | None = None


class FiniteValueSpoiltGradient(torch.autograd.Function):
    """x, whose gradient is NaN: the square root at 0 times 0 is one that happens."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return gradient * float("nan")


class Breaking(nn.Module):
    """Two terms, of which `broken` leaves the numbers in forward pass BAD_STEP."""

    def __init__(self, broken=None, value=float("nan")):
        super().__init__()
        self.linear = nn.Linear(3, 1)
        self.register_buffer("codebook", torch.ones(4))
        self.broken, self.value, self.passes = broken, value, 0

    def forward(self, x, labels=None):
        error = self.linear(x).squeeze(1) - labels
        terms = {"audio_loss": error.square().mean(), "contrastive_loss": self.linear.weight.square().sum()}
        if self.training:
            self.passes += 1
            if self.passes == BAD_STEP:
                terms = self.break_something(terms)
        return TwoTerms(loss=sum(terms.values()), **terms)

    def break_something(self, terms):
        if self.broken in terms:
            return {**terms, self.broken: terms[self.broken] * self.value}
        if self.broken == "gradient":
            return {name: FiniteValueSpoiltGradient.apply(term) for name, term in terms.items()}
        if self.broken == "codebook":
            self.codebook[2] = self.value
        return terms


def points(n=40, bad=None):
    generator = torch.Generator().manual_seed(0)
    items = [{"x": torch.randn(3, generator=generator), "labels": torch.ones(())} for _ in range(n)]
    if bad is not None:
        items[bad]["x"][1] = float("inf")
    return items


def make_trainer(folder, model, data=None, **arguments):
    torch.manual_seed(0)
    options = {
        "max_steps": 8,
        "per_device_train_batch_size": 4,
        "logging_steps": 100,
        "save_steps": 1,
        "learning_rate": 0.01,
        "train_sampling_strategy": "sequential",
        "logging_nan_inf_filter": False,
        **arguments,
    }
    args = TrainingArguments(
        output_dir=str(folder),
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        **options,
    )
    terms = ("audio_loss", "contrastive_loss", "absent_loss")
    return StageTrainer(model=model, args=args, train_dataset=data or points(), terms=terms)


def diverge(trainer):
    with pytest.raises(DivergedTrainingError) as refusal:
        trainer.train()
    return refusal.value


def checkpoints(folder):
    return sorted(int(path.name.partition("-")[2]) for path in folder.glob("checkpoint-*"))


def look_as_on_a_device(monkeypatch):
    """Only where the host waits anyway, as where a look costs something."""
    monkeypatch.setattr(FiniteWatchCallback, "on_pre_optimizer_step", lambda *args, **kwargs: None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("term", ["audio_loss", "contrastive_loss"])
def test_the_term_and_the_step_are_named_and_the_checkpoints_before_stay_good(tmp_path, term, value):
    model = Breaking(term, value)
    error = diverge(make_trainer(tmp_path, model))
    assert (error.step, error.quantities) == (BAD_STEP, (term, "loss", "gradient norm"))
    assert f"step {BAD_STEP}: not finite is {term}, loss, gradient norm" in str(error)
    assert "Lower learning_rate (now 0.01) or lengthen warmup_steps" in str(error)
    assert f"last good checkpoint is {tmp_path / f'checkpoint-{BAD_STEP - 1}'}" in str(error)
    assert checkpoints(tmp_path) == [1, 2, 3, 4]
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    kept = load_file(tmp_path / f"checkpoint-{BAD_STEP - 1}" / "model.safetensors")
    assert torch.equal(kept["linear.weight"], model.linear.weight)


def test_a_gradient_that_alone_is_not_finite_is_told_from_a_loss(tmp_path):
    model = Breaking("gradient")
    error = diverge(make_trainer(tmp_path, model))
    assert (error.step, error.quantities) == (BAD_STEP, ("gradient norm",))
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_the_gradient_is_watched_with_and_without_clipping(tmp_path, max_grad_norm):
    assert diverge(make_trainer(tmp_path, Breaking("gradient"), max_grad_norm=max_grad_norm)).step == BAD_STEP


def test_values_of_the_batch_are_named_as_the_cause(tmp_path):
    error = diverge(make_trainer(tmp_path, Breaking(), points(bad=13), save_strategy="no"))
    assert error.step == 4  # item 13 in batches of 4
    assert error.quantities[0] == "input x"
    assert "The batch itself holds such values" in str(error)
    assert "there is no checkpoint from before" in str(error)
    assert "learning_rate" not in str(error)


def test_steps_count_whole_accumulated_batches(tmp_path):
    trainer = make_trainer(
        tmp_path, Breaking("audio_loss"), gradient_accumulation_steps=2, per_device_train_batch_size=2
    )
    assert diverge(trainer).step == 3  # the fifth forward pass


def test_a_codebook_that_no_gradient_reaches_is_not_saved(tmp_path):
    error = diverge(make_trainer(tmp_path, Breaking("codebook", float("inf"))))
    assert (error.step, error.quantities) == (BAD_STEP, ("weight codebook",))
    assert checkpoints(tmp_path) == [1, 2, 3, 4]


def test_weights_that_a_finite_gradient_throws_out_are_not_saved(tmp_path):
    error = diverge(make_trainer(tmp_path, Breaking(), learning_rate=1e38, optim="sgd", max_grad_norm=0.0))
    assert error.quantities
    assert all(
        torch.isfinite(tensor).all()
        for path in tmp_path.glob("checkpoint-*/model.safetensors")
        for tensor in load_file(path).values()
    )


@pytest.mark.parametrize(
    ("arguments", "looked_at"),
    [({"logging_steps": 7, "save_strategy": "no"}, 7), ({"save_steps": 6}, 6), ({"save_strategy": "no"}, 8)],
    ids=["at a log", "before a checkpoint", "at the end"],
)
def test_on_a_device_the_first_bad_step_is_known_at_the_next_look(tmp_path, monkeypatch, arguments, looked_at):
    look_as_on_a_device(monkeypatch)
    model = Breaking("contrastive_loss")
    error = diverge(make_trainer(tmp_path, model, **arguments))
    assert (error.step, error.quantities) == (BAD_STEP, ("contrastive_loss", "loss", "gradient norm"))
    assert model.passes == looked_at
    assert checkpoints(tmp_path) == []


def test_between_looks_nothing_is_read_off_the_device(tmp_path, monkeypatch):
    look_as_on_a_device(monkeypatch)
    reads = []
    found = FiniteWatch.found
    monkeypatch.setattr(FiniteWatch, "found", lambda self: reads.append(1) or found(self))
    make_trainer(tmp_path, Breaking(), logging_steps=4, save_strategy="no").train()
    assert len(reads) == 3  # steps 4 and 8, and the end of the epoch


def test_fp16_is_told_of_its_range(tmp_path):
    trainer = make_trainer(tmp_path, Breaking("audio_loss"))
    trainer.args.fp16 = True  # a CPU cannot be asked for it
    assert "bf16 in place of fp16" in str(diverge(trainer))
