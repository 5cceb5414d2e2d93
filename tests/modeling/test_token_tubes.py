"""Codes and tubes: the order of the design, and its inverse."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqmae_hf.modeling.token_tubes import (
    audio_codes_to_tubes,
    audio_tubes_to_codes,
    visual_codes_to_tubes,
    visual_tubes_to_codes,
)

extent = st.integers(1, 4)


def numbered(*shape: int) -> torch.Tensor:
    """Every code has a number of its own, so that a tube tells where its codes came from."""
    return torch.arange(torch.Size(shape).numel()).view(shape)


def audio_tubes_by_hand(codes, tube_size):
    """Tubes in time, then frequency; inside, frequency, then time."""
    spectra, bands = tube_size
    clips = []
    for clip in codes.tolist():
        tubes = []
        for start in range(0, len(clip), spectra):
            for band in range(0, len(clip[0]), bands):
                tubes.append([clip[start + t][band + f] for f in range(bands) for t in range(spectra)])
        clips.append(tubes)
    return torch.tensor(clips)


def visual_tubes_by_hand(codes, tube_size):
    """Tubes in time, then rows, then columns; inside, rows, then columns, then time."""
    frames, rows, columns = tube_size
    clips = []
    for clip in codes.tolist():
        tubes = []
        for start in range(0, len(clip), frames):
            for top in range(0, len(clip[0]), rows):
                for left in range(0, len(clip[0][0]), columns):
                    tubes.append(
                        [
                            clip[start + t][top + r][left + c]
                            for r in range(rows)
                            for c in range(columns)
                            for t in range(frames)
                        ]
                    )
        clips.append(tubes)
    return torch.tensor(clips)


@given(clips=st.integers(1, 2), grid=st.tuples(extent, extent), tube=st.tuples(extent, extent))
@settings(max_examples=60, deadline=None)
def test_audio_tubes_are_those_of_the_loops_and_can_be_undone(clips, grid, tube):
    codes = numbered(clips, grid[0] * tube[0], grid[1] * tube[1])
    tubes = audio_codes_to_tubes(codes, tube)
    assert torch.equal(tubes, audio_tubes_by_hand(codes, tube))
    assert torch.equal(audio_tubes_to_codes(tubes, grid, tube), codes)


@given(clips=st.integers(1, 2), grid=st.tuples(extent, extent, extent), tube=st.tuples(extent, extent, extent))
@settings(max_examples=60, deadline=None)
def test_visual_tubes_are_those_of_the_loops_and_can_be_undone(clips, grid, tube):
    codes = numbered(clips, *(g * t for g, t in zip(grid, tube, strict=True)))
    tubes = visual_codes_to_tubes(codes, tube)
    assert torch.equal(tubes, visual_tubes_by_hand(codes, tube))
    assert torch.equal(visual_tubes_to_codes(tubes, grid, tube), codes)


def test_the_sizes_of_the_paper():
    assert visual_codes_to_tubes(numbered(1, 50, 24, 24), (5, 4, 4)).shape == (1, 360, 80)
    assert audio_codes_to_tubes(numbered(1, 100, 64), (10, 4)).shape == (1, 160, 40)
