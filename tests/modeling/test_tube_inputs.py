"""What the models refuse as input, with which words, and what they accept."""

import pytest
import torch
from small_models import build, random_codes, random_spectra, speech_config, vqmae_config

from vqmae_hf.modeling.modeling_vqmae import VQMAEModel


def make() -> VQMAEModel:
    return build(VQMAEModel, vqmae_config())


def refused(match: str, model: VQMAEModel | None = None, **inputs):
    with pytest.raises(ValueError, match=match):
        (model or make())(**inputs)


def test_refusals_say_what_was_found_and_what_is_accepted():
    codes = random_codes(vqmae_config())
    audio, visual = codes["audio_codes"], codes["visual_codes"]
    refused("no input was given.*audio_codes, audio_values, visual_codes and pixel_values_videos")
    refused(r"\{'visual': 2, 'audio': 3\}", audio_codes=audio, visual_codes=visual[:2])
    refused("audio_codes and audio_values were both given", audio_codes=audio, audio_values=torch.ones(3, 8, 65))
    refused("audio_values was given.*no audio_tokenizer_config", audio_values=torch.ones(3, 8, 65))
    refused(r"visual input was given.*\('audio',\)", build(VQMAEModel, speech_config()), **codes)


def test_refusals_of_types_and_shapes():
    codes = random_codes(vqmae_config())
    audio, visual = codes["audio_codes"], codes["visual_codes"]
    refused(r"audio_codes has dtype torch.float32.*\[0, 16\)", audio_codes=audio.float())
    refused(r"visual_codes has dtype torch.bool", visual_codes=visual.bool())
    refused(r"audio_codes has shape \(3, 8, 7\); \(clips, spectra, 8\)", audio_codes=audio[:, :, :7])
    refused(r"visual_codes has shape \(3, 4, 4\); \(clips, frames, 4, 4\)", visual_codes=visual[..., 0])
    too_high = audio.clone()
    too_high[1, 2, 3] = 16
    refused("audio_codes holds codes from 0 to 16; 0 to 15", audio_codes=too_high)
    refused("visual_codes holds codes from -1 to 22", visual_codes=visual.clamp(max=23) - 1)


@pytest.mark.parametrize("spectra", [1, 3, 7, 10])
def test_refused_lengths_name_the_processor_and_how_it_cuts_windows(spectra):
    audio = torch.zeros(2, spectra, 8, dtype=torch.long)
    refused(rf"audio_codes has {spectra} spectra; up to 8 in multiples of 2.*cut_windows", audio_codes=audio)


def test_refused_masks():
    codes = random_codes(vqmae_config())
    refused(r"audio_attention_mask has shape \(3, 4\); \(3, 8\)", **codes, audio_attention_mask=torch.ones(3, 4))
    refused(r"visual_attention_mask has shape \(3, 8\); \(3, 4\)", **codes, visual_attention_mask=torch.ones(3, 8))
    refused(r"audio_mask has shape \(3, 8\).*\(3, 16\)", **codes, audio_mask=torch.ones(3, 8, dtype=torch.bool))
    refused(r"visual_mask has .*float32.*\(3, 8\)", **codes, visual_mask=torch.ones(3, 8))
    model = build(VQMAEModel, vqmae_config(with_tokenizers=True))
    refused(
        r"attention mask has shape \(2, 4\)",
        model,
        audio_values=random_spectra(),
        audio_attention_mask=torch.ones(2, 4),
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32])
def test_small_integer_types_of_a_token_store_are_codes_too(dtype):
    model = make()
    codes = random_codes(model.config)
    small = {name: value.to(dtype) for name, value in codes.items()}
    assert torch.equal(model(**small).audio_global, model(**codes).audio_global)
