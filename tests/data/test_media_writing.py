"""Written clips come back: at their time, at their level, in their colours, whole or not at all."""

from fractions import Fraction

import numpy as np
import pytest
from media_by_hand import (
    click_seconds,
    flash_and_click,
    flash_seconds,
    frame_numbers,
    numbered_frames,
    tone,
)

from vqmae_hf.data.media import read_media, write_clip


class TestWrittenClips:
    def test_pictures_and_sound_come_back(self, tmp_path):
        rng = np.random.default_rng(3)
        frames = np.kron(rng.integers(30, 220, (50, 4, 4, 3)), np.ones((1, 16, 16, 1))).astype(np.uint8)
        waveform = tone(2.0)
        media = read_media(write_clip(tmp_path / "clip.mp4", frames, waveform))
        assert media.frames.shape == frames.shape
        assert media.waveform.shape == waveform.shape
        assert np.abs(media.frames.astype(int) - frames).mean() < 8
        assert np.abs(media.frames[..., :].mean((0, 1, 2)) - frames.mean((0, 1, 2))).max() < 2, "a colour cast"
        assert np.abs(media.waveform[2000:-2000] - waveform[2000:-2000]).max() < 0.02

    def test_the_same_arrays_give_the_same_bytes(self, tmp_path):
        # Gradients and a flash: content with which x264's vector code was seen to waver.
        frames = np.zeros((50, 96, 96, 3), np.uint8)
        frames[..., 0] = np.linspace(0, 255, 96)
        frames[..., 2] = 5 * np.arange(50)[:, None, None]
        frames[20] = 255
        files = [write_clip(tmp_path / f"{i}.mp4", frames, tone(2.0)).read_bytes() for i in range(6)]
        assert len(set(files)) == 1

    @pytest.mark.parametrize("rate", [25, 30, Fraction(30000, 1001)])
    def test_flash_and_click_stay_together(self, tmp_path, rate):
        frames, waveform = flash_and_click(rate=30 if rate != 25 else 25)
        media = read_media(
            write_clip(tmp_path / "clip.mp4", frames, waveform, frames_per_second=rate), frames_per_second=rate
        )
        assert abs(flash_seconds(media.frames, rate) - 0.8) < 0.02
        assert abs(click_seconds(media.waveform) - 0.8) < 0.002
        assert abs(flash_seconds(media.frames, rate) - click_seconds(media.waveform)) < 0.02

    def test_sound_alone_keeps_its_length(self, tmp_path):
        media = read_media(write_clip(tmp_path / "clip.m4a", None, tone(1.2345)))
        assert media.frames is None
        assert len(media.waveform) == len(tone(1.2345)), "AAC fills up its last packet; the file says where it ended"

    def test_pictures_alone(self, tmp_path):
        media = read_media(write_clip(tmp_path / "clip.mp4", numbered_frames(10), None))
        assert media.waveform is None
        np.testing.assert_array_equal(frame_numbers(media.frames), np.arange(10))

    def test_nothing_half_written_is_left(self, tmp_path, monkeypatch):
        write_clip(tmp_path / "clip.mp4", numbered_frames(5), None)
        before = (tmp_path / "clip.mp4").read_bytes()
        monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            write_clip(tmp_path / "clip.mp4", numbered_frames(9), None)
        assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
        assert (tmp_path / "clip.mp4").read_bytes() == before

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"path": "clip.avi"}, "accepted endings"),
            ({"frames": None, "waveform": None}, "at least one"),
            ({"frames": np.zeros((5, 31, 48, 3), np.uint8)}, "crop to 30 x 48"),
            ({"frames": np.zeros((5, 32, 48, 3), np.float32)}, "uint8 RGB"),
            ({"frames": np.zeros((0, 32, 48, 3), np.uint8)}, "at least one frame"),
            ({"waveform": np.zeros((2, 100), np.float32)}, "average the channels"),
            ({"waveform": np.zeros(100, np.int16)}, "divide 16-bit integers"),
            ({"waveform": np.full(100, 1.5, np.float32)}, "divide by the peak"),
            ({"waveform": np.full(100, np.nan, np.float32)}, "peak magnitude is nan"),
            ({"frames_per_second": 0}, "frames_per_second"),
            ({"sampling_rate": 16001}, "16000"),
        ],
    )
    def test_what_cannot_be_written_is_refused_by_name(self, tmp_path, arguments, message):
        given = {"path": "clip.mp4", "frames": numbered_frames(5), "waveform": tone(0.2)} | arguments
        with pytest.raises(ValueError, match=message):
            write_clip(tmp_path / given.pop("path"), given.pop("frames"), given.pop("waveform"), **given)
        assert list(tmp_path.iterdir()) == []
