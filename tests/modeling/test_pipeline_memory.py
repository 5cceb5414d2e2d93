"""Calls of a pipeline leave nothing behind; benchmarks/pipeline_memory.py measures the same for thousands of calls."""

import gc
import itertools
import json
from pathlib import Path

import torch
from benchmarks.pipeline_memory import RESULTS, clips, growth_per_thousand_calls, small_pipeline

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


def test_the_page_says_what_was_measured():
    report = json.loads(RESULTS.read_text())
    memory = [reading["resident_megabytes"] for reading in report["readings"]]
    growth_per_thousand = growth_per_thousand_calls(report["readings"])
    assert growth_per_thousand == report["megabytes_per_1000_calls"]
    page = (Path(__file__).parents[2] / "docs" / "faq.md").read_text(encoding="utf-8").replace("\n", " ")
    assert f"In {report['calls']:,} calls of a pipeline" in page
    assert (
        f"between {min(memory):.0f} and {max(memory):.0f} MB and grew by {growth_per_thousand:.2f} MB per 1,000"
        in page
    )
