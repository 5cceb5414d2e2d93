"""Reading and writing media: everything comes back at its time, at its level, in its colours."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from vqmae_hf.data import media_reading
from vqmae_hf.data.errors import UnreadableMediaError
from vqmae_hf.data.media import FrameReader, probe_media, read_media, read_waveform, write_clip

RATE = 16000


def numbered_frames(count: int) -> np.ndarray:
    """(count, 32, 96, 3) frames with their number as six black or white fields, which no codec blurs."""
    bits = (np.arange(count)[:, None] >> np.arange(6)) & 1
    return np.tile(np.repeat(255 * bits, 16, axis=1)[:, None, :, None], (1, 32, 1, 3)).astype(np.uint8)


def frame_numbers(frames: np.ndarray) -> np.ndarray:
    fields = frames.reshape(len(frames), 32, 6, 16, 3).mean(axis=(1, 3, 4))
    return (fields > 128) @ (1 << np.arange(6))


def tone(seconds: float, hertz: float = 300.0, level: float = 0.5) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def flash_and_click(seconds: float = 2.0, moment: float = 0.8, rate: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """A white frame and a short burst that begin at the same moment."""
    frames = np.zeros((round(seconds * rate), 64, 64, 3), np.uint8)
    frames[round(moment * rate)] = 255
    waveform = np.zeros(round(seconds * RATE), np.float32)
    burst = slice(round(moment * RATE), round((moment + 0.02) * RATE))
    waveform[burst] = np.random.default_rng(0).uniform(-0.9, 0.9, burst.stop - burst.start)
    return frames, waveform


def flash_seconds(frames: np.ndarray, rate: float) -> float:
    return float(np.argmax(frames.mean(axis=(1, 2, 3)) > 128)) / rate


def click_seconds(waveform: np.ndarray) -> float:
    return float(np.argmax(np.abs(waveform) > 0.2)) / RATE


def write_streams(target, *, container_format, pictures=(), picture_rate=25, sound=None, sound_start=0.0, rotation=0):
    """A file made by hand: pictures [(seconds, image)], sound (channels, N) that starts `sound_start` seconds later."""
    with av.open(target, "w", format=container_format) as container:
        video = audio = None
        if pictures:
            video = container.add_stream("mpeg4", rate=picture_rate, options={"qscale": "2"})
            video.height, video.width = pictures[0][1].shape[:2]
            video.codec_context.time_base = video.time_base = Fraction(1, 1000)
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            audio = container.add_stream(
                "pcm_s16le", rate=44100, layout={1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
            )
        packets = []
        for seconds, image in pictures:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = round(seconds * 1000), Fraction(1, 1000)
            packets += video.encode(frame)
        packets += video.encode(None) if video else []
        if sound is not None:
            interleaved = np.round(32767 * sound.T).astype(np.int16).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=audio.layout.name)
            frame.sample_rate, frame.time_base = 44100, Fraction(1, 44100)
            frame.pts = round(sound_start * 44100)
            packets += [*audio.encode(frame), *audio.encode(None)]
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return target


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
        assert (numbers / source_rate <= ticks + 0.003).all(), "no picture before its time"
        assert (numbers + 1 >= np.minimum(count, (ticks - 0.001) * source_rate)).all(), (
            "no picture after the next is due"
        )

    def test_irregular_pictures_are_held_until_the_next(self, tmp_path):
        times = [0.0, 0.04, 0.5, 0.52, 0.92]
        path = str(tmp_path / "clip.mkv")
        write_streams(path, container_format="matroska", pictures=list(zip(times, numbered_frames(5), strict=True)))
        numbers = frame_numbers(read_media(path, end_seconds=1.0).frames)
        ticks = np.arange(len(numbers)) / 25
        np.testing.assert_array_equal(numbers, np.searchsorted(times, ticks + 0.002, side="right") - 1)

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
        monkeypatch.setattr(media_reading, "KEPT_PICTURE_BYTES", 20_000)
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


class TestSources:
    def test_all_kinds_of_source_give_the_same(self, tmp_path):
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(5), tone(0.2))
        content = path.read_bytes()
        expected = read_media(path)
        sources = [
            str(path),
            content,
            io.BytesIO(content),
            {"path": str(path), "bytes": None},
            {"path": "elsewhere.mp4", "bytes": content},
            {"path": None, "bytes": content},
        ]
        for source in sources:
            media = read_media(source)
            np.testing.assert_array_equal(media.frames, expected.frames)
            np.testing.assert_array_equal(media.waveform, expected.waveform)
        assert read_media(sources[4]).source == "elsewhere.mp4"

    def test_probe_tells_what_is_there(self, tmp_path):
        info = probe_media(write_clip(tmp_path / "clip.mp4", numbered_frames(50), tone(2.0)))
        assert (info.has_video, info.has_audio, info.width, info.height) == (True, True, 96, 32)
        assert (info.frames_per_second, info.sampling_rate, info.num_channels) == (25.0, RATE, 1)
        assert info.duration_seconds == pytest.approx(2.0, abs=0.05)
        info = probe_media(write_clip(tmp_path / "clip.m4a", None, tone(1.0)))
        assert (info.has_video, info.width, info.frames_per_second) == (False, None, None)

    def test_the_cover_of_a_song_is_no_video(self, tmp_path):
        path = str(tmp_path / "song.flac")
        with av.open(path, "w") as container:
            sound = container.add_stream("flac", rate=RATE, layout="mono")
            cover = container.add_stream("mjpeg", rate=1)
            cover.height, cover.width, cover.pix_fmt = 32, 96, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
            picture = av.VideoFrame.from_ndarray(numbered_frames(1)[0], format="rgb24").reformat(format="yuvj420p")
            container.mux([*cover.encode(picture), *cover.encode(None)])
            frame = av.AudioFrame.from_ndarray(np.round(32767 * tone(0.5))[None].astype(np.int16), layout="mono")
            frame.sample_rate = RATE
            container.mux([*sound.encode(frame), *sound.encode(None)])
        with av.open(path) as container:
            assert len(container.streams.video) == 1, "the cover is stored as a video stream"
        media = read_media(path)
        assert media.frames is None
        assert media.waveform.shape == (RATE // 2,)

    @pytest.mark.parametrize(
        ("content", "found"),
        [
            (b"", "zero bytes"),
            (b"clip,emotion\n1,happy\n" * 50, "damaged or foreign"),
            (b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n", "neither pictures nor sound"),
            (bytes(np.random.default_rng(0).integers(0, 256, 5000, dtype=np.uint8)), "damaged or foreign"),
        ],
    )
    @pytest.mark.parametrize("as_file", [True, False])
    def test_what_is_no_media_is_refused_by_name(self, tmp_path, content, found, as_file):
        path = tmp_path / "renamed.mp4"
        path.write_bytes(content)
        name = r"renamed\.mp4" if as_file else f"<{len(content)} bytes>"
        for function in (probe_media, read_media, read_waveform):
            with pytest.raises(UnreadableMediaError, match=f"{name}: found {found}"):
                function(path if as_file else content)

    @pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.98])
    def test_truncated_files_are_refused(self, tmp_path, share):
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (25, 64, 64, 3), dtype=np.uint8)
        content = write_clip(tmp_path / "whole.mp4", frames, tone(1.0)).read_bytes()
        with pytest.raises(UnreadableMediaError, match="write it anew"):
            read_media({"path": "cut.mp4", "bytes": content[: int(share * len(content))]})

    def test_overwritten_files_are_refused(self, tmp_path):
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (25, 64, 64, 3), dtype=np.uint8)
        content = bytearray(write_clip(tmp_path / "whole.mp4", frames, tone(1.0)).read_bytes())
        middle = len(content) // 2
        content[middle : middle + 8000] = rng.integers(0, 256, 8000, dtype=np.uint8).tobytes()
        with pytest.raises(UnreadableMediaError, match="damaged"):
            read_media(bytes(content))

    @pytest.mark.parametrize("source", [7, None, {}, {"path": None, "bytes": None}, np.zeros(5), io.StringIO("text")])
    def test_sources_of_a_wrong_kind_are_refused(self, source):
        with pytest.raises(UnreadableMediaError, match="accepted is a path, bytes"):
            read_media(source)

    def test_missing_files_and_folders(self, tmp_path):
        with pytest.raises(UnreadableMediaError, match=r"gone\.mp4: found no such file"):
            read_media(tmp_path / "gone.mp4")
        with pytest.raises(UnreadableMediaError, match="found a folder"):
            read_media(tmp_path)

    @pytest.mark.parametrize(
        ("arguments", "name"),
        [
            ({"frames_per_second": 0}, "frames_per_second"),
            ({"sampling_rate": -1}, "sampling_rate"),
            ({"start_seconds": -1.0}, "start_seconds"),
            ({"start_seconds": 2.0, "end_seconds": 1.0}, "end_seconds"),
            ({"end_seconds": float("nan")}, "end_seconds"),
        ],
    )
    def test_nonsense_arguments_are_refused(self, tmp_path, arguments, name):
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(5), tone(0.2))
        with pytest.raises(ValueError, match=name):
            read_media(path, **arguments)


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
