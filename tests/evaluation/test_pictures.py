import numpy as np
import torch

from vqmae_hf.evaluation.pictures import NAME_WIDTH, ROW_HEIGHT, frame_strip, named_rows, spectrogram


def test_a_strip_shows_first_and_last_frame_in_their_colours():
    pixels = torch.full((9, 3, 4, 6), -0.5)
    pixels[0, 0] = 0.5
    pixels[8, 2] = 2.0  # beyond white
    strip = frame_strip(pixels, num_frames=5)
    assert strip.shape == (4, 30, 3)
    assert (strip[:, :6] == [255, 0, 0]).all()
    assert (strip[:, 24:] == [0, 0, 255]).all()
    assert (strip[:, 6:24] == 0).all()
    assert frame_strip(pixels[:2], num_frames=5).shape == (4, 12, 3)


def test_loud_low_tones_are_bright_at_the_bottom():
    spectra = np.full((10, 513), 1e-9)
    spectra[5:, :50] = 1.0
    picture = spectrogram(spectra, width=100, height=60).astype(int).sum(axis=2)
    assert picture.shape == (60, 100)
    assert picture[58, 90] > 500
    assert picture[58, 10] < 50
    assert picture[5, 90] < 50


def test_pictures_with_one_loudest_power_compare():
    quiet = np.full((4, 513), 1e-3)
    assert spectrogram(quiet).sum() > spectrogram(quiet, loudest=1.0).sum() > spectrogram(quiet, loudest=1e5).sum()


def test_rows_stand_under_each_other_with_room_for_their_names():
    red, wide = np.zeros((48, 48, 3), np.uint8), np.zeros((96, 300, 3), np.uint8)
    red[..., 0] = 255
    sheet = np.asarray(named_rows([("red", red), ("wide", wide)]))
    assert sheet.shape[1] == NAME_WIDTH + 300
    assert (sheet[10, NAME_WIDTH + 10] == [255, 0, 0]).all()
    assert (sheet[ROW_HEIGHT + 20, NAME_WIDTH + 290] == 0).all()
    assert (sheet[:, :NAME_WIDTH] < 128).any()
