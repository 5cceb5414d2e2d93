import pytest
import torch

from vqmae_hf import AudioVQVAEConfig, VisualVQVAEConfig, VQMAEConfig, VQMAEForPreTraining
from vqmae_hf.evaluation.reconstructions import HIDDEN_POWER, decode_masked_codes, predict_masked_codes


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = VQMAEConfig.from_preset(
        "tiny",
        num_hidden_layers=1,
        decoder_num_hidden_layers=1,
        audio_tokenizer_config=AudioVQVAEConfig.from_preset("tiny").to_dict(),
        visual_tokenizer_config=VisualVQVAEConfig.from_preset("tiny").to_dict(),
    )
    return VQMAEForPreTraining(config).eval()


@pytest.fixture
def codes():
    return {"audio": torch.randint(0, 64, (2, 100, 64)), "visual": torch.randint(0, 128, (2, 50, 8, 8))}


def predict(model, codes, **options):
    return predict_masked_codes(model, codes, generator=torch.Generator().manual_seed(3), **options)


def test_visible_codes_stay_and_hidden_ones_are_the_most_probable(model, codes):
    results = predict(model, codes, mask_ratio=(0.25, 0.75))
    output = model(
        audio_codes=codes["audio"],
        visual_codes=codes["visual"],
        mask_ratio=(0.25, 0.75),
        generator=torch.Generator().manual_seed(3),
        output_logits=True,
    )
    for modality, share in (("visual", 0.25), ("audio", 0.75)):
        original, reconstructed, hidden = results[modality]
        assert torch.equal(original, codes[modality])
        assert torch.equal(reconstructed[~hidden], original[~hidden])
        assert hidden.float().mean().item() == pytest.approx(share, abs=0.01)
        guesses = output[f"{modality}_logits"].argmax(-1)[output[f"{modality}_mask"]]
        assert torch.equal(reconstructed[hidden].sort().values, guesses.flatten().sort().values)


def test_masks_hide_whole_tubes(model, codes):
    hidden = predict(model, codes, mask_ratio=0.5)["visual"].hidden
    tubes = hidden.view(2, 10, 5, 4, 2, 2, 4).permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
    assert ((tubes.float().mean(4) == 0) | (tubes.float().mean(4) == 1)).all()


def test_decoded_values_differ_from_the_original_only_where_something_was_hidden(model, codes):
    tokenizers = {"audio": model.model.audio_tokenizer, "visual": model.model.visual_tokenizer}
    nothing = decode_masked_codes(predict(model, codes, mask_ratio=0.0), tokenizers)
    for parts in nothing.values():
        # At least the mask ratio asked for is hidden: none.
        assert torch.equal(parts.original, parts.reconstructed)
        assert torch.equal(parts.original, parts.masked)
    some = predict(model, codes, mask_ratio=0.5)
    values = decode_masked_codes(some, tokenizers)
    pixels = (
        some["visual"].hidden.repeat_interleave(8, 2).repeat_interleave(8, 3)[:, :, None].expand(-1, -1, 3, -1, -1)
    )
    assert (values["visual"].masked[pixels] == 0).all()
    assert torch.equal(values["visual"].masked[~pixels], values["visual"].original[~pixels])
    assert torch.equal(values["visual"].original, tokenizers["visual"].decode(codes["visual"]))
    dark = values["audio"].masked == HIDDEN_POWER
    assert dark.float().mean().item() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(values["audio"].masked[~dark], values["audio"].original[~dark])


def test_one_modality_alone_can_be_completed(model, codes):
    results = predict(model, {"visual": codes["visual"]}, mask_ratio=0.5)
    assert set(results) == {"visual"}
    assert set(decode_masked_codes(results, {"audio": model.model.audio_tokenizer})) == set()
