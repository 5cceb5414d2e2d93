"""The losses against plain formulas, their gradients, their edges, and the contrastive loss of two processes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from two_processes import contrast_clips, contrastive_clips, run_in_two_processes

from vqmae_hf.modeling.losses import (
    asymmetric_single_label_loss,
    info_nce,
    itakura_saito_divergence,
    linear_cross_entropy,
)

# ---- Itakura-Saito ----


def test_itakura_saito_is_zero_for_equal_spectra_and_does_not_know_their_scale():
    x, y = torch.rand(3, 5) + 0.1, torch.rand(3, 5) + 0.1
    assert itakura_saito_divergence(x, x) == 0
    assert itakura_saito_divergence(x, y) > 0
    torch.testing.assert_close(itakura_saito_divergence(1e3 * x, 1e3 * y), itakura_saito_divergence(x, y))


def test_itakura_saito_adds_its_epsilon_to_both():
    x, y = torch.tensor([0.0, 2e-10]), torch.tensor([3e-10, 0.0])
    ratio = torch.tensor([1e-10 / 4e-10, 3e-10 / 1e-10])
    torch.testing.assert_close(itakura_saito_divergence(x, y), (ratio - ratio.log() - 1).mean())


# ---- cross-entropy of a linear head ----


class LargestTensor(TorchDispatchMode):
    """Remembers how many elements the largest tensor had that any operation made."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def plain_and_chunked(targets, max_logits, seed=0, scale=1.0):
    """Loss and gradients (hidden, weight, bias) of torch's cross-entropy and of ours."""
    torch.manual_seed(seed)
    head = nn.Linear(4, 7)
    hidden = torch.randn(len(targets), 4)
    results = []
    for loss_of in (
        lambda x: F.cross_entropy(head(x), targets),
        lambda x: linear_cross_entropy(x, head, targets, max_logits=max_logits),
    ):
        x = hidden.clone().requires_grad_()
        loss = loss_of(x)
        gradients = torch.autograd.grad(scale * loss, (x, head.weight, head.bias))
        results.append((loss.detach(), *gradients))
    return results


@given(
    targets=st.lists(st.sampled_from([0, 1, 2, 3, 4, 5, 6, -100]), min_size=1, max_size=40).filter(
        lambda codes: set(codes) != {-100}
    ),
    max_logits=st.integers(1, 300),
    scale=st.sampled_from([1.0, -2.5]),
)
@settings(max_examples=60, deadline=None)
def test_it_is_the_cross_entropy_of_the_logits_with_its_gradients_for_any_chunk(targets, max_logits, scale):
    expected, actual = plain_and_chunked(torch.tensor(targets), max_logits, scale=scale)
    for wanted, found in zip(expected, actual, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 5])
def test_without_a_row_that_counts_it_is_zero_and_sends_zeros(rows):
    head, hidden = nn.Linear(4, 7), torch.randn(rows, 4, requires_grad=True)
    loss = linear_cross_entropy(hidden, head, torch.full((rows,), -100))
    assert loss == 0
    loss.backward()
    for gradient in (hidden.grad, head.weight.grad, head.bias.grad):
        assert not gradient.any()


def test_all_logits_are_never_held_at_once():
    head, hidden = nn.Linear(4, 50), torch.randn(1000, 4, requires_grad=True)
    targets = torch.randint(50, (1000,))
    with LargestTensor() as ours:
        linear_cross_entropy(hidden, head, targets, max_logits=5000).backward()
    with LargestTensor() as plain:
        F.cross_entropy(head(hidden), targets).backward()
    assert plain.elements == 50_000, "the measurement itself"
    assert ours.elements <= 5000


def test_extreme_logits_stay_finite():
    head, hidden = nn.Linear(4, 7), (1e4 * torch.randn(6, 4)).requires_grad_()
    loss = linear_cross_entropy(hidden, head, torch.arange(6))
    loss.backward()
    assert loss.isfinite()
    assert hidden.grad.isfinite().all()


def test_half_precision_heads_are_worked_on_in_float32_under_autocast_and_without():
    head, hidden = nn.Linear(4, 7), torch.randn(6, 4)
    expected = linear_cross_entropy(hidden, head, torch.arange(6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(linear_cross_entropy(hidden, head, torch.arange(6)), expected)
    half_hidden = hidden.bfloat16().requires_grad_()
    loss = linear_cross_entropy(half_hidden, head.bfloat16(), torch.arange(6))
    loss.backward()
    assert loss.dtype == torch.float32
    assert half_hidden.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, expected, rtol=0.05, atol=0.05)


def test_nothing_is_differentiated_where_nothing_asks_for_it():
    head, hidden, targets = nn.Linear(4, 7), torch.randn(6, 4), torch.arange(6)
    head.requires_grad_(False)
    assert not linear_cross_entropy(hidden, head, targets).requires_grad
    hidden.requires_grad_()
    linear_cross_entropy(hidden, head, targets).backward()
    expected = torch.autograd.grad(F.cross_entropy(head(hidden), targets), hidden)[0]
    torch.testing.assert_close(hidden.grad, expected)
    assert head.weight.grad is None


# ---- InfoNCE ----


def info_nce_by_hand(visual, audio, temperature, real=None):
    """One anchor at a time, over the real clips alone."""
    clips = [clip for clip in range(len(visual)) if real is None or real[clip]]
    vectors = [visual[clip] for clip in clips] + [audio[clip] for clip in clips]
    losses = []
    for anchor, vector in enumerate(vectors):
        scores = [F.cosine_similarity(vector, other, dim=0) / temperature for other in vectors]
        positive = scores[(anchor + len(clips)) % len(vectors)]
        others = torch.stack([score for index, score in enumerate(scores) if index != anchor])
        losses.append(torch.logsumexp(others, dim=0) - positive)
    return torch.stack(losses).mean()


@given(clips=st.integers(1, 6), temperature=st.sampled_from([0.07, 0.5, 2.0]), seed=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_info_nce_is_that_of_the_loops(clips, temperature, seed):
    visual, audio = torch.randn(2, clips, 5, generator=torch.Generator().manual_seed(seed))
    expected = info_nce_by_hand(visual, audio, temperature)
    torch.testing.assert_close(info_nce(visual, audio, temperature), expected, rtol=1e-4, atol=1e-6)


@given(real=st.lists(st.booleans(), min_size=1, max_size=6).filter(any))
@settings(max_examples=30, deadline=None)
def test_clips_without_both_modalities_are_neither_asked_nor_candidates(real):
    vectors = torch.randn(2, len(real), 5, generator=torch.Generator().manual_seed(1))
    real = torch.tensor(real)
    visual, audio = vectors.clone().requires_grad_()
    loss = info_nce(visual, audio, 0.5, real)
    torch.testing.assert_close(loss, info_nce_by_hand(*vectors, 0.5, real), rtol=1e-4, atol=1e-6)
    garbage = vectors.clone()
    garbage[:, ~real] = 77.0
    assert info_nce(*garbage, 0.5, real) == loss


def test_info_nce_without_any_pair_is_zero_with_finite_gradients():
    vectors = torch.randn(2, 3, 5, requires_grad=True)
    loss = info_nce(vectors[0], vectors[1], 0.5, torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss == 0
    assert not vectors.grad.any()


def test_info_nce_is_symmetric_and_prefers_pairs_that_agree():
    visual, audio = torch.randn(2, 8, 5)
    torch.testing.assert_close(info_nce(visual, audio, 0.5), info_nce(audio, visual, 0.5))
    assert info_nce(visual, visual, 0.5) < info_nce(visual, audio, 0.5) < info_nce(visual, -visual, 0.5)
    # The length of a vector says nothing.
    torch.testing.assert_close(info_nce(3 * visual, 0.1 * audio, 0.5), info_nce(visual, audio, 0.5))


def test_two_processes_compare_the_clips_of_both(tmp_path):
    first, second = run_in_two_processes(contrast_clips, tmp_path)
    assert first["world_size"] == second["world_size"] == 2
    all_vectors, all_real = contrastive_clips()
    for name, real in (("all", None), ("real", torch.cat(all_real))):
        vectors = torch.cat(all_vectors, dim=1).requires_grad_()
        loss = info_nce(vectors[0], vectors[1], 0.5, real)
        loss.backward()
        both = [process["result"] for process in (first, second)]
        # Though one process has fewer pairs, what DistributedDataParallel averages is the mean over all.
        torch.testing.assert_close(sum(result[f"{name}_loss"] for result in both) / 2, loss.detach())
        # DistributedDataParallel averages what the backward passes of both sent to a clip.
        gradient = torch.cat([result[f"{name}_gradient"] for result in both], dim=1) / 2
        torch.testing.assert_close(gradient, vectors.grad)


# ---- asymmetric loss ----


def asymmetric_by_hand(logits, labels, gamma_positive=0.0, gamma_negative=4.0, label_smoothing=0.1):
    total = 0.0
    for scores, label in zip(logits.double(), labels, strict=True):
        probabilities = scores.softmax(dim=0)
        for k, p in enumerate(probabilities):
            target = float(k == label)
            weight = (1 - p) ** gamma_positive if target else p**gamma_negative
            smoothed = target * (1 - label_smoothing) + label_smoothing / len(scores)
            total -= smoothed * weight * torch.log(p)
    return total / len(labels)


@pytest.mark.parametrize("options", [{}, {"gamma_positive": 1.0}, {"gamma_negative": 2.0, "label_smoothing": 0.0}])
def test_the_asymmetric_loss_is_that_of_the_loops(options):
    logits, labels = 2 * torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 0])
    torch.testing.assert_close(
        asymmetric_single_label_loss(logits, labels, **options).double(),
        asymmetric_by_hand(logits, labels, **options),
        rtol=1e-5,
        atol=1e-7,
    )


def test_without_its_exponents_the_asymmetric_loss_is_smoothed_cross_entropy():
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 0])
    loss = asymmetric_single_label_loss(logits, labels, gamma_positive=0, gamma_negative=0)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.1))


def test_the_asymmetric_loss_is_finite_for_certain_answers_right_or_wrong():
    logits = torch.tensor([[500.0, -500.0, 0.0]], requires_grad=True)
    for label in range(3):
        loss = asymmetric_single_label_loss(logits, torch.tensor([label]))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert loss.isfinite()
        assert gradient.isfinite().all()
