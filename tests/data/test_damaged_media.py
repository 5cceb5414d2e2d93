"""The short form of `damaged_media.py`: 75 damaged files, each a clip or a typed error, in time, and nothing left behind."""

import numpy as np
import pytest
from damaged_media import Report, check, read_all, write_damaged_files
from media_mutations import KINDS, base_files, mutated
from unreliable_readers import die_or_hang

from vqmae_hf.data.clips import Clip

ERRORS = {"UnreadableMediaError", "EmptyClipError", "ClipTooLongError", "MissingVideoError", "MissingAudioError"}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Report:
    paths = write_damaged_files(tmp_path_factory.mktemp("damaged"), 75, seed=1)
    return read_all(paths)


def test_each_ends_in_a_clip_or_a_typed_error(report):
    assert report.failures == []
    assert len(report.outcomes) == 75
    assert set(report.outcomes.values()) <= {"Clip", *ERRORS}


def test_the_damage_is_neither_harmless_nor_total(report):
    outcomes = list(report.outcomes.values())
    assert outcomes.count("Clip") > 10
    assert outcomes.count("UnreadableMediaError") > 10


def test_none_hangs_or_makes_the_process_grow(report):
    assert "hang" not in report.outcomes.values()
    assert report.growth_megabytes < 30, "read once more, the same files leave something behind"
    assert report.peak_megabytes < 1500


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_seeded_and_changes_the_file(kind):
    content = base_files()["mkv"]
    first, again, other = (mutated(content, "mkv", kind, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != content
    assert other != first


def test_the_program_counts_crashes_and_hangs(tmp_path, monkeypatch):
    """What no FFmpeg we know does: the reading process dies, or does not answer."""
    monkeypatch.setattr("damaged_media._serve", die_or_hang)
    monkeypatch.setattr("damaged_media.PATIENCE_SECONDS", 1.0)
    report = read_all([tmp_path / "crash.wav", tmp_path / "hang.wav"])
    assert report.outcomes == {"crash.wav": "crash", "hang.wav": "hang"}
    assert report.failures == [
        ("crash.wav", "crash", "exit code 3"),
        ("hang.wav", "hang", "no answer within 1 seconds"),
    ]
    assert report.growth_megabytes is None


def test_clips_that_no_processor_takes_are_noticed():
    frames, boxes, waveform = np.zeros((5, 32, 32, 3), np.uint8), np.zeros((5, 4)), np.zeros(3200, np.float32)
    check(Clip(frames, waveform, 25, 16000, boxes, "fine"))
    for harmed in ((frames, waveform[1:], boxes), (frames, waveform + np.nan, boxes), (None, None, None)):
        with pytest.raises(AssertionError):
            check(Clip(harmed[0], harmed[1], 25, 16000, harmed[2], "harmed"))
