"""Every container, rate, size, format and header that recordings and attackers bring: read in step, or refused by name."""

import io
import os
import struct

import av
import numpy as np
import pytest
import soundfile
from media_by_hand import (
    CODINGS,
    RATE,
    Coding,
    flash_seconds,
    frame_numbers,
    numbered_frames,
    tone,
    write_coded,
    write_streams,
)

from vqmae_hf.data import media_reading, media_sound, media_source
from vqmae_hf.data.clips import ClipTooLongError, UnreadableMediaError, load_clip
from vqmae_hf.data.media import FrameReader, SoundReader, probe_media, read_media, read_waveform, write_clip

WITH_BOTH = [coding for coding in CODINGS.values() if coding.video_codec and coding.audio_codec]
SOUND_ONLY = [coding for coding in CODINGS.values() if not coding.video_codec]
HALF_A_FRAME = 0.0205  # seconds at 25 Hz, and what Matroska rounds


def event(rate: float, sampling_rate: int, *, seconds: float = 1.6, moment: float = 0.8) -> tuple:
    """Frames (T, 64, 64, 3) that turn white, a waveform with a burst at that very moment, and the moment."""
    first = round(moment * rate)
    frames = np.zeros((round(seconds * rate), 64, 64, 3), np.uint8)
    frames[first:] = 255
    waveform = np.zeros(round(seconds * sampling_rate), np.float32)
    start = round(first / rate * sampling_rate)
    noise = np.random.default_rng(0).uniform(-0.9, 0.9, RATE // 20)  # 50 ms of it, without the highest frequencies
    burst = np.interp(np.arange(0, len(noise), RATE / sampling_rate), np.arange(len(noise)), noise)
    waveform[start : start + len(burst)] = burst
    return frames, waveform, first / rate, noise


def with_display_matrix(content: bytes, matrix: list[int]) -> bytes:
    """An mp4 whose pictures are to be shown through another matrix a, b, u, c, d, v, x, y, w, in fixed point."""
    place = content.index(b"tkhd") + 4 + 40
    return content[:place] + struct.pack(">9i", *matrix) + content[place + 36 :]


def burst_seconds(waveform: np.ndarray, noise: np.ndarray) -> float:
    """When the burst begins, by correlation."""
    return float(np.argmax(np.correlate(waveform, noise, mode="valid"))) / RATE


class TestSync:
    """A flash and a click of one moment stay within half a frame (20 ms), on both sides and on average at none."""

    @pytest.mark.parametrize("coding", WITH_BOTH, ids=lambda coding: coding.suffix)
    def test_in_every_container(self, tmp_path, coding):
        frames, waveform, moment, noise = event(25, 48000)
        media = read_media(write_coded(str(tmp_path / f"clip.{coding.suffix}"), coding, frames, waveform, rate=25))
        flash, click = flash_seconds(media.frames, 25), burst_seconds(media.waveform, noise)
        assert flash == pytest.approx(moment)
        assert abs(click - moment) < 0.002

    @pytest.mark.parametrize("rate", [10, 12.5, 15, 23.976, 24, 29.97, 30, 48, 50, 59.94, 60, 120])
    @pytest.mark.parametrize("moment", [0.6, 0.83])
    def test_at_every_frame_rate(self, tmp_path, rate, moment):
        frames, waveform, moment, noise = event(rate, 48000, moment=moment)
        media = read_media(write_coded(str(tmp_path / "clip.mkv"), CODINGS["mkv"], frames, waveform, rate=rate))
        error = flash_seconds(media.frames, 25) - burst_seconds(media.waveform, noise)
        assert abs(error) <= HALF_A_FRAME

    @pytest.mark.parametrize("sampling_rate", [8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000])
    @pytest.mark.parametrize("channels", [1, 2, 6])
    def test_at_every_sampling_rate(self, tmp_path, sampling_rate, channels):
        frames, waveform, _, noise = event(25, sampling_rate)
        path = str(tmp_path / "clip.mkv")
        coding = Coding("matroska", "mpeg4", "pcm_s16le", "mkv")
        write_coded(path, coding, frames, waveform, sampling_rate=sampling_rate, channels=channels)
        info, media = probe_media(path), read_media(path)
        assert (info.sampling_rate, info.num_channels) == (sampling_rate, channels)
        assert abs(flash_seconds(media.frames, 25) - burst_seconds(media.waveform, noise)) < 0.002
        assert np.abs(media.waveform).max() > 0.6, "the channels are averaged, not thinned out"

    @pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "webm", "ts", "mpg"])
    @pytest.mark.parametrize(("start", "sound_start"), [(0.0, 0.4), (0.4, 0.0), (2.0, 1.52), (0.52, 2.0)])
    def test_when_streams_start_apart(self, tmp_path, suffix, start, sound_start):
        """One stream starts before the other; both tell of the same moment of the file's clock."""
        frames, waveform, moment, noise = event(25, 48000, seconds=3.0, moment=2.2)
        skipped = 0.0 if start > sound_start else sound_start - start
        begun = 0.0 if start < sound_start else start - sound_start
        sound = np.concatenate([np.full(round(begun * 48000), 0.02, np.float32), waveform])[round(skipped * 48000) :]
        path = str(tmp_path / f"clip.{suffix}")
        write_coded(path, CODINGS[suffix], frames, sound, start=start, sound_start=sound_start)
        media = read_media(path)
        assert len(media.frames) == 75
        assert media.waveform.shape == (3 * RATE,)
        assert flash_seconds(media.frames, 25) == pytest.approx(moment)
        assert abs(burst_seconds(media.waveform, noise) - moment) < 0.002
        assert np.abs(media.waveform[: round((skipped - 0.05) * RATE) if skipped else 0]).max(initial=0) == 0

    def test_over_irregular_pictures(self, tmp_path):
        rng = np.random.default_rng(3)
        times = np.cumsum(np.r_[0.0, rng.uniform(0.01, 0.12, 40)])
        noise, white = event(25, 44100)[-1], 15
        waveform = np.zeros(3 * 44100)
        start = round(times[white] * 44100)
        burst = np.interp(np.arange(0, len(noise), RATE / 44100), np.arange(len(noise)), noise)
        waveform[start : start + len(burst)] = burst
        pictures = [(t, np.full((32, 32, 3), 255 * (k >= white), np.uint8)) for k, t in enumerate(times)]
        path = str(tmp_path / "clip.mkv")
        write_streams(path, container_format="matroska", pictures=pictures, sound=waveform[None])
        media = read_media(path)
        assert abs(flash_seconds(media.frames, 25) - burst_seconds(media.waveform, noise)) <= HALF_A_FRAME


class TestFormats:
    @pytest.mark.parametrize("coding", SOUND_ONLY, ids=lambda coding: coding.suffix)
    def test_sound_alone_in_every_container(self, tmp_path, coding):
        waveform = np.interp(np.arange(48000) / 48000, np.arange(RATE) / RATE, tone(1.0))
        path = write_coded(str(tmp_path / f"sound.{coding.suffix}"), coding, None, waveform)
        clip = load_clip(path, modalities=("audio",))
        assert abs(len(clip.waveform) - RATE) < 0.03 * RATE, "encoders fill up their last packet"
        assert np.abs(clip.waveform[400:15600] - tone(1.0)[400:15600]).max() < 0.04

    @pytest.mark.parametrize(("height", "width"), [(67, 101), (101, 67), (2, 2), (1, 1), (16, 1000), (1000, 2)])
    def test_odd_sizes(self, tmp_path, height, width):
        ramp = np.linspace(40, 200, width)[None, None, :, None]
        frames = np.broadcast_to(ramp, (5, height, width, 3)).astype(np.uint8)
        path = str(tmp_path / "clip.mkv")
        write_coded(path, Coding("matroska", "ffv1", None, "mkv"), frames, None, pixel_format="yuv444p")
        media = read_media(path)
        assert media.frames.shape == (5, height, width, 3)
        assert np.abs(media.frames.astype(int) - frames).max() <= 4
        crops = load_clip(path, modalities=("visual",), on_missing_face="center").frames
        assert crops.shape == (5, 96, 96, 3)
        assert np.abs(crops.mean() - frames[0, 0, :, 0].mean()) < 25

    @pytest.mark.parametrize(
        ("codec", "pixel_format"),
        [
            ("libx264", "yuv420p10le"),
            ("libx265", "yuv420p10le"),
            ("libx264", "yuv444p"),
            ("ffv1", "yuv422p10le"),
            ("ffv1", "gray"),
            ("ffv1", "bgra"),
            ("mjpeg", "yuvj420p"),
        ],
    )
    def test_depths_and_layouts_of_colour(self, tmp_path, codec, pixel_format):
        frames = numbered_frames(12)
        path = str(tmp_path / "clip.mkv")
        write_coded(path, Coding("matroska", codec, None, "mkv"), frames, None, pixel_format=pixel_format)
        media = read_media(path)
        np.testing.assert_array_equal(frame_numbers(media.frames), np.arange(12))
        assert np.abs(media.frames.astype(int) - frames).mean() < 8

    @pytest.mark.parametrize(("across", "down"), [(-1, 1), (1, -1), (-1, -1)])
    def test_mirrored_pictures(self, tmp_path, across, down):
        """Phones mirror selfies by the display matrix, which a rotation cannot say."""
        image = np.zeros((32, 64, 3), np.uint8)
        image[:8, :8] = 255  # top left corner
        path = tmp_path / "clip.mp4"
        write_streams(str(path), container_format="mp4", pictures=[(k / 25, image) for k in range(3)])
        content = with_display_matrix(path.read_bytes(), [across << 16, 0, 0, 0, down << 16, 0, 0, 0, 1 << 30])
        frame = read_media(content).frames[0]
        assert np.abs(frame.astype(int) - image[::down, ::across]).mean() < 10

    def test_a_matrix_of_zeros_changes_nothing(self, tmp_path):
        path = tmp_path / "clip.mp4"
        write_streams(str(path), container_format="mp4", pictures=[(k / 25, numbered_frames(3)[k]) for k in range(3)])
        np.testing.assert_array_equal(
            frame_numbers(read_media(with_display_matrix(path.read_bytes(), [0] * 9)).frames), np.arange(3)
        )


class TestSources:
    def test_names_that_look_like_addresses_are_files(self, tmp_path):
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(3), None)
        odd = tmp_path / "http:12:30 %d.mp4"
        os.replace(path, odd)
        before = os.getcwd()
        os.chdir(tmp_path)
        try:
            assert len(read_media(odd.name).frames) == 3
        finally:
            os.chdir(before)

    @pytest.mark.parametrize("address", ["http://127.0.0.1:9/clip.mp4", "pipe:0", "concat:a.mp4|b.mp4", "/dev/zero"])
    def test_what_is_no_file_is_not_opened(self, address):
        with pytest.raises(UnreadableMediaError, match=r"no such file|a device or pipe"):
            probe_media(address)

    def test_a_pipe_is_refused_and_not_waited_for(self, tmp_path):
        os.mkfifo(tmp_path / "clip.mp4")
        with pytest.raises(UnreadableMediaError, match="a device or pipe"):
            probe_media(tmp_path / "clip.mp4")

    @pytest.mark.parametrize(
        "playlist",
        [
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{}\n#EXT-X-ENDLIST\n",
            "ffconcat version 1.0\nfile '{}'\n",
        ],
    )
    @pytest.mark.parametrize("as_file", [True, False])
    def test_playlists_open_no_other_file(self, tmp_path, playlist, as_file):
        """A text named like a clip must not make the reader fetch addresses or other files."""
        write_coded(str(tmp_path / "other.ts"), CODINGS["ts"], numbered_frames(5), None)
        path = tmp_path / "clip.mp4"
        path.write_text(playlist.format("other.ts"))
        with pytest.raises(UnreadableMediaError, match="damaged or foreign"):
            read_media(path if as_file else path.read_bytes())

    def test_a_disk_that_fails_is_reported(self, tmp_path, monkeypatch):
        """What was read until then is not taken for the clip."""
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(30), tone(1.2))
        content = path.read_bytes()

        class FailingDisk(io.BytesIO):
            def read(self, size):
                if self.tell() + size > len(content) // 2:
                    raise OSError(5, "Input/output error")
                return super().read(size)

        monkeypatch.setattr("vqmae_hf.data.media_source._open_file", lambda source: FailingDisk(content))
        with pytest.raises(UnreadableMediaError, match="Input/output error"):
            read_media(path)
        monkeypatch.undo()
        assert len(read_media(path).frames) == 30, "nothing of the failure is left behind"


class TestAbsurdHeaders:
    @pytest.mark.parametrize("size", [(60000, 20000), (65535, 21845), (20000, 4)])
    def test_what_the_pictures_say_goes_before_what_the_container_says(self, tmp_path, size):
        content = bytearray(write_clip(tmp_path / "clip.mp4", numbered_frames(5), None).read_bytes())
        place = content.index(b"avc1", content.index(b"stsd")) + 28
        content[place : place + 4] = struct.pack(">HH", *size)
        np.testing.assert_array_equal(frame_numbers(read_media(bytes(content)).frames), np.arange(5))

    @pytest.mark.parametrize("size", [(60000, 60000), (65535, 65535), (16000, 16000), (20000, 4)])
    def test_pictures_larger_than_any_camera_makes(self, size):
        content = io.BytesIO()
        write_coded(content, Coding("avi", "rawvideo", None, "avi"), numbered_frames(2), None)
        content = content.getvalue()
        header = content.index(b"strf") + 12
        content = content[:header] + struct.pack("<II", *size) + content[header + 8 :]
        with pytest.raises(UnreadableMediaError, match=r"found pictures of|damaged"):
            read_media(content)

    @pytest.mark.parametrize("size", [(16384, 4096), (65000, 65000)])
    def test_large_pictures_are_refused_before_there_is_room_made_for_them(self, size):
        """Only the picture itself tells its size: the decoder has to know the bound."""
        content = io.BytesIO()
        coding = Coding("matroska", "mjpeg", None, "mkv")
        write_coded(content, coding, numbered_frames(2), None, pixel_format="yuvj420p")
        start = b"\xff\xc0\x00\x11\x08"  # the frame header of a JPEG; height and width follow
        content = content.getvalue().replace(
            start + struct.pack(">HH", 32, 96), start + struct.pack(">HH", *size[::-1])
        )
        with pytest.raises(UnreadableMediaError, match=r"damaged|found pictures of"):
            read_media(content)
        with av.open(io.BytesIO(content)) as container:
            stream = container.streams.video[0]
            stream.codec_context.options = media_source._OPTIONS
            with pytest.raises(av.FFmpegError):
                next(container.demux(stream)).decode()

    @pytest.mark.parametrize("nanoseconds", [1, 11_111])
    def test_frame_rates_that_are_none(self, nanoseconds):
        """The rate only says how long the last picture is shown; 90 kHz, which clocks have, and 1 GHz are not believed."""
        content = io.BytesIO()
        pictures = [(k / 10, numbered_frames(8)[k]) for k in range(8)]
        write_streams(content, container_format="matroska", pictures=pictures, picture_rate=10)
        field = b"\x23\xe3\x83\x84"
        assert field + struct.pack(">I", 10**8) in content.getvalue()
        content = content.getvalue().replace(field + struct.pack(">I", 10**8), field + struct.pack(">I", nanoseconds))
        assert probe_media(content).frames_per_second > 1000
        assert len(read_media(content).frames) == 20

    def test_a_picture_in_eleven_days_is_a_broken_clock(self):
        content = io.BytesIO()
        write_coded(content, CODINGS["avi"], numbered_frames(5), None)
        content = bytearray(content.getvalue())
        place = content.index(b"strh") + 28  # ticks of a picture, ticks of a second
        content[place : place + 8] = struct.pack("<II", 1_000_000, 1)
        with pytest.raises(UnreadableMediaError, match="a jump of 1000000 seconds between two pictures"):
            read_media(bytes(content))

    def test_a_duration_of_years_in_the_header(self, tmp_path):
        content = bytearray(write_clip(tmp_path / "clip.mp4", numbered_frames(10), tone(0.4)).read_bytes())
        for mark, offset in ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16)):
            place = content.index(mark) + 4 + offset
            content[place : place + 4] = b"\x7f\xff\xff\xff"
        media = read_media(bytes(content))
        assert media.frames.shape[0] == 10
        assert media.waveform.shape == (6400,)

    @pytest.mark.parametrize("start", [-2.0, 2e4])
    def test_a_clock_that_starts_anywhere(self, start):
        frames, waveform, moment, noise = event(25, 48000)
        content = io.BytesIO()
        coding = Coding("mpegts", "mpeg2video", "mp2", "ts")
        write_coded(content, coding, frames, waveform, start=start, sound_start=start)
        reader = FrameReader(content.getvalue())
        assert len(list(reader)) == 40
        assert abs(reader.origin_seconds - start) < 2, "MPEG transport streams start a little later"
        media = read_media(content.getvalue())
        assert flash_seconds(media.frames, 25) == pytest.approx(moment)
        assert abs(burst_seconds(media.waveform, noise) - moment) < 0.002

    def test_a_clock_that_jumps_back(self):
        content = io.BytesIO()
        pictures = [(t, numbered_frames(1)[0]) for t in (0.0, 0.04, 20.0, 20.04, 40.0, 40.04)]
        write_streams(content, container_format="matroska", pictures=pictures)
        content = content.getvalue()
        assert len(list(FrameReader(content))) == 1002
        third = content.rindex(b"\xe7\x82" + struct.pack(">H", 40000))  # when the last cluster begins
        content = content[:third] + b"\xe7\x82" + struct.pack(">H", 5000) + content[third + 4 :]
        with pytest.raises(UnreadableMediaError, match="a jump of -15 seconds between two pictures"):
            read_media(content)

    @pytest.mark.parametrize("sampling_rate", [1, 999, 1_000_000, 2**32 - 1])
    def test_sampling_rates_that_no_microphone_has(self, tmp_path, sampling_rate):
        soundfile.write(tmp_path / "sound.wav", tone(0.5), RATE, subtype="PCM_16")
        content = bytearray((tmp_path / "sound.wav").read_bytes())
        content[24:28] = struct.pack("<I", sampling_rate)
        with pytest.raises(UnreadableMediaError):
            read_media(bytes(content))

    @pytest.mark.parametrize("channels", [65, 255, 65535])
    def test_more_channels_than_any_recorder_has(self, tmp_path, channels):
        soundfile.write(tmp_path / "sound.wav", tone(0.5), RATE, subtype="PCM_16")
        content = bytearray((tmp_path / "sound.wav").read_bytes())
        content[22:24] = struct.pack("<H", channels)
        content[32:34] = struct.pack("<H", (2 * channels) % 65536)
        with pytest.raises(UnreadableMediaError):
            read_media(bytes(content))

    @pytest.mark.parametrize("channels", [3, 5, 8, 12, 24])
    def test_channels_without_a_layout_are_averaged(self, tmp_path, channels):
        soundfile.write(tmp_path / "sound.wav", np.stack([tone(0.5)] * channels, axis=1), RATE, subtype="PCM_16")
        waveform = read_waveform(tmp_path / "sound.wav")
        np.testing.assert_allclose(waveform, tone(0.5), atol=2e-3)


class TestBounds:
    """What does not fit is refused by a typed error that names the way around."""

    def test_crops_beyond_the_memory(self, tmp_path, monkeypatch):
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(30), tone(1.2))
        monkeypatch.setattr("vqmae_hf.data.clips.LARGEST_RESULT_BYTES", 20 * 96 * 96 * 3)
        with pytest.raises(ClipTooLongError, match=r"clip\.mp4: found more than 20 frames.*stream_clip"):
            load_clip(path, on_missing_face="center")
        assert len(load_clip(path, on_missing_face="center", end_seconds=0.8).frames) == 20

    def test_pictures_and_samples_beyond_the_memory(self, tmp_path, monkeypatch):
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(30), tone(1.2))
        monkeypatch.setattr(media_reading, "LARGEST_RESULT_BYTES", 20 * 96 * 32 * 3)
        with pytest.raises(ClipTooLongError, match="more than 20 pictures of 96 x 32"):
            read_media(path)
        monkeypatch.setattr(media_sound, "LARGEST_RESULT_BYTES", 4 * RATE)
        with pytest.raises(ClipTooLongError, match=r"more than 1 seconds of sound.*stream_clip"):
            read_waveform(path)
        assert read_waveform(path, end_seconds=1.0).shape == (RATE,)

    def test_clocks_that_run_for_days(self, tmp_path):
        """Twenty samples of sound three years apart make no terabyte of silence."""
        path = str(tmp_path / "sound.mkv")
        pictures = [(0.0, numbered_frames(1)[0])]
        write_streams(path, container_format="matroska", pictures=pictures, sound=tone(0.1)[None], sound_start=1e6)
        media = read_media(path)
        assert media.waveform.shape == (len(media.frames) * RATE // 25,)
        assert len(read_waveform(path)) > 0
        with pytest.raises(ClipTooLongError, match="sound over 1000000 seconds"):
            list(SoundReader(path, origin_seconds=0.0))

    @pytest.mark.parametrize("arguments", [{"frames_per_second": 1001}, {"frames_per_second": float("nan")}])
    def test_rates_out_of_range(self, tmp_path, arguments):
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(3), tone(0.2))
        with pytest.raises(ValueError, match="frames_per_second: found"):
            load_clip(path, **arguments)
