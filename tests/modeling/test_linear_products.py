"""Linear layers by oneDNN: what `F.linear` computes, and only where it is meant to be."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from vqmae_hf.modeling import linear_products
from vqmae_hf.modeling.linear_products import (
    SMALLEST,
    Linear,
    goes_to_onednn,
    joined,
    linear,
    onednn_product,
)

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
ROWS, INPUTS, OUTPUTS = 64, 256, 320


def random_layer(weight=None):
    torch.manual_seed(0)
    weight = torch.randn(OUTPUTS, INPUTS) if weight is None else weight
    parts = [torch.randn(4, ROWS // 4, size, requires_grad=True) for size in (INPUTS - 96, 96)]
    return parts, weight.requires_grad_(), torch.randn(OUTPUTS, requires_grad=True)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.detach().abs().max()))


def counted_products(monkeypatch):
    """Shapes of the weights of all products from now on."""
    products = []

    def counted(inputs, weight, bias=None):
        products.append(tuple(weight.shape))
        return onednn_product(inputs, weight, bias)

    monkeypatch.setattr(linear_products, "onednn_product", counted)
    return products


WEIGHTS = {
    "rows": lambda: torch.randn(OUTPUTS, INPUTS),
    "columns": lambda: torch.randn(INPUTS, OUTPUTS).t(),
    "some of more columns": lambda: torch.randn(OUTPUTS, 2 * INPUTS)[:, 8 : 8 + INPUTS],
}


@pytest.mark.parametrize("layout", WEIGHTS)
def test_outputs_and_gradients_are_those_of_torch(layout):
    parts, weight, bias = random_layer(WEIGHTS[layout]().detach())
    assert goes_to_onednn(parts, weight)
    expected = F.linear(joined(parts), weight, bias)
    found = linear(parts, weight, bias)
    close(found, expected)
    with torch.no_grad():
        assert torch.equal(linear(parts, weight, bias), found), "the same with and without gradients"
    asked = torch.randn_like(expected)
    arguments = [*parts, weight, bias]
    for ours, theirs in zip(
        torch.autograd.grad(found, arguments, asked), torch.autograd.grad(expected, arguments, asked), strict=True
    ):
        close(ours, theirs)


def test_gradients_have_gradients():
    parts, weight, bias = random_layer()
    penalties = []
    for outputs in (linear(parts, weight, bias), F.linear(joined(parts), weight, bias)):
        (gradient,) = torch.autograd.grad(outputs.square().sum(), parts[:1], create_graph=True)
        penalties.append(torch.autograd.grad(gradient.square().sum(), weight)[0])
    close(*penalties)


def test_a_part_without_gradient_costs_none(monkeypatch):
    parts, weight, bias = random_layer()
    products = counted_products(monkeypatch)
    monkeypatch.setattr(linear_products, "SMALLEST", 1)
    linear([parts[0].detach(), parts[1]], weight, bias).sum().backward()
    assert products == [(OUTPUTS, INPUTS), (96, OUTPUTS)]


def test_a_checkpoint_does_not_repeat_the_product(monkeypatch):
    parts, weight, bias = random_layer()
    products = counted_products(monkeypatch)
    inputs = joined(parts).detach().requires_grad_()
    outputs = checkpoint(lambda inputs: linear([torch.tanh(inputs)], weight, bias), inputs, use_reentrant=False)
    outputs.sum().backward()
    assert products == [(OUTPUTS, INPUTS), (INPUTS, OUTPUTS)], "forward; back to the inputs"
    (expected,) = torch.autograd.grad(F.linear(torch.tanh(inputs), weight, bias).sum(), inputs)
    close(inputs.grad, expected)


def test_all_else_is_left_to_torch(monkeypatch):
    parts, weight, bias = random_layer()
    assert weight.numel() * ROWS >= SMALLEST
    assert not goes_to_onednn([part[:, :1] for part in parts], weight), "small"
    assert not goes_to_onednn([part.double() for part in parts], weight.double())
    assert not goes_to_onednn([part.to("meta") for part in parts], weight.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not goes_to_onednn(parts, weight)
        assert linear(parts, weight, bias).dtype == torch.bfloat16
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    assert not goes_to_onednn(parts, weight), "as the user wishes"


def test_the_layer_is_one_of_torch_with_other_products():
    torch.manual_seed(0)
    layer = Linear(INPUTS, OUTPUTS)
    plain = nn.Linear(INPUTS, OUTPUTS)
    plain.load_state_dict(layer.state_dict())
    inputs = torch.randn(ROWS, INPUTS)
    close(layer(inputs), plain(inputs))
    exported = torch.export.export(layer, (inputs,)).module()
    close(exported(inputs), plain(inputs))
    assert "mkldnn" not in str(exported.code)
