"""What people reach for in the Hugging Face ecosystem does what it does for other models, or says what to call."""

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights, load_checkpoint_and_dispatch
from transformers import AutoModelForAudioClassification, AutoModelForVideoClassification, pipeline

from tests.modeling.small_models import build, random_codes, vqmae_config
from vqmae_hf import AudioVisualClassificationPipeline, VQMAEForAudioVisualClassification, VQMAEProcessor

VARIANTS = [
    {"with_tokenizers": True},
    {"encoder_fusion": "cross", "classifier_pooling": "query2emo"},
]


def classifier(**fields):
    return build(VQMAEForAudioVisualClassification, vqmae_config(**fields))


def logits_of(model, codes):
    with torch.no_grad():
        return model(**codes).logits


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    model = classifier(with_tokenizers=True)
    model.save_pretrained(folder, max_shard_size="50KB")
    VQMAEProcessor.from_model_config(model.config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("auto", [AutoModelForAudioClassification, AutoModelForVideoClassification])
def test_both_auto_classes_load_the_same_classifier(folder, auto):
    expected = VQMAEForAudioVisualClassification.from_pretrained(folder)
    codes = random_codes(expected.config)
    assert torch.equal(logits_of(auto.from_pretrained(folder), codes), logits_of(expected, codes))


def test_the_stock_audio_pipeline_hears_a_window_and_names_ours_for_more(folder):
    classify, ours = (
        pipeline(task, model=str(folder)) for task in ("audio-classification", "audiovisual-classification")
    )
    assert isinstance(ours, AudioVisualClassificationPipeline)
    extractor = ours.processor.feature_extractor
    window = np.random.default_rng(0).normal(size=extractor.num_spectra * extractor.hop_length).astype(np.float32)
    expected = {answer["label"]: answer["score"] for answer in ours({"waveform": window, "sampling_rate": 16000})}
    assert {answer["label"]: answer["score"] for answer in classify(window)} == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="audiovisual-classification"):
        classify(np.tile(window, 3))


# PEFT asks for a name that transformers 5.23 has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("fields", VARIANTS)
def test_lora_by_plain_peft(tmp_path, fields):
    peft = pytest.importorskip("peft")
    model = classifier(**fields)
    codes = random_codes(model.config)
    before = logits_of(model, codes)
    settings = peft.LoraConfig(
        r=4, target_modules=["query", "value", "qkv", "fc1", "fc2"], modules_to_save=["classifier"]
    )
    adapted = peft.get_peft_model(model, settings)
    torch.testing.assert_close(logits_of(adapted.eval(), codes), before)  # B starts at zero
    frozen = {n: p.clone() for n, p in adapted.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.Adam([p for p in adapted.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        loss = adapted.train()(**codes, labels=torch.tensor([0, 1, 2])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    now = dict(adapted.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    after = logits_of(adapted.eval(), codes)
    assert (after - before).abs().max() > 1e-3
    adapted.save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()  # the adapter alone
    loaded = peft.PeftModel.from_pretrained(classifier(**fields), tmp_path).eval()
    torch.testing.assert_close(logits_of(loaded, codes), after)
    merged = loaded.merge_and_unload()
    assert type(merged) is VQMAEForAudioVisualClassification
    torch.testing.assert_close(logits_of(merged, codes), after, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("device_map", ["auto", "cpu", {"": "cpu"}])
def test_device_maps(folder, device_map):
    expected = VQMAEForAudioVisualClassification.from_pretrained(folder)
    loaded = AutoModelForVideoClassification.from_pretrained(folder, device_map=device_map)
    codes = random_codes(expected.config)
    torch.testing.assert_close(logits_of(loaded, codes), logits_of(expected, codes))


@pytest.mark.parametrize("fields", VARIANTS)
def test_layers_on_disk(tmp_path, fields):
    """Big-model loading: an empty model, weights straight from the files, encoder layers fetched when their turn comes."""
    expected = classifier(**fields)
    expected.save_pretrained(tmp_path / "model")
    with init_empty_weights():
        empty = VQMAEForAudioVisualClassification(expected.config)
    assert all(parameter.device.type == "meta" for parameter in empty.parameters())
    device_map = {name: "cpu" for name, _ in empty.named_children() if name != "model"}
    device_map |= {f"model.{name}": "cpu" for name, _ in empty.model.named_children() if name != "encoder"}
    device_map |= {f"model.encoder.{name}": "disk" for name, _ in empty.model.encoder.named_children()}
    loaded = load_checkpoint_and_dispatch(
        empty, tmp_path / "model", device_map=device_map, offload_folder=tmp_path / "disk"
    ).eval()
    codes = random_codes(expected.config)
    torch.testing.assert_close(logits_of(loaded, codes), logits_of(expected, codes))


def test_compiled_in_one_graph():
    model = classifier()
    codes = random_codes(model.config)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(logits_of(compiled, codes), logits_of(model, codes))
