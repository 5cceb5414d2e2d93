"""The tokenizers' encoders give the codes of the equations written out."""

import pytest
import torch
from plain_tokenizers import plain_audio_codes, plain_visual_codes
from small_models import audio_tokenizer, random_frames, random_spectra, spread_codebook, visual_tokenizer

from vqmae_hf.modeling.tokenizer_blocks import rapid_tanh


@pytest.mark.parametrize("batch_norm", [False, True])
def test_audio(batch_norm):
    spectra = random_spectra()
    model = audio_tokenizer(batch_norm=batch_norm)
    model.train()(spectra)  # running statistics that are not those of the start
    model = spread_codebook(model.eval(), spectra)
    codes = model.encode(spectra)
    assert len(codes.unique()) > 3
    torch.testing.assert_close(codes, plain_audio_codes(model, spectra))


def test_the_rapid_tanh_is_tanh_to_rounding():
    ends = torch.tensor([-torch.inf, -200.0, -1e-9, 0.0, 1e-9, 200.0, torch.inf])
    values = torch.cat([torch.linspace(-12, 12, 9999), ends])
    before = values.clone()
    torch.testing.assert_close(rapid_tanh(values).double(), torch.tanh(before.double()), rtol=0, atol=2.5e-7)
    assert torch.equal(values, before)


def test_visual():
    frames = random_frames()
    model = spread_codebook(visual_tokenizer(), frames)
    codes = model.encode(frames)
    assert len(codes.unique()) > 3
    torch.testing.assert_close(codes, plain_visual_codes(model, frames))
