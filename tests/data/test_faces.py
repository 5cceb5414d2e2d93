"""The right face, in every frame, without trembling or lag; and crops that are exact to fractions of a pixel."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from face_by_hand import face_box, overlap, picture_with_faces
from hypothesis import given
from hypothesis import strategies as st

from vqmae_hf.data.faces import (
    FACE_MARGIN,
    HaarFaceDetector,
    YuNetFaceDetector,
    add_margin,
    as_face_detector,
    center_box,
    crop_square,
    detect_faces,
    follow_face,
)

RATE = 25


def box(x: float, y: float, side: float) -> list[float]:
    """A box around the middle (x, y)."""
    return [x - side / 2, y - side / 2, side, side]


def middles(boxes: np.ndarray) -> np.ndarray:
    return boxes[:, :2] + boxes[:, 2:] / 2


class TestHaarFaceDetector:
    @pytest.mark.parametrize("size", [(240, 320), (480, 640), (960, 1280)])
    def test_finds_one_face_where_it_is_at_any_resolution(self, size):
        scale = size[0] / 240
        place = tuple(round(scale * number) for number in (90, 30, 180))
        found = HaarFaceDetector()(picture_with_faces([place], *size))
        assert found.shape == (1, 4)
        assert overlap(found[0], face_box(*place)) > 0.7

    def test_finds_small_faces_when_there_is_no_large_one(self):
        place = (200, 120, 70)
        found = HaarFaceDetector()(picture_with_faces([place]))
        assert len(found) == 1
        assert overlap(found[0], face_box(*place)) > 0.6

    def test_finds_nothing_where_there_is_nothing(self):
        assert HaarFaceDetector()(picture_with_faces([])).shape == (0, 4)

    def test_may_be_shared_between_threads_and_sent_to_processes(self):
        """The same detector object in four threads at once finds what it finds alone."""
        pictures = [picture_with_faces([(10 * k, 5 * k, 160)]) for k in range(8)]
        detector = pickle.loads(pickle.dumps(HaarFaceDetector()))
        alone = [detector(picture) for picture in pictures]
        barrier = threading.Barrier(4)

        def work(_: int) -> list[np.ndarray]:
            barrier.wait(timeout=30)
            return [detector(picture) for picture in pictures]

        with ThreadPoolExecutor(4) as pool:
            for together in pool.map(work, range(4)):
                for first, second in zip(alone, together, strict=True):
                    np.testing.assert_array_equal(first, second)


class TestChoiceOfDetector:
    def test_none_a_callable_and_a_cascade_file(self):
        picture = picture_with_faces([(60, 20, 200)])
        cascade = cv2.data.haarcascades + "haarcascade_frontalface_alt2.xml"
        np.testing.assert_array_equal(as_face_detector(None)(picture), as_face_detector(cascade)(picture))

        def detector(frame):
            return frame[:0, :4, 0]

        assert as_face_detector(detector) is detector

    @pytest.mark.parametrize("given", ["missing.onnx", "notes.txt", 7])
    def test_what_is_no_detector_is_refused_by_name(self, tmp_path, given):
        (tmp_path / "notes.txt").write_text("hello")
        with pytest.raises(ValueError, match=r"face_detector: found .*(no such file|neither)"):
            as_face_detector(given if isinstance(given, int) else str(tmp_path / given))

    @pytest.mark.parametrize("name", ["broken.xml", "broken.onnx"])
    def test_broken_files_are_refused_by_name(self, tmp_path, name):
        (tmp_path / name).write_text("<?xml version='1.0'?><opencv_storage></opencv_storage>")
        with pytest.raises(ValueError, match=f"face_detector: found .*{name}"):
            as_face_detector(tmp_path / name)(picture_with_faces([]))

    def test_a_network_gets_a_small_bgr_picture_and_its_boxes_are_scaled_back(self, monkeypatch, tmp_path):
        """No network file comes with OpenCV: a stand-in records what it is given."""
        seen = {}

        class Network:
            def setInputSize(self, size):
                seen["size"] = size

            def detect(self, image):
                seen["image"] = image
                return 1, np.array([[10, 20, 30, 40, *[0] * 10, 0.9]], np.float32)

        monkeypatch.setattr(cv2.FaceDetectorYN, "create", staticmethod(lambda *_: Network()))
        (tmp_path / "yunet.onnx").write_bytes(b"network")
        detector = as_face_detector(tmp_path / "yunet.onnx")
        assert isinstance(detector, YuNetFaceDetector)
        frame = np.zeros((640, 960, 3), np.uint8)
        frame[..., 0] = 200  # red
        np.testing.assert_allclose(detector(frame), [[20, 40, 60, 80]])
        assert seen["size"] == (480, 320)
        assert seen["image"].shape == (320, 480, 3)
        assert seen["image"][0, 0].tolist() == [0, 0, 200]

    @pytest.mark.parametrize(
        "boxes", [np.zeros((2, 5)), np.zeros(4), [[1, 1, 0, 5]], [[np.nan, 1, 5, 5]], [[1, 2, 3, -4]]]
    )
    def test_boxes_that_make_no_sense_are_refused(self, boxes):
        with pytest.raises(ValueError, match="accepted are"):
            detect_faces([np.zeros((8, 8, 3), np.uint8)], lambda frame: boxes)

    @pytest.mark.parametrize("nothing", [None, [], (), np.zeros((0, 4))])
    def test_every_way_to_say_no_face(self, nothing):
        assert detect_faces([np.zeros((8, 8, 3), np.uint8)], lambda frame: nothing)[0].shape == (0, 4)


class TestFollowFace:
    def test_every_frame_gets_a_box_and_a_steady_face_a_steady_one(self):
        """Detectors tremble by a pixel or two; the track does not, and it is not off either."""
        rng = np.random.default_rng(0)
        times = range(0, 75, 5)
        detections = [np.array([box(*rng.normal((100, 80, 60), (1.5, 1.5, 3)))]) for _ in times]
        track = follow_face(detections, times, 75, RATE)
        assert track.shape == (75, 4)
        assert np.abs(np.diff(track, axis=0)).max() < 0.5
        assert np.abs(middles(track) - (100, 80)).max() < 3
        assert np.abs(track[:, 2] - 60).max() < 3
        np.testing.assert_array_equal(track[:, 2], track[:, 3])

    def test_a_moving_face_is_followed_without_lag(self):
        times = range(0, 100, 5)
        detections = [np.array([box(50 + 2 * t, 80, 60)]) for t in times]
        track = follow_face(detections, times, 96, RATE)
        expected = 50 + 2 * np.arange(96)
        assert np.abs(middles(track)[15:-15, 0] - expected[15:-15]).max() < 0.05

    def test_frames_without_detection_get_the_box_between_their_neighbours(self):
        times = range(0, 100, 5)
        present = [box(50 + t, 80, 60) for t in times]
        detections = [np.array([b]) if k < 5 or k > 14 else np.zeros((0, 4)) for k, b in enumerate(present)]
        track = follow_face(detections, times, 100, RATE)
        assert np.abs(middles(track)[15:-20, 0] - (50 + np.arange(100))[15:-20]).max() < 0.05

    def test_the_nearest_box_is_held_before_the_first_and_after_the_last_detection(self):
        times = range(0, 100, 5)
        detections = [np.array([box(100, 80, 60)]) if 8 <= k <= 12 else np.zeros((0, 4)) for k in range(20)]
        np.testing.assert_allclose(follow_face(detections, times, 100, RATE), [box(100, 80, 60)] * 100)

    def test_one_detection_is_enough_and_none_is_none(self):
        assert follow_face([np.zeros((0, 4))] * 3, [0, 5, 10], 15, RATE) is None
        np.testing.assert_allclose(follow_face([np.array([box(9, 9, 6)])], [0], 1, RATE), [box(9, 9, 6)])

    @given(st.integers(0, 2**32 - 1))
    def test_the_large_face_that_stays_is_followed_whatever_else_is_found(self, seed):
        """Smaller bystanders, false detections of any size for a moment, missed detections, any order."""
        rng = np.random.default_rng(seed)
        times = range(0, 150, 5)
        truth = np.array([box(150 + 40 * np.sin(t / 40), 100, 80) for t in times])
        detections = []
        for real in truth:
            found = [box(300, 100, 40)]  # a bystander, always there
            if rng.random() > 0.15:
                found.append(real + rng.normal(0, 1, 4))
            if rng.random() < 0.1:
                found.append(box(*rng.uniform(0, 400, 2), rng.uniform(20, 90)))
            detections.append(rng.permutation(found))
        detections[0], detections[-1] = truth[:1], truth[-1:]
        track = follow_face(detections, times, 150, RATE)
        assert overlap(track[list(times)], truth).min() > 0.6

    def test_two_equal_faces_one_is_kept(self):
        rng = np.random.default_rng(1)
        times = range(0, 100, 5)
        pair = [np.array([box(80, 100, 60), box(240, 100, 60)]) + rng.normal(0, 1, (2, 4)) for _ in times]
        track = middles(follow_face([rng.permutation(boxes) for boxes in pair], times, 100, RATE))
        assert np.ptp(track[:, 0]) < 5

    def test_a_large_false_detection_moves_nothing(self):
        times = range(0, 75, 5)
        detections = [np.array([box(100, 80, 60)]) for _ in times]
        detections[7] = np.array([box(200, 150, 140)])
        track = follow_face(detections, times, 75, RATE)
        np.testing.assert_allclose(track, [box(100, 80, 60)] * 75)

    def test_a_cut_to_another_picture_is_followed(self):
        times = range(0, 150, 5)
        detections = [np.array([box(100, 80, 60) if t < 60 else box(250, 120, 70)]) for t in times]
        track = middles(follow_face(detections, times, 150, RATE))
        assert np.abs(track[:40] - (100, 80)).max() < 1
        assert np.abs(track[75:] - (250, 120)).max() < 1

    @pytest.mark.timeout(120)  # comparing all pairs of 36,000 detections takes far longer
    def test_an_hour_is_followed_in_reasonable_time(self):
        """An hour with a bystander: what happened long ago is one candidate, not thousands."""
        times = range(0, 90_000, 5)
        pair = np.array([box(100, 100, 60), box(240, 100, 50)])
        track = follow_face([pair] * len(times), times, 90_000, RATE)
        assert np.abs(middles(track) - (100, 100)).max() < 1e-6

    def test_a_face_that_comes_back_after_minutes_is_followed_again(self):
        times = range(0, 7500, 5)
        nothing = np.zeros((0, 4))
        detections = [np.array([box(100, 80, 60)]) if t < 500 or t >= 6500 else nothing for t in times]
        detections[600] = np.array([box(300, 200, 40)])  # a moment of something else in between
        track = middles(follow_face(detections, times, 7500, RATE))
        assert np.abs(track - (100, 80)).max() < 1e-6

    def test_of_a_crowd_the_largest_are_candidates(self):
        rng = np.random.default_rng(0)
        crowd = np.array([box(*rng.uniform(0, 900, 2), 20) for _ in range(200)])
        detections = [np.concatenate([crowd, [box(500, 500, 80)]]) for _ in range(20)]
        track = follow_face(detections, range(0, 100, 5), 100, RATE)
        np.testing.assert_allclose(track, [box(500, 500, 80)] * 100)

    def test_oblong_boxes_become_squares_around_the_same_middle(self):
        track = follow_face([np.array([[10, 20, 40, 60]])], [0], 1, RATE)
        np.testing.assert_allclose(track, [[0, 20, 60, 60]], atol=1e-9)


class TestCrops:
    def test_a_crop_of_whole_pixels_is_the_picture_itself(self):
        image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        np.testing.assert_array_equal(crop_square(image, np.array([7, 4, 32, 32]), 32), image[4:36, 7:39])

    def test_halving_averages_pixels(self):
        image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        mean = image.reshape(32, 2, 32, 2, 3).mean((1, 3))
        assert np.abs(crop_square(image, np.array([0, 0, 64, 64]), 32) - mean).max() <= 1

    @pytest.mark.parametrize("side", [40.0, 57.3, 120.0])
    def test_a_box_moved_by_a_fraction_moves_the_crop_by_it(self, side):
        """What a spot's middle says: whole-pixel crops would jump."""
        y, x = np.mgrid[:200, :200]
        spot = 255 * np.exp(-0.5 * ((x - 100.3) ** 2 + (y - 99.1) ** 2) / (side / 12) ** 2)
        image = np.repeat(spot[..., None], 3, axis=2).round().astype(np.uint8)
        for shift in (0.0, 0.25, 0.5, 0.75):
            crop = crop_square(image, np.array([90 - side / 4 + shift, 90 - side / 4, side, side]), 48)[..., 0].astype(
                float
            )
            crop[crop < 8] = 0
            found = (crop.sum(0) * (np.arange(48) + 0.5)).sum() / crop.sum()
            expected = (100.3 + 0.5 - (90 - side / 4 + shift)) * 48 / side
            assert abs(found - expected) < 0.1

    def test_beyond_the_border_the_border_is_repeated(self):
        image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        crop = crop_square(image, np.array([-8, -8, 32, 32]), 32)
        np.testing.assert_array_equal(crop[8:, 8:], image[:24, :24])
        np.testing.assert_array_equal(crop[:8, 8:], np.broadcast_to(image[:1, :24], (8, 24, 3)))

    def test_margin_and_middle(self):
        grown = add_margin(np.array([[10.0, 20, 100, 100]]))
        np.testing.assert_allclose(middles(grown), [[60, 70]])
        np.testing.assert_allclose(grown[:, 2:], 100 * (1 + 2 * FACE_MARGIN))
        np.testing.assert_allclose(center_box(240, 320), [40, 0, 240, 240])
        np.testing.assert_allclose(center_box(320, 240), [0, 40, 240, 240])
