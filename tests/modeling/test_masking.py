"""Which tubes are hidden: ratios, permutations, strategies, explicit masks, padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import build, vqmae_config

from vqmae_hf.modeling.masking import (
    MASK_STRATEGIES,
    count_visible,
    draw_ratios,
    explicit_masking,
    gather_tubes,
    random_masking,
)
from vqmae_hf.modeling.modeling_vqmae import VQMAEForPreTraining

GRID = (4, 2, 3)  # times, rows, columns: 24 tubes


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_consistent(masking, tubes: int) -> None:
    """The mask and the two index lists say the same of every clip, each tube once."""
    for clip, mask in enumerate(masking.mask):
        visible, masked = masking.visible_ids[clip], masking.masked_ids[clip]
        if masking.visible_real is not None:
            visible, masked = visible[masking.visible_real[clip]], masked[masking.masked_real[clip]]
        assert visible.tolist() == (~mask).nonzero().flatten().tolist()
        assert masked.tolist() == mask.nonzero().flatten().tolist()
        assert len(visible) + len(masked) == tubes


# ---- ratios ----


def test_what_one_modality_hides_the_other_shows():
    generator = seeded()
    for _ in range(200):
        visual, audio = draw_ratios((1.0, 1.0), generator=generator)
        assert visual + audio == pytest.approx(1, abs=1e-12)
        assert 0 <= visual <= 1


@pytest.mark.parametrize("alpha", [(1.0, 1.0), (20.0, 1.0), (1.0, 3.0), (0.5, 0.5)])
def test_ratios_follow_the_dirichlet_distribution(alpha):
    generator = seeded()
    ratios = torch.tensor([draw_ratios(alpha, generator=generator)[0] for _ in range(4000)])
    total = sum(alpha)
    mean = alpha[0] / total
    deviation = (mean * (1 - mean) / (total + 1)) ** 0.5
    assert ratios.mean() == pytest.approx(mean, abs=4 * deviation / 4000**0.5)
    assert ratios.std() == pytest.approx(deviation, rel=0.1)


@pytest.mark.parametrize("alpha", [(1.0, 1.0), (1.0, 3.0), (0.5, 0.5)])
def test_ratios_drawn_on_their_own_have_the_same_distributions_and_nothing_in_common(alpha):
    generator = seeded()
    ratios = torch.tensor([draw_ratios(alpha, coupled=False, generator=generator) for _ in range(4000)])
    total = sum(alpha)
    for column, own in zip(ratios.T, alpha, strict=True):
        mean = own / total
        deviation = (mean * (1 - mean) / (total + 1)) ** 0.5
        assert column.mean() == pytest.approx(mean, abs=4 * deviation / 4000**0.5)
        assert column.std() == pytest.approx(deviation, rel=0.1)
    assert abs(torch.corrcoef(ratios.T)[0, 1]) < 4 / 4000**0.5


def test_a_model_draws_its_ratios_as_its_configuration_says():
    for coupled in (True, False):
        model = build(VQMAEForPreTraining, vqmae_config(coupled_masking=coupled))
        ratios = model.mask_ratios(None, seeded(3))
        assert tuple(ratios.values()) == draw_ratios((1.0, 1.0), coupled, seeded(3))
        assert (sum(ratios.values()) == pytest.approx(1)) == coupled


def test_ratios_are_uniform_for_the_alpha_of_the_paper():
    generator = seeded()
    ratios = torch.tensor([draw_ratios((1, 1), generator=generator)[0] for _ in range(4000)])
    assert torch.histc(ratios, bins=4, min=0, max=1).sub(1000).abs().max() < 150


def test_the_seed_decides_the_ratios_and_the_default_generator_is_used_without_one():
    assert draw_ratios((1, 1), generator=seeded(3)) == draw_ratios((1, 1), generator=seeded(3))
    assert draw_ratios((1, 1), generator=seeded(3)) != draw_ratios((1, 1), generator=seeded(4))
    torch.manual_seed(5)
    first = draw_ratios((1, 1))
    torch.manual_seed(5)
    assert draw_ratios((1, 1)) == first


@pytest.mark.parametrize(
    ("tubes", "ratio", "visible"),
    [
        (360, 0.5, 180),
        (10, 0.25, 8),  # 7.5 and 6.5: half to even
        (10, 0.35, 6),
        (5, 0.5, 2),  # 2.5
        (3, 0.5, 2),  # 1.5
        (360, 1.0, 1),  # never nothing
        (360, 0.999, 1),
        (360, 0.0, 360),
    ],
)
def test_visible_tubes_are_rounded_half_to_even_and_at_least_one(tubes, ratio, visible):
    assert count_visible(tubes, ratio) == visible


# ---- random masks ----


@given(
    strategy=st.sampled_from(MASK_STRATEGIES),
    ratio=st.floats(0, 1),
    grid=st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    padded=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150, deadline=None)
def test_every_mask_hides_the_ratio_in_whole_groups_and_shows_something_real(strategy, ratio, grid, padded, seed):
    times, positions = grid[0], grid[1] * grid[2]
    real = None
    if padded:  # clips of 0, 1 and 2 time steps
        steps = torch.arange(times) < torch.arange(3)[:, None]
        real = steps[:, :, None].expand(-1, -1, positions).flatten(1)
    masking = random_masking(3, grid, ratio, strategy, real, seeded(seed))
    assert_consistent(masking, times * positions)

    mask = masking.mask.view(3, times, positions)
    if strategy == "frame":
        assert torch.equal(mask.any(dim=2), mask.all(dim=2))
        groups, size = times, positions
    elif strategy == "frequency":
        assert torch.equal(mask.any(dim=1), mask.all(dim=1))
        groups, size = positions, times
    else:
        groups, size = times * positions, 1
    visible = max(1, round(groups * (1 - ratio))) * size
    assert (~masking.mask).sum(dim=1).tolist() == [visible] * 3
    if real is not None:
        has_real = real.any(dim=1)
        assert torch.equal((~masking.mask & real).any(dim=1), has_real), "a clip shows nothing but padding"


def test_each_clip_has_a_permutation_of_its_own():
    masks = random_masking(20, GRID, 0.5, generator=seeded()).mask
    assert len({tuple(mask.tolist()) for mask in masks}) == 20


def test_every_tube_is_hidden_equally_often():
    masks = random_masking(4000, GRID, 0.25, generator=seeded()).mask
    assert (masks.float().mean(dim=0) - 0.25).abs().max() < 0.035
    # ... and the tubes of a clip independently of each other, as far as their number allows.
    together = (masks[:, 0] & masks[:, 1]).float().mean()
    assert together == pytest.approx(6 / 24 * 5 / 23, abs=0.02)


@pytest.mark.parametrize("strategy", MASK_STRATEGIES)
def test_the_seed_decides_the_mask(strategy):
    first = random_masking(4, GRID, 0.5, strategy, generator=seeded(1))
    assert torch.equal(first.mask, random_masking(4, GRID, 0.5, strategy, generator=seeded(1)).mask)
    assert not torch.equal(first.mask, random_masking(4, GRID, 0.5, strategy, generator=seeded(2)).mask)
    torch.manual_seed(7)
    unseeded = random_masking(4, GRID, 0.5, strategy)
    torch.manual_seed(7)
    assert torch.equal(unseeded.mask, random_masking(4, GRID, 0.5, strategy).mask)


def test_padding_does_not_change_how_much_is_hidden_but_the_single_visible_tube_is_a_real_one():
    real = torch.zeros(50, 24, dtype=torch.bool)
    real[:, :6] = True  # one time step of four
    masking = random_masking(50, GRID, 1.0, real=real, generator=seeded())
    assert masking.visible_ids.shape == (50, 1)
    assert (masking.visible_ids < 6).all()
    assert len(masking.visible_ids.unique()) == 6, "which real tube it is, is still drawn"


def test_an_unknown_strategy_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'band'.*'random', 'frame', 'frequency'"):
        random_masking(1, GRID, 0.5, "band")


# ---- explicit masks ----


@given(counts=st.lists(st.integers(0, 6), min_size=1, max_size=4), seed=st.integers(0, 100))
@settings(max_examples=60, deadline=None)
def test_explicit_masks_may_hide_any_number_in_each_clip(counts, seed):
    noise = torch.rand(len(counts), 6, generator=seeded(seed))
    mask = noise.argsort(dim=1).argsort(dim=1) < torch.tensor(counts)[:, None]
    masking = explicit_masking(mask)
    assert torch.equal(masking.mask, mask)
    assert_consistent(masking, 6)
    if len(set(counts)) == 1:
        assert masking.visible_real is None
        assert masking.masked_real is None
    else:
        assert masking.visible_ids.shape[1] == 6 - min(counts)
        assert masking.masked_ids.shape[1] == max(counts)


def test_an_explicit_mask_is_the_random_one_it_came_from():
    drawn = random_masking(5, GRID, 0.4, generator=seeded())
    explicit = explicit_masking(drawn.mask)
    assert torch.equal(explicit.visible_ids, drawn.visible_ids)
    assert torch.equal(explicit.masked_ids, drawn.masked_ids)


def test_gathering_is_indexing_clip_by_clip():
    tubes = torch.randn(3, 6, 4, 2)
    ids = torch.tensor([[5, 0], [1, 1], [2, 3]])
    expected = torch.stack([clip[index] for clip, index in zip(tubes, ids, strict=True)])
    assert torch.equal(gather_tubes(tubes, ids), expected)
    assert torch.equal(gather_tubes(tubes[..., 0, 0], ids), expected[..., 0, 0])
