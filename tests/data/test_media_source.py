"""Whatever a file can be and users can pass: read, or refused by name."""

import io

import av
import numpy as np
import pytest
from media_by_hand import (
    RATE,
    numbered_frames,
    tone,
)

from vqmae_hf.data.errors import UnreadableMediaError
from vqmae_hf.data.media import probe_media, read_media, read_waveform, write_clip


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
            cover.disposition = av.stream.Disposition.attached_pic.value
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

    def test_a_damaged_spot_is_concealed_and_reported(self, tmp_path, caplog):
        """A few packets of a second are overwritten: the clip keeps its length and its sound in step."""
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (25, 64, 64, 3), dtype=np.uint8)
        content = bytearray(write_clip(tmp_path / "whole.mp4", frames, tone(1.0)).read_bytes())
        whole = read_media(bytes(content))
        middle = len(content) // 2
        content[middle : middle + 6000] = rng.integers(0, 256, 6000, dtype=np.uint8).tobytes()
        media = read_media(bytes(content))
        assert media.frames.shape == frames.shape
        assert media.waveform.shape == (RATE,)
        np.testing.assert_array_equal(media.frames[:10], whole.frames[:10])
        assert np.abs(media.waveform - whole.waveform)[12000:].max() < 0.05, "the sound after the spot is in its place"
        assert "of 26 packets of video are damaged" in caplog.text

    def test_files_damaged_all_over_are_refused(self, tmp_path):
        rng = np.random.default_rng(0)
        frames = rng.integers(0, 256, (25, 64, 64, 3), dtype=np.uint8)
        content = bytearray(write_clip(tmp_path / "whole.mp4", frames, tone(1.0)).read_bytes())
        start = content.index(b"mdat") + len(content) // 4
        content[start:-2000] = rng.integers(0, 256, len(content) - 2000 - start, dtype=np.uint8).tobytes()
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
