"""Several threads may share a model, and torch's deterministic mode holds for every one, forward and backward."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from every_model import EVERY_MODEL, draws, named_tensors
from small_models import assert_same, buffers, gradients

THREADS, CALLS = 4, 16

every_model = pytest.mark.parametrize("name", list(EVERY_MODEL))


def clip_of(inputs, i):
    """The inputs with clip i alone, so that threads at work together work on different things."""
    return {name: value[i : i + 1] for name, value in inputs.items()}


@every_model
def test_one_model_in_several_threads_answers_as_in_one(name):
    model, inputs = EVERY_MODEL[name]()
    clips = [clip_of(inputs, i) for i in range(len(next(iter(inputs.values()))))]
    together = threading.Barrier(THREADS)

    def call(i):
        # The mode of gradients belongs to a thread: half of them keep a graph.
        with torch.set_grad_enabled(i % 2 == 0):
            return {
                field: tensor.detach().clone()
                for field, tensor in named_tensors(model(**clips[i % len(clips)], **draws(model))).items()
            }

    def call_together(i):
        together.wait(timeout=60)
        return call(i)

    before = buffers(model)
    expected = [call(i) for i in range(CALLS)]
    with ThreadPoolExecutor(THREADS) as threads:
        results = list(threads.map(call_together, range(CALLS)))
    assert any(not torch.equal(expected[0][field], expected[1][field]) for field in expected[0])
    for result, reference in zip(results, expected, strict=True):
        torch.testing.assert_close(result, reference, rtol=1e-5, atol=1e-6)
    assert_same(buffers(model), before)


@pytest.fixture
def _deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def train_once(name):
    """Outputs, gradients and moved buffers of one pass in training mode, of a model built anew."""
    model, inputs = EVERY_MODEL[name]()
    model.train()
    torch.manual_seed(0)
    output = model(**inputs, **draws(model))
    output.loss.backward()
    return (
        {field: tensor.detach() for field, tensor in named_tensors(output).items()},
        gradients(model),
        buffers(model),
    )


@every_model
@pytest.mark.usefixtures("_deterministic")
def test_the_deterministic_mode_of_torch_holds_forward_and_backward(name):
    """torch raises where an operation has no deterministic form; and the same comes out twice, to the bit."""
    first, second = train_once(name), train_once(name)
    assert len(first[1]) > 3
    for before, after in zip(first, second, strict=True):
        assert_same(before, after)
