"""A clip is loaded with its face in every frame and its sound in step, or refused with the name of the remedy."""

import re

import cv2
import numpy as np
import pytest
from face_by_hand import face_box, overlap, picture_with_faces, portrait
from media_by_hand import RATE, click_seconds, tone

from vqmae_hf.data import media_pictures
from vqmae_hf.data.clip_examination import SILENCE_PEAK
from vqmae_hf.data.clips import (
    Clip,
    ClipError,
    EmptyClipError,
    MissingAudioError,
    MissingFaceError,
    MissingVideoError,
    SilentAudioError,
    UnreadableMediaError,
    load_clip,
)
from vqmae_hf.data.faces import HaarFaceDetector, follow_face
from vqmae_hf.data.media import FrameReader, write_clip

PLACES = [(20 + 2 * k, 30 + k, 150) for k in range(50)]


def write(folder, name="clip.mp4", *, pictures=PLACES, sound=True, **options):
    """A clip of a face that moves down to the right, for 2 s."""
    frames = None if pictures is None else np.stack([picture_with_faces([p] if p else []) for p in pictures])
    waveform = tone(2.0) if sound is True else sound
    return write_clip(folder / name, frames, waveform, **options)


@pytest.fixture(scope="module")
def talking(tmp_path_factory):
    return write(tmp_path_factory.mktemp("talking"))


@pytest.fixture(scope="module")
def faceless(tmp_path_factory):
    return write(tmp_path_factory.mktemp("faceless"), pictures=[None] * 20, sound=tone(0.8))


@pytest.fixture(scope="module")
def deaf(tmp_path_factory):
    return write(tmp_path_factory.mktemp("deaf"), sound=None)


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    return write(tmp_path_factory.mktemp("blind"), "sound.m4a", pictures=None)


@pytest.fixture(scope="module")
def silent(tmp_path_factory):
    return write(tmp_path_factory.mktemp("silent"), sound=np.full(2 * RATE, 5e-4, np.float32))


class TestTalkingClip:
    def test_the_face_stands_still_in_the_crops(self, talking):
        clip = load_clip(talking)
        assert clip.frames.shape == (50, 96, 96, 3)
        assert clip.frames.dtype == np.uint8
        truth = np.array([face_box(*place) for place in PLACES])
        boxes = clip.face_boxes.copy()
        boxes[:, :2] += boxes[:, 2:] * (0.08 / 1.16)
        boxes[:, 2:] /= 1.16
        assert overlap(boxes, truth).min() > 0.65
        moved = np.abs(clip.frames[12:-12].astype(int) - clip.frames[25]).mean()
        still = np.abs(np.stack([picture_with_faces([p])[60:156, 80:176] for p in PLACES[12:-12]]).astype(int)
                       - picture_with_faces([PLACES[25]])[60:156, 80:176]).mean()  # fmt: skip
        assert moved < 0.35 * still, "the crops move with the face"

    def test_sound_and_frames_have_one_length(self, talking):
        clip = load_clip(talking)
        assert clip.waveform.shape == (2 * RATE,)
        assert clip.waveform.dtype == np.float32
        assert clip.duration_seconds == 2.0
        assert clip.source == str(talking)
        assert (clip.frames_per_second, clip.sampling_rate) == (25, RATE)

    def test_a_stretch_without_face_keeps_the_interpolated_box(self, tmp_path):
        """The face vanishes for half a second: no frame is dropped, and the box goes on as it would have."""
        pictures = [None if 18 <= k < 32 else place for k, place in enumerate(PLACES)]
        clip = load_clip(write(tmp_path, pictures=pictures))
        whole = load_clip(write(tmp_path, "whole.mp4"))
        assert len(clip.frames) == 50
        assert overlap(clip.face_boxes, whole.face_boxes).min() > 0.85

    def test_of_several_faces_the_largest_is_followed(self, tmp_path):
        frames = np.stack([picture_with_faces([(5 + k // 2, 40, 110), (150, 20, 160)]) for k in range(25)])
        clip = load_clip(write_clip(tmp_path / "two.mp4", frames, tone(1.0)))
        x, y, side = clip.face_boxes[:, :3].mean(0)
        found = np.array([x + side * 0.08 / 1.16, y + side * 0.08 / 1.16, side / 1.16, side / 1.16])
        assert overlap(found, face_box(150, 20, 160)) > 0.6

    def test_other_rates_sizes_and_parts(self, talking):
        clip = load_clip(
            talking, frames_per_second=30, sampling_rate=8000, face_size=64, start_seconds=0.5, end_seconds=1.5
        )
        assert clip.frames.shape == (30, 64, 64, 3)
        assert clip.waveform.shape == (8000,)
        whole = load_clip(talking)
        assert overlap(clip.face_boxes[::6], whole.face_boxes[12:37:5][:5]).min() > 0.8

    def test_one_modality_at_a_time(self, talking):
        seen, heard = load_clip(talking, modalities=("visual",)), load_clip(talking, modalities=["audio"])
        both = load_clip(talking)
        assert seen.waveform is None
        assert (heard.frames, heard.face_boxes) == (None, None)
        np.testing.assert_array_equal(seen.frames, both.frames)
        np.testing.assert_array_equal(heard.waveform, both.waveform)
        assert heard.duration_seconds == 2.0

    def test_sound_in_a_file_of_its_own(self, deaf, blind, talking):
        clip = load_clip(deaf, audio_source=blind)
        np.testing.assert_array_equal(clip.waveform, load_clip(blind, modalities=("audio",)).waveform)
        np.testing.assert_array_equal(clip.frames, load_clip(deaf, modalities=("visual",)).frames)
        waveform = np.zeros(3 * RATE, np.float32)
        waveform[round(0.9 * RATE)] = 0.9
        longer = write_clip(deaf.parent / "longer.m4a", None, waveform)
        part = load_clip(deaf, audio_source=longer, start_seconds=0.4)
        assert part.waveform.shape == (round(1.6 * RATE),)
        assert abs(click_seconds(part.waveform) - 0.5) < 0.002

    def test_face_videos_are_taken_as_they_are(self, tmp_path):
        frames = np.stack([np.roll(portrait(64), k, axis=1) for k in range(10)])
        clip = load_clip(write_clip(tmp_path / "faces.mp4", frames, tone(0.4)), crop_faces=False, face_size=64)
        assert np.abs(clip.frames.astype(int) - frames).mean() < 8
        np.testing.assert_array_equal(clip.face_boxes, [[0, 0, 64, 64]] * 10)

    def test_pictures_that_do_not_fit_in_memory_give_the_same_clip(self, talking, monkeypatch):
        expected = load_clip(talking)
        monkeypatch.setattr(media_pictures, "KEPT_PICTURE_BYTES", 10**6)
        clip = load_clip(talking)
        np.testing.assert_array_equal(clip.frames, expected.frames)
        np.testing.assert_array_equal(clip.face_boxes, expected.face_boxes)


class TestFaceDetectors:
    def test_a_callable_finds_the_face(self, talking):
        asked = []

        def detector(frame):
            asked.append(frame.shape)
            return np.array([[100, 50, 80, 80]])

        clip = load_clip(talking, face_detector=detector)
        assert asked == [(240, 320, 3)] * 10, "every fifth frame is looked at"
        np.testing.assert_allclose(clip.face_boxes[:, 2], 80 * 1.16)

    def test_before_giving_up_every_frame_is_looked_at(self, talking):
        calls = []

        def detector(frame):
            calls.append(1)
            return [[100, 50, 80, 80]] if len(calls) == 10 + 8 else []

        clip = load_clip(talking, face_detector=detector)
        assert len(calls) == 10 + 50
        assert len(np.unique(clip.face_boxes.round(6), axis=0)) == 1

    def test_a_missing_network_is_named_before_the_file_is_read(self, tmp_path):
        with pytest.raises(ValueError, match=r"yunet\.onnx.*no such file"):
            load_clip(tmp_path / "gone.mp4", face_detector=tmp_path / "yunet.onnx")


class TestPolicies:
    """Each defect is an error that names file and remedy by default, and what the remedy says otherwise."""

    def test_no_face(self, faceless):
        with pytest.raises(
            MissingFaceError, match=r"20 frames of 320 x 240.*crop_faces=False; on_missing_face=.center"
        ):
            load_clip(faceless)
        clip = load_clip(faceless, on_missing_face="center")
        np.testing.assert_array_equal(clip.face_boxes, [[40, 0, 240, 240]] * 20)
        assert clip.frames.shape == (20, 96, 96, 3)

    def test_no_sound_track(self, deaf):
        with pytest.raises(MissingAudioError, match=re.escape('on_missing_audio="visual_only"')):
            load_clip(deaf)
        clip = load_clip(deaf, on_missing_audio="visual_only")
        assert clip.waveform is None
        assert len(clip.frames) == 50
        with pytest.raises(MissingAudioError):
            load_clip(deaf, modalities=("audio",), on_missing_audio="visual_only")

    def test_no_pictures(self, blind):
        with pytest.raises(MissingVideoError, match=re.escape('on_missing_video="audio_only"')):
            load_clip(blind)
        clip = load_clip(blind, on_missing_video="audio_only")
        assert clip.frames is None
        assert clip.waveform.shape == (2 * RATE,)
        with pytest.raises(MissingVideoError):
            load_clip(blind, modalities=("visual",), on_missing_video="audio_only")

    def test_silence(self, silent):
        with pytest.raises(SilentAudioError, match=r"peak .*e-04.*on_silence=.visual_only"):
            load_clip(silent)
        assert load_clip(silent, on_silence="visual_only").waveform is None
        assert 0 < np.abs(load_clip(silent, on_silence="keep").waveform).max() < SILENCE_PEAK
        with pytest.raises(SilentAudioError):
            load_clip(silent, modalities=("audio",), on_silence="visual_only")

    def test_nothing_in_the_part_asked_for(self, talking, blind):
        with pytest.raises(EmptyClipError, match=r"from 7\.0 to the end"):
            load_clip(talking, start_seconds=7.0)
        with pytest.raises(EmptyClipError, match="without a sample"):
            load_clip(blind, modalities=("audio",), start_seconds=7.0)

    def test_what_is_no_media(self, tmp_path):
        (tmp_path / "notes.mp4").write_text("not a film\n" * 100)
        with pytest.raises(UnreadableMediaError, match=r"notes\.mp4"):
            load_clip(tmp_path / "notes.mp4")
        with pytest.raises(UnreadableMediaError, match="zero bytes"):
            load_clip(b"")

    def test_every_error_names_the_file_what_was_found_and_what_to_do(self, faceless, deaf, blind, silent):
        for path in (faceless, deaf, blind, silent):
            with pytest.raises(ClipError, match=f"^{re.escape(str(path))}: found .*; accepted is .*\\. "):
                load_clip(path)

    def test_options_out_of_range_are_listed_together(self, talking):
        with pytest.raises(
            ValueError, match=r"modalities: found 'audio'.*face_size: found 0.*on_silence: found 'hush'"
        ):
            load_clip(talking, modalities="audio", face_size=0, on_silence="hush")


@pytest.fixture(scope="module")
def grid_paths(shared_dir):
    """Some of the real recordings: one of speaker s1, the others of other speakers."""
    folder = shared_dir / "data" / "grid"
    others = sorted(path for path in folder.glob("*.mpg") if not path.name.startswith("s1_"))
    return [*others[::5], folder / "s1_bbal6n.mpg"]


@pytest.mark.shared
class TestGridRecordings:
    """What no made-up face can show."""

    def test_the_face_is_found_in_every_frame_and_the_box_is_steady(self, grid_paths):
        assert len(grid_paths) >= 4
        for path in grid_paths:
            clip = load_clip(path)
            assert clip.frames.shape == (75, 96, 96, 3), path
            assert clip.waveform.shape == (48000,), path
            between = [picture.to_rgb() for picture in FrameReader(path)][2::5]  # none of these was looked at
            found = [HaarFaceDetector()(frame) for frame in between]
            assert [len(boxes) for boxes in found] == [1] * 15, path
            tight = clip.face_boxes / 1.16
            tight[:, :2] = clip.face_boxes[:, :2] + 0.08 * tight[:, 2:]
            assert overlap(np.concatenate(found), tight[2::5]).min() > 0.75, path
            assert np.abs(np.diff(clip.face_boxes, axis=0)).max() < 1.0, f"{path}: the box trembles"

    def test_looking_at_every_fifth_frame_loses_nothing(self, grid_paths):
        frames = [picture.to_rgb() for picture in FrameReader(grid_paths[0])]
        found = [HaarFaceDetector()(frame) for frame in frames]
        dense = follow_face(found, range(75), 75, 25)
        sparse = follow_face(found[::5], range(0, 75, 5), 75, 25)
        assert overlap(dense, sparse).min() > 0.9

    def test_a_recording_without_pictures_at_its_start_holds_the_first_box(self, shared_dir):
        """The first 12 frames of this file are grey; the face is there from then on."""
        path = shared_dir / "data" / "grid" / "s1_pbwx1s.mpg"
        clip = load_clip(path)
        frames = [picture.to_rgb() for picture in FrameReader(path)]
        assert len(clip.frames) == 75
        assert [len(HaarFaceDetector()(frames[k])) for k in (0, 6, 11, 12)] == [0, 0, 0, 1]
        assert np.abs(clip.face_boxes[:12] - clip.face_boxes[12]).max() < 2

    def test_the_mouth_moves_with_the_sound(self, grid_paths):
        """The lower third of the crops changes more while there is speech than in the silence before and after."""
        shares = []
        for path in grid_paths:
            clip = load_clip(path)
            mouth = cv2.blur(clip.frames[:, 64:, 28:68].mean(-1).transpose(1, 2, 0), (3, 3)).transpose(2, 0, 1)
            change = np.abs(np.diff(mouth, axis=0)).mean((1, 2))
            loudness = np.sqrt((clip.waveform.reshape(75, 640) ** 2).mean(1))[1:]
            spoken = loudness > 0.1 * loudness.max()
            assert 10 < spoken.sum() < 65, path
            shares.append(change[spoken].mean() / change[~spoken].mean())
        assert np.median(shares) > 1.3


def test_a_clip_can_be_made_from_arrays():
    clip = Clip(None, tone(0.5), 25, RATE, None, "made")
    assert clip.duration_seconds == 0.5
