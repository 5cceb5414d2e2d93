"""Pictures and sound are read by time stamps and stay in step."""

from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile
from av.video.stream import VideoStream
from media_by_hand import (
    RATE,
    click_seconds,
    flash_and_click,
    flash_seconds,
    frame_numbers,
    numbered_frames,
    tone,
    write_streams,
)

from vqmae_hf.data import media_pictures
from vqmae_hf.data.errors import UnreadableMediaError
from vqmae_hf.data.media import FrameReader, read_media, read_waveform, write_clip


class TestTimeStamps:
    @pytest.mark.parametrize("offset", [-0.3, 0.0, 0.3])
    def test_streams_that_start_apart_stay_in_step(self, tmp_path, offset):
        """The sound track starts before or after the first picture: flash and click are still one moment."""
        frames, waveform = flash_and_click()
        sound = np.interp(np.arange(2 * 44100) / 44100, np.arange(len(waveform)) / RATE, waveform)
        if offset < 0:
            sound = np.concatenate([np.full(round(-offset * 44100), 0.05), sound])
        else:
            sound = sound[round(offset * 44100) :]
        pictures = [(1 + k / 25, image) for k, image in enumerate(frames)]
        path = str(tmp_path / "clip.mkv")
        write_streams(path, container_format="matroska", pictures=pictures, sound=sound[None], sound_start=1 + offset)
        media = read_media(path)
        assert media.frames.shape[0] == 50
        assert media.waveform.shape == (2 * RATE,)
        assert abs(flash_seconds(media.frames, 25) - 0.8) < 0.001
        assert abs(click_seconds(media.waveform) - 0.8) < 0.003
        if offset > 0:
            assert np.abs(media.waveform[: round(0.29 * RATE)]).max() == 0, "no sound before the track starts"

    @pytest.mark.parametrize("source_rate", [12.5, 24, 25, 29.97, 30, 50, 60])
    def test_frames_are_the_pictures_shown_at_their_time(self, tmp_path, source_rate):
        count = 60
        images = numbered_frames(count)
        pictures = [(k / source_rate, image) for k, image in enumerate(images)]
        path = str(tmp_path / "clip.mkv")
        write_streams(
            path,
            container_format="matroska",
            pictures=pictures,
            picture_rate=Fraction(source_rate).limit_denominator(1001),
        )
        frames = read_media(path).frames
        assert len(frames) == round(count / source_rate * 25)
        ticks, numbers = np.arange(len(frames)) / 25, frame_numbers(frames)
        middles = ticks + 0.02
        assert (numbers / source_rate <= middles + 0.001).all(), "no picture more than half a frame before its time"
        assert (numbers + 1 >= np.minimum(count, (middles - 0.003) * source_rate)).all(), (
            "no picture more than half a frame after the next is due"
        )

    def test_irregular_pictures_are_held_until_the_next(self, tmp_path):
        times = [0.0, 0.04, 0.5, 0.52, 0.92]
        path = str(tmp_path / "clip.mkv")
        write_streams(path, container_format="matroska", pictures=list(zip(times, numbered_frames(5), strict=True)))
        numbers = frame_numbers(read_media(path, end_seconds=1.0).frames)
        ticks = np.arange(len(numbers)) / 25
        np.testing.assert_array_equal(numbers, np.searchsorted(times, ticks + 0.018, side="right") - 1)

    def test_a_part_of_a_clip_is_that_part(self, tmp_path):
        waveform = np.linspace(-0.9, 0.9, 2 * RATE).astype(np.float32)
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(50), waveform)
        part = read_media(path, start_seconds=0.4, end_seconds=1.2)
        np.testing.assert_array_equal(frame_numbers(part.frames), np.arange(10, 30))
        assert part.waveform.shape == (round(0.8 * RATE),)
        assert np.abs(part.waveform - read_media(path).waveform[6400:19200]).max() == 0
        alone = read_waveform(path, start_seconds=0.4, end_seconds=1.2)
        assert np.abs(part.waveform - alone).max() == 0
        assert len(read_media(path, start_seconds=5.0).frames) == 0

    def test_short_sound_is_padded_to_the_frames(self, tmp_path):
        media = read_media(write_clip(tmp_path / "clip.mp4", numbered_frames(25), tone(0.5)))
        assert media.waveform.shape == (RATE,)
        assert np.abs(media.waveform[round(0.45 * RATE) : round(0.49 * RATE)]).max() > 0.4
        assert np.abs(media.waveform[round(0.6 * RATE) :]).max() < 1e-3

    def test_a_gap_in_the_sound_stays_a_gap(self, tmp_path):
        path = str(tmp_path / "gap.mkv")
        with av.open(path, "w", format="matroska") as container:
            stream = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
            for start in (0.0, 1.5):
                samples = np.round(32767 * tone(0.5))[None].astype(np.int16)
                frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
                frame.sample_rate, frame.pts, frame.time_base = RATE, round(start * RATE), Fraction(1, RATE)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        waveform = read_waveform(path)
        assert waveform.shape == (2 * RATE,)
        assert np.abs(waveform[round(0.51 * RATE) : round(1.49 * RATE)]).max() == 0
        assert np.abs(waveform[round(1.5 * RATE) :][:80] - tone(0.5)[:80]).max() < 0.01

    def test_a_broken_clock_is_refused(self, tmp_path):
        path = str(tmp_path / "clip.mkv")
        pictures = [(0.0, numbered_frames(1)[0]), (100.0, numbered_frames(1)[0])]
        write_streams(path, container_format="matroska", pictures=pictures)
        with pytest.raises(UnreadableMediaError, match=r"clip\.mkv: found a jump of 100 seconds"):
            read_media(path)


class TestSound:
    @pytest.mark.parametrize("channels", [1, 2, 6])
    def test_channels_are_averaged_and_never_exceed_one(self, tmp_path, channels):
        path = str(tmp_path / "sound.wav")
        wave = 0.9 * np.sin(2 * np.pi * 300 * np.arange(44100) / 44100)
        write_streams(path, container_format="wav", sound=np.stack([wave] * channels))
        waveform = read_media(path).waveform
        assert waveform.dtype == np.float32
        assert waveform.shape == (RATE,)
        np.testing.assert_allclose(waveform[200:-200], 1.8 * tone(1.0)[200:-200], atol=2e-3)

    @pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
    def test_resampling_shifts_nothing(self, tmp_path, rate):
        pulse = np.exp(-0.5 * ((np.arange(rate) / rate - 0.5) / 0.002) ** 2)
        soundfile.write(tmp_path / "pulse.flac", 0.8 * pulse, rate)
        waveform = read_waveform(tmp_path / "pulse.flac")
        assert waveform.shape == (RATE,)
        centre = (np.arange(RATE) * waveform**2).sum() / (waveform**2).sum() / RATE
        assert abs(centre - 0.5) < 0.0002


class TestPictures:
    @pytest.mark.skipif(not hasattr(VideoStream, "set_display_rotation"), reason="this PyAV cannot write rotations")
    @pytest.mark.parametrize("rotation", [0, 90, 180, 270])
    def test_pictures_are_turned_as_the_file_says(self, tmp_path, rotation):
        image = np.zeros((64, 96, 3), np.uint8)
        image[:16, :16] = 255  # top left corner
        path = str(tmp_path / "clip.mp4")
        write_streams(path, container_format="mp4", pictures=[(k / 25, image) for k in range(5)], rotation=rotation)
        frame = read_media(path).frames[0]
        expected = np.rot90(image, rotation // 90)  # counter-clockwise, as FFmpeg counts
        assert frame.shape == expected.shape
        assert np.abs(frame.astype(int) - expected).mean() < 10

    def test_oblong_pixels_are_stretched(self, tmp_path):
        path = str(tmp_path / "clip.mp4")
        with av.open(path, "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.height, stream.width, stream.pix_fmt = 64, 48, "yuv420p"
            stream.sample_aspect_ratio = stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
            for k in range(3):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 48, 3), np.uint8), format="rgb24")
                frame.pts = k
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        assert read_media(path).frames.shape[1:] == (64, 64, 3)

    def test_a_second_pass_gives_the_same_frames(self, tmp_path, monkeypatch):
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(30), None)
        reader = FrameReader(path)
        first, second = ([picture.to_rgb() for picture in reader] for _ in range(2))
        np.testing.assert_array_equal(first, second)
        monkeypatch.setattr(media_pictures, "KEPT_PICTURE_BYTES", 20_000)
        reader = FrameReader(path)
        frugal = [[picture.to_rgb() for picture in reader] for _ in range(2)]
        assert reader._kept is None, "a clip above the budget is not kept"
        np.testing.assert_array_equal(frugal, [first, first])

    def test_a_pass_that_was_left_early_is_not_taken_for_the_clip(self, tmp_path):
        reader = FrameReader(write_clip(tmp_path / "clip.mp4", numbered_frames(30), None))
        for picture in reader:
            assert picture.seconds == 0.0
            break
        assert len(list(reader)) == 30
        assert reader.num_frames == 30


@pytest.mark.shared
def test_grid_recordings_are_three_seconds_in_step(shared_dir):
    """75 frames and 48,000 samples; the sound track is 22 ms shorter than the pictures and is padded."""
    paths = sorted((shared_dir / "data" / "grid").glob("*.mpg"))[::29]
    assert len(paths) == 4
    for path in paths:
        media = read_media(path)
        assert media.frames.shape == (75, 288, 360, 3)
        assert media.waveform.shape == (48000,)
        assert 0.1 < np.abs(media.waveform).max() <= 1.0
        with av.open(str(path)) as container:
            last = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][-1]
        np.testing.assert_array_equal(media.frames[-1], last)
