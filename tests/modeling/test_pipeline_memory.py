"""Calls of a pipeline leave nothing behind; benchmarks/pipeline_memory.py measures the same for thousands of calls."""

import gc
import itertools

import torch
from benchmarks.pipeline_memory import clips, small_pipeline

WARM_UP, CALLS = 20, 200
# What Python and torch keep for themselves now and then; one list or tensor kept per call would be CALLS.
ALLOWED_OBJECTS = CALLS // 4


def alive():
    """Objects that the garbage collector knows, and how many of them are tensors."""
    gc.collect()
    objects = gc.get_objects()
    return len(objects), sum(type(entry) is torch.Tensor for entry in objects)


def growth(call):
    """Objects, and tensors, that are there after the calls and were not before."""
    inputs = clips()
    for clip in itertools.islice(inputs, WARM_UP):
        call(clip)
    before = alive()
    for clip in itertools.islice(inputs, CALLS):
        call(clip)
    after = alive()
    return after[0] - before[0], after[1] - before[1]


def test_two_hundred_calls_leave_nothing_behind():
    objects, tensors = growth(small_pipeline())
    assert tensors == 0
    assert objects < ALLOWED_OBJECTS


def test_the_measurement_sees_what_is_kept():
    classify, results, inputs = small_pipeline(), [], []
    objects, _ = growth(lambda clip: results.append(classify(clip)))
    assert objects > ALLOWED_OBJECTS
    _, tensors = growth(lambda clip: inputs.append(classify.preprocess(clip)))
    assert tensors >= CALLS
