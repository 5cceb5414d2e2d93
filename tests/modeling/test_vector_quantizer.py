"""The quantizer: nearest codes, straight-through gradient, moving average, dead codes, several processes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import assert_same, buffers
from two_processes import quantizer_batches, run_in_two_processes, seeded_quantizer, train_quantizers

from vqmae_hf.modeling.vector_quantizer import VectorQuantizer


def brute_force_codes(latents: torch.Tensor, codebook: torch.Tensor) -> torch.Tensor:
    """argmin_k ||z - e_k||^2 in float64, with the full table of differences."""
    return (latents.double()[:, None] - codebook.double()[None]).square().sum(dim=2).argmin(dim=1)


# ---- nearest codes ----


@given(rows=st.integers(1, 70), size=st.integers(2, 20), dim=st.integers(1, 5), budget=st.integers(1, 200))
@settings(max_examples=50, deadline=None)
def test_codes_are_those_of_brute_force_however_small_the_budget(rows, size, dim, budget):
    quantizer = VectorQuantizer(size, dim, max_distances=budget)
    latents = torch.randn(rows, dim)
    assert torch.equal(quantizer.nearest_codes(latents), brute_force_codes(latents, quantizer.codebook))


def test_never_more_distances_at_once_than_the_budget():
    quantizer = VectorQuantizer(16, 2, max_distances=16 * 10)
    tables = []
    original = torch.addmm

    def recording_addmm(*args, **kwargs):
        tables.append(original(*args, **kwargs))
        return tables[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "addmm", recording_addmm)
        quantizer.nearest_codes(torch.randn(95, 2))
    assert sum(table.shape[0] for table in tables) == 95
    assert max(table.numel() for table in tables) <= 160


def test_the_code_vectors_themselves_are_quantized_to_themselves():
    quantizer = VectorQuantizer(32, 3).eval()
    output = quantizer(quantizer.codebook.detach().clone())
    assert output.codes.tolist() == list(range(32))
    assert output.loss == 0
    assert output.code_usage == 1
    torch.testing.assert_close(output.perplexity, torch.tensor(32.0))


# ---- gradients ----


@pytest.mark.parametrize("ema_decay", [0.99, 0])
def test_the_gradient_to_the_latents_is_exactly_the_identity(ema_decay):
    quantizer = VectorQuantizer(8, 4, ema_decay=ema_decay)
    latents = torch.randn(20, 4, requires_grad=True)
    upstream = torch.randn(20, 4)
    output = quantizer(latents)
    (output.quantized * upstream).sum().backward()
    assert torch.equal(latents.grad, upstream)
    assert quantizer.codebook.grad is None or not quantizer.codebook.grad.any()


def test_straight_through_keeps_the_shape_and_the_gradient():
    quantizer = VectorQuantizer(8, 4)
    latents = torch.randn(2, 5, 4, requires_grad=True)
    upstream = torch.randn(2, 5, 4)
    quantized = quantizer.straight_through(latents)
    expected = quantizer.codebook[brute_force_codes(latents.detach().flatten(0, 1), quantizer.codebook)]
    torch.testing.assert_close(quantized, expected.view(2, 5, 4))
    (quantized * upstream).sum().backward()
    assert torch.equal(latents.grad, upstream)


def test_the_commitment_loss_pulls_latents_and_never_a_codebook_of_averages():
    quantizer = VectorQuantizer(8, 4, commitment_cost=0.25).eval()
    latents = torch.randn(20, 4, requires_grad=True)
    output = quantizer(latents)
    output.loss.backward()
    distance = latents.detach() - quantizer.codebook[output.codes]
    torch.testing.assert_close(output.loss, 0.25 * distance.square().mean())
    torch.testing.assert_close(latents.grad, 0.25 * 2 * distance / distance.numel())
    assert not quantizer.codebook.requires_grad
    assert quantizer.codebook.grad is None


def test_without_average_the_codebook_learns_by_gradient():
    quantizer = VectorQuantizer(8, 4, commitment_cost=0.25, ema_decay=0)
    latents = torch.randn(20, 4, requires_grad=True)
    before = quantizer.codebook.detach().clone()
    output = quantizer(latents)
    output.loss.backward()
    distance = latents.detach() - before[output.codes]
    torch.testing.assert_close(output.loss, 1.25 * distance.square().mean())
    torch.testing.assert_close(latents.grad, 0.25 * 2 * distance / distance.numel())
    expected = torch.zeros(8, 4).index_add(0, output.codes, -2 * distance / distance.numel())
    torch.testing.assert_close(quantizer.codebook.grad, expected)
    assert torch.equal(quantizer.codebook, before), "training mode moved a codebook that the optimizer moves"


# ---- the moving average ----


def average_of_the_design(codebook, batches, decay=0.99, eps=1e-5):
    """DESIGN, VectorQuantizer, one code at a time in float64, from N = 1 and M = e: the codebook, N and M after it all."""
    size = len(codebook)
    counts, sums, vectors = [1.0] * size, list(codebook.double()), list(codebook.double())
    for batch in batches:
        codes = brute_force_codes(batch, torch.stack(vectors))
        for k in range(size):
            counts[k] = decay * counts[k] + (1 - decay) * int((codes == k).sum())
            sums[k] = decay * sums[k] + (1 - decay) * batch[codes == k].double().sum(dim=0)
        total = sum(counts)
        counts = [(n + eps) / (total + size * eps) * total for n in counts]
        vectors = [m / n for m, n in zip(sums, counts, strict=True)]
    return torch.stack(vectors), torch.tensor(counts), torch.stack(sums)


@pytest.mark.parametrize("decay", [0.99, 0.5])
def test_the_codebook_follows_the_formula_of_the_design(decay):
    quantizer = VectorQuantizer(12, 3, ema_decay=decay)
    start = quantizer.codebook.detach().clone()
    batches = [torch.randn(40, 3) + 0.1 * step for step in range(6)]
    for batch in batches:
        quantizer(batch)
    vectors, counts, sums = average_of_the_design(start, batches, decay)
    torch.testing.assert_close(quantizer.codebook.detach().double(), vectors, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(quantizer.cluster_size.double(), counts.double(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(quantizer.embedding_sum.double(), sums, rtol=1e-5, atol=1e-6)


def test_the_average_resumes_where_a_saved_one_stopped():
    batches = [torch.randn(40, 3) for _ in range(4)]
    straight = VectorQuantizer(12, 3)
    resumed = VectorQuantizer(12, 3)
    resumed.load_state_dict(straight.state_dict())
    for batch in batches:
        straight(batch)
    for batch in batches[:2]:
        resumed(batch)
    second = VectorQuantizer(12, 3)
    second.load_state_dict(resumed.state_dict())
    for batch in batches[2:]:
        second(batch)
    assert_same(straight.state_dict(), second.state_dict())


def test_codes_that_are_never_used_stay_where_they_are_or_shrink():
    quantizer = VectorQuantizer(16, 4)
    latents = 0.01 * torch.randn(64, 4) + 5  # one spot: nearly all codes are unused
    largest = max(quantizer.codebook.norm(dim=1).max(), latents.norm(dim=1).max())
    for _ in range(1500):
        quantizer(latents)
        assert quantizer.codebook.norm(dim=1).max() <= 1.01 * largest
    assert quantizer.codebook.isfinite().all()


@pytest.mark.parametrize("ema_decay", [0.99, 0])
@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_evaluation_and_encoding_never_change_a_buffer(ema_decay, threshold):
    quantizer = VectorQuantizer(8, 3, ema_decay=ema_decay, dead_code_threshold=threshold)
    quantizer(torch.randn(30, 3))
    before = buffers(quantizer)
    quantizer.nearest_codes(torch.randn(30, 3))
    quantizer.straight_through(torch.randn(30, 3))
    quantizer.eval()(torch.randn(30, 3))
    assert_same(buffers(quantizer), before)


def test_training_moves_the_codebook_towards_its_rows():
    quantizer = VectorQuantizer(4, 2, ema_decay=0.5)
    latents = torch.randn(200, 2) + 3
    first = quantizer(latents).loss
    for _ in range(20):
        last = quantizer(latents).loss
    assert last < 0.5 * first


# ---- precision ----


def test_float32_under_autocast():
    latents = torch.randn(3000, 4)  # so many that rounded distances would choose another code for some
    plain, mixed = VectorQuantizer(64, 4), VectorQuantizer(64, 4)
    mixed.load_state_dict(plain.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        codes = mixed.nearest_codes(latents)
        output = mixed(latents)
    assert torch.equal(codes, plain.nearest_codes(latents))
    expected = plain(latents)
    for name in ("quantized", "codes", "loss", "perplexity", "code_usage"):
        assert torch.equal(getattr(output, name), getattr(expected, name)), name
    assert output.quantized.dtype == output.loss.dtype == torch.float32
    assert_same(mixed.state_dict(), plain.state_dict())


def test_half_precision_latents_are_quantized_and_averaged_in_float32():
    latents = torch.randn(50, 4).bfloat16()
    quantizer, reference = VectorQuantizer(16, 4), VectorQuantizer(16, 4)
    reference.load_state_dict(quantizer.state_dict())
    output, expected = quantizer(latents), reference(latents.float())
    assert torch.equal(output.codes, expected.codes)
    assert output.quantized.dtype == torch.float32
    assert_same(quantizer.state_dict(), reference.state_dict())


def test_a_quantizer_cast_to_half_precision_still_trains():
    latents = torch.randn(200, 4)
    quantizer = VectorQuantizer(16, 4, ema_decay=0.9).bfloat16()
    first = quantizer(latents).loss
    for _ in range(20):
        last = quantizer(latents.bfloat16()).loss
    assert quantizer.codebook.dtype == torch.bfloat16
    assert last < first


# ---- health ----


def test_perplexity_is_the_exponential_of_the_entropy_of_the_usage():
    quantizer = VectorQuantizer(10, 2).eval()
    codes = torch.tensor([0] * 6 + [3] * 3 + [7])
    output = quantizer(quantizer.codebook.detach()[codes])
    shares = torch.tensor([0.6, 0.3, 0.1])
    torch.testing.assert_close(output.perplexity, torch.exp(-(shares * shares.log()).sum()))
    torch.testing.assert_close(output.code_usage, torch.tensor(0.3))


def usage_after_training(threshold: float) -> float:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(32, 4, ema_decay=0.9, dead_code_threshold=threshold)
    for _ in range(60):
        quantizer(torch.randn(512, 4) + 20)  # far from the standard normal codebook: one or two codes win everything
    return quantizer.eval()(torch.randn(512, 4) + 20).code_usage.item()


def test_dead_codes_are_revived_when_asked_and_only_then():
    assert usage_after_training(threshold=0.0) < 0.2
    assert usage_after_training(threshold=0.1) > 0.9


def test_codes_in_use_are_not_moved_by_revival():
    latents = torch.randn(400, 3)
    plain, reviving = VectorQuantizer(4, 3), VectorQuantizer(4, 3, dead_code_threshold=0.01)
    reviving.load_state_dict(plain.state_dict())
    for _ in range(5):
        assert plain(latents).code_usage == 1
        reviving(latents)
    assert_same(plain.state_dict(), reviving.state_dict())


# ---- several processes ----


def test_two_processes_learn_the_codebook_of_one_with_both_batches(tmp_path):
    singles = {"plain": seeded_quantizer(), "reviving": seeded_quantizer(0.5)}
    for single in singles.values():
        torch.manual_seed(100)
        for batch in quantizer_batches():
            single(torch.cat(batch))
    first, second = run_in_two_processes(train_quantizers, tmp_path)
    assert first["world_size"] == second["world_size"] == 2
    for name in ("plain", "reviving"):
        assert_same(first["result"][name], second["result"][name])
        for key, expected in singles[name].state_dict().items():
            torch.testing.assert_close(first["result"][name][key], expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(first["result"]["plain"]["codebook"], first["result"]["reviving"]["codebook"])
