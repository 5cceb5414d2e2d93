"""What the models leave out changes no result: losses, gradients and logits are those of the equations written out."""

import pytest
import torch
from plain_vqmae import plain_classification_loss, plain_logits, plain_pretraining_loss
from small_models import build, gradients, random_codes, seeded, vqmae_config

from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining

FUSIONS = [{"encoder_fusion": name, "decoder_fusion": name} for name in ("self", "cross")]


def half_masked(model, clips: int = 3) -> dict[str, torch.Tensor]:
    tubes = {"visual": model.config.num_visual_tubes, "audio": model.config.num_audio_tubes}
    noise = {name: torch.rand(clips, length, generator=seeded()) for name, length in tubes.items()}
    return {name: values.argsort(dim=1).argsort(dim=1) < values.shape[1] // 2 for name, values in noise.items()}


@pytest.mark.parametrize("fusions", FUSIONS, ids=["self", "cross"])
def test_pretraining(fusions):
    model = build(VQMAEForPreTraining, vqmae_config(**fusions))
    codes, masks = random_codes(model.config), half_masked(model)
    expected = plain_pretraining_loss(model, **codes, masks=masks)
    expected.backward()
    expected_gradients = gradients(model)
    model.zero_grad()
    loss = model(**codes, visual_mask=masks["visual"], audio_mask=masks["audio"]).loss
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("pooling", ["temporal_mean", "attention", "query2emo"])
@pytest.mark.parametrize("fusions", FUSIONS, ids=["self", "cross"])
def test_classification(fusions, pooling):
    model = build(VQMAEForAudioVisualClassification, vqmae_config(**fusions, classifier_pooling=pooling, num_labels=4))
    codes, labels = random_codes(model.config), torch.tensor([0, 3, 1])
    output = model.eval()(**codes, labels=labels)
    torch.testing.assert_close(output.logits, plain_logits(model, **codes), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(output.loss, plain_classification_loss(model, labels, **codes), rtol=1e-5, atol=1e-6)
