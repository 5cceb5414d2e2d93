"""The windows of a clip are the clip, whatever its length, and memory does not grow with it."""

import os
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from face_by_hand import picture_with_faces
from media_by_hand import CODINGS, RATE, flash_and_click, numbered_frames, tone, write_coded, write_streams

from vqmae_hf.data.clip_streaming import stream_clip
from vqmae_hf.data.clips import Clip, MissingFaceError, SilentAudioError, load_clip
from vqmae_hf.data.media import FrameReader, write_clip


def joined(windows: list[Clip]) -> tuple[np.ndarray | None, np.ndarray | None, np.ndarray | None]:
    """Frames, waveform and boxes of all windows."""
    parts = ([w.frames for w in windows], [w.waveform for w in windows], [w.face_boxes for w in windows])
    return tuple(None if part[0] is None else np.concatenate(part) for part in parts)


def assert_same_clip(windows: list[Clip], clip: Clip) -> None:
    for found, expected in zip(joined(windows), (clip.frames, clip.waveform, clip.face_boxes), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    frames = np.stack([picture_with_faces([(20 + 2 * k, 30 + k, 150)]) for k in range(60)])
    return write_clip(tmp_path_factory.mktemp("talking") / "clip.mp4", frames, tone(2.4))


class TestWindows:
    @pytest.mark.parametrize("window_seconds", [0.001, 0.5, 0.7, 2.4, 100.0])
    def test_put_together_are_the_clip(self, talking, window_seconds):
        windows = list(stream_clip(talking, window_seconds=window_seconds))
        assert_same_clip(windows, load_clip(talking))
        step = max(1, round(window_seconds * 25))
        assert [len(w.frames) for w in windows] == [min(step, 60 - k) for k in range(0, 60, step)]
        assert [w.start_seconds for w in windows] == pytest.approx([k / 25 for k in range(0, 60, step)])

    @pytest.mark.parametrize(
        "options",
        [
            {"frames_per_second": 30, "sampling_rate": 22050, "face_size": 64},
            {"start_seconds": 0.52, "end_seconds": 1.9},
            {"modalities": ("visual",)},
            {"modalities": ("audio",)},
            {"modalities": ("audio",), "start_seconds": 0.3, "end_seconds": 2.0},
            {"crop_faces": False},
        ],
    )
    def test_take_the_options_of_load_clip(self, talking, options):
        windows = list(stream_clip(talking, window_seconds=0.4, **options))
        assert_same_clip(windows, load_clip(talking, **options))
        assert windows[0].start_seconds == options.get("start_seconds", 0.0)

    def test_keep_sound_and_pictures_in_step(self, tmp_path):
        """Flash and click fall into the same window at the same moment, with a sound track that starts late."""
        frames, waveform = flash_and_click(seconds=3.0, moment=2.2)
        sound = np.interp(np.arange(3 * 44100) / 44100, np.arange(len(waveform)) / RATE, waveform)[
            round(0.3 * 44100) :
        ]
        path = str(tmp_path / "clip.mkv")
        pictures = [(1 + k / 25, image) for k, image in enumerate(frames)]
        write_streams(path, container_format="matroska", pictures=pictures, sound=sound[None], sound_start=1.3)
        windows = list(stream_clip(path, window_seconds=0.5, crop_faces=False))
        assert_same_clip(windows, load_clip(path, crop_faces=False))
        bright = [int(np.argmax(w.frames.mean((1, 2, 3)) > 128)) for w in windows]
        loud = [int(np.argmax(np.abs(w.waveform) > 0.2)) for w in windows]
        assert [k for k, first in enumerate(bright) if first] == [4], "2.2 s is in the fifth half second"
        assert abs(bright[4] / 25 - loud[4] / RATE) < 0.003

    def test_know_the_peak_of_the_whole(self, talking):
        peak = np.abs(load_clip(talking).waveform).max()
        assert {w.clip_peak for w in stream_clip(talking, window_seconds=1.0)} == {float(peak)}
        assert {w.clip_peak for w in stream_clip(talking, modalities=("visual",))} == {None}

    def test_sound_in_a_file_of_its_own(self, talking, tmp_path):
        waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 4 * RATE).astype(np.float32)
        other = write_clip(tmp_path / "sound.m4a", None, waveform)
        windows = list(stream_clip(talking, window_seconds=0.5, audio_source=other))
        assert_same_clip(windows, load_clip(talking, audio_source=other))


class TestPolicies:
    def test_look_at_the_clip_as_a_whole(self, tmp_path):
        """Sound in the second half only: the first windows are not taken for silent."""
        waveform = np.concatenate([np.zeros(RATE, np.float32), tone(1.0)])
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(50), waveform)
        windows = list(stream_clip(path, window_seconds=0.4, crop_faces=False))
        assert len(windows) == 5
        assert all(w.waveform is not None for w in windows)
        assert np.abs(windows[0].waveform).max() < 1e-2

    def test_are_those_of_load_clip(self, tmp_path):
        path = write_clip(tmp_path / "clip.mp4", numbered_frames(10), np.full(6400, 1e-4, np.float32))
        with pytest.raises(MissingFaceError):
            next(stream_clip(path))
        with pytest.raises(SilentAudioError):
            next(stream_clip(path, on_missing_face="center"))
        options = {"on_missing_face": "center", "on_silence": "visual_only"}
        assert_same_clip(list(stream_clip(path, **options)), load_clip(path, **options))

    @pytest.mark.parametrize("window_seconds", [0, -1.0, float("nan"), float("inf")])
    def test_a_length_that_is_none_is_refused_at_the_call(self, talking, window_seconds):
        with pytest.raises(ValueError, match="window_seconds: found"):
            stream_clip(talking, window_seconds=window_seconds)
        with pytest.raises(ValueError, match="on_silence: found 'hush'"):
            stream_clip(talking, on_silence="hush")


def write_long_clip(path, seconds: int) -> None:
    """Pictures of 64 x 64 at 5 Hz and sound at 16 kHz, encoded packet by packet; a quick one."""
    pictures = np.random.default_rng(0).integers(0, 256, (7, 64, 64, 3), dtype=np.uint8)
    sound = (0.5 * np.random.default_rng(0).uniform(-1, 1, (1, RATE))).astype(np.float32)
    with av.open(str(path), "w", format="matroska") as output:
        video = output.add_stream("mpeg4", rate=5, options={"qscale": "20"})
        video.height = video.width = 64
        audio = output.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for second in range(seconds):
            for k in range(5 * second, 5 * second + 5):
                frame = av.VideoFrame.from_ndarray(pictures[k % 7]).reformat(format="yuv420p")
                frame.pts, frame.time_base = k, Fraction(1, 5)
                output.mux(video.encode(frame))
            frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, second * RATE, Fraction(1, RATE)
            output.mux(audio.encode(frame))
        output.mux(video.encode(None))
        output.mux(audio.encode(None))


MEASURE = textwrap.dedent(
    """
    import sys
    import numpy as np
    from peak_memory import peak_megabytes
    from vqmae_hf.data.clip_streaming import stream_clip
    from vqmae_hf.data.clips import load_clip

    def face(frame):
        return np.array([[10.0, 10.0, 40.0, 40.0]])

    def stream(path, end):
        return sum(len(window.frames) for window in stream_clip(path, end_seconds=end, face_detector=face))

    def load(path, end):
        return len(load_clip(path, end_seconds=end, face_detector=face).frames)

    go, path, seconds = {"stream": stream, "load": load}[sys.argv[1]], sys.argv[2], float(sys.argv[3])
    go(path, min(20.0, seconds / 10))
    before = peak_megabytes()
    print(go(path, seconds), peak_megabytes() - before)
    """
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "seconds", "most_megabytes"),
    [
        ("stream", 300, 60),  # the crops would take 207 MB
        ("load", 60, 100),  # the crops take 41 MB; a converter for each picture kept, as PyAV makes them, 90 MB more
    ],
)
def test_memory_in_a_fresh_process(tmp_path, what, seconds, most_megabytes):
    path = tmp_path / "long.mkv"
    write_long_clip(path, seconds)
    command = [sys.executable, "-c", MEASURE, what, str(path), str(seconds)]
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=here)
    frames, megabytes = map(float, result.stdout.split())
    assert frames == 25 * seconds
    assert megabytes < most_megabytes


def test_windows_deep_in_a_clip_decode_no_more_than_the_first(tmp_path, monkeypatch):
    path = tmp_path / "long.mkv"
    write_long_clip(path, 60)
    decoded, at_window = 0, []
    forward = FrameReader.__iter__

    def counted(reader):
        nonlocal decoded
        for picture in forward(reader):
            decoded += 1
            yield picture

    monkeypatch.setattr(FrameReader, "__iter__", counted)
    for _ in stream_clip(path, window_seconds=1.0, crop_faces=False, face_size=16):
        at_window.append(decoded)
    assert len(at_window) == 60
    assert max(np.diff(at_window)) <= 26, "the frames of a second, and one at the seam"


def test_streams_of_other_containers(tmp_path):
    frames, waveform = flash_and_click()
    sound = np.interp(np.arange(2 * 48000) / 48000, np.arange(len(waveform)) / RATE, waveform)
    for suffix in ("mpg", "webm", "avi"):
        path = write_coded(str(tmp_path / f"clip.{suffix}"), CODINGS[suffix], frames, sound)
        assert_same_clip(
            list(stream_clip(path, window_seconds=0.3, crop_faces=False)), load_clip(path, crop_faces=False)
        )
