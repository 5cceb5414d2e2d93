import os
import time

import pytest

from vqmae_hf.data.worker_pool import WorkerLoss, map_in_order


def double(number):
    return 2 * number


def misbehave(number):
    """Crash at 3, hang at 5, as a codec may."""
    if number == 3:
        os._exit(7)
    if number == 5:
        time.sleep(600)
    return 2 * number


def refuse(number):
    if number == 2:
        raise ValueError("two is refused")
    return number


def test_one_process_works_here_and_only_as_far_as_is_asked():
    taken = []
    outcomes = map_in_order(double, (taken.append(i) or i for i in range(10)), 1)
    assert [next(outcomes), next(outcomes)] == [0, 2]
    assert taken == [0, 1]


@pytest.mark.slow
def test_a_crash_and_a_hang_are_the_outcome_of_their_item_alone():
    outcomes = list(map_in_order(misbehave, range(8), 2, seconds_per_item=8))
    assert [outcome for i, outcome in enumerate(outcomes) if i not in (3, 5)] == [0, 2, 4, 8, 12, 14]
    assert isinstance(outcomes[3], WorkerLoss)
    assert "died" in outcomes[3].reason
    assert outcomes[5] == WorkerLoss("gave up after 8 seconds")


@pytest.mark.slow
def test_an_error_of_the_function_is_raised_and_ends_the_processes():
    with pytest.raises(ValueError, match="two is refused"):
        list(map_in_order(refuse, range(1000), 2))
