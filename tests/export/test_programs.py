"""Exported programs answer as the model does, at sizes that they were not traced with, and refuse to be wrong."""

import json

import numpy as np
import pytest
import torch

from tests.modeling.small_models import (
    audio_tokenizer,
    build,
    random_codes,
    random_frames,
    random_spectra,
    visual_tokenizer,
    vqmae_config,
)
from vqmae_hf.export import ExportError, export_onnx, export_program
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining, VQMAEModel
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # of torch, about its own tree specifications
    pytest.mark.filterwarnings("ignore:.*axis name.*:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def run(path, **feeds):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: np.asarray(tensor) for name, tensor in feeds.items()})[0])


@pytest.mark.parametrize("statistics", ["running", "clip"])
def test_audio_tokenizer_in_onnxruntime(tmp_path, statistics):
    model = audio_tokenizer(batch_norm_statistics=statistics)
    exported = export_onnx(model, tmp_path / "onnx", check=False)
    spectra = random_spectra(clips=3, spectra=11, seed=5)
    codes = run(exported.programs["encode"], audio_values=spectra)
    assert torch.equal(codes, model.encode(spectra))
    decoded = run(exported.programs["decode"], audio_codes=codes)
    torch.testing.assert_close(decoded, model.decode(codes), rtol=1e-4, atol=1e-4)


def test_visual_tokenizer_in_onnxruntime(tmp_path):
    model = visual_tokenizer()
    exported = export_onnx(model, tmp_path / "onnx", check=False)
    frames = random_frames(clips=1, frames=7, seed=5)
    codes = run(exported.programs["encode"], pixel_values_videos=frames)
    assert torch.equal(codes, model.encode(frames))
    decoded = run(exported.programs["decode"], visual_codes=codes)
    torch.testing.assert_close(decoded, model.decode(codes), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def classifier():
    return build(VQMAEForAudioVisualClassification, vqmae_config(with_tokenizers=True))


def test_classifier_of_a_folder_in_onnxruntime(classifier, tmp_path):
    """Codes and values in, any number of clips, short ones, and one that is only heard."""
    classifier.save_pretrained(tmp_path / "model")
    VQMAEProcessor.from_model_config(classifier.config).save_pretrained(tmp_path / "model")
    exported = export_onnx(tmp_path / "model", tmp_path / "onnx")
    assert all(difference < 1e-4 for difference in exported.differences.values())
    masks = {
        "audio_attention_mask": torch.ones(5, 8, dtype=torch.long),
        "visual_attention_mask": torch.ones(5, 4, dtype=torch.long),
    }
    masks["audio_attention_mask"][1, 5:] = 0
    masks["visual_attention_mask"][3] = 0
    values = {"audio_values": random_spectra(5, seed=3), "pixel_values_videos": random_frames(5, seed=3)}
    inputs = {"codes": random_codes(classifier.config, clips=5, seed=3), "values": values}
    for name, given in inputs.items():
        with torch.no_grad():
            expected = classifier(**given, **masks).logits
        found = run(exported.programs[name], **given, **masks)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    info = json.loads((tmp_path / "onnx" / "export.json").read_text())
    assert info["programs"]["codes"]["inputs"]["audio_codes"] == {"shape": ["batch", 8, 8], "dtype": "int64"}
    assert info["labels"] == ["LABEL_0", "LABEL_1", "LABEL_2"]
    saved = VQMAEProcessor.from_pretrained(tmp_path / "onnx")
    assert saved.feature_extractor.num_spectra == 8


@pytest.mark.parametrize(
    ("fusion", "pooling"), [("self", "attention"), ("self", "temporal_mean"), ("cross", "query2emo")]
)
def test_torch_export(tmp_path, fusion, pooling):
    config = vqmae_config(encoder_fusion=fusion, classifier_pooling=pooling)
    model = build(VQMAEForAudioVisualClassification, config)
    exported = export_program(model, tmp_path / "programs", check=False)
    assert exported.programs.keys() == {"codes"}  # without tokenizers there are no values to take
    codes = random_codes(config, clips=4)
    masks = [torch.ones(4, 8, dtype=torch.long), torch.ones(4, 4, dtype=torch.long)]
    program = torch.export.load(exported.programs["codes"]).module()
    with torch.no_grad():
        expected = model(**codes).logits
        torch.testing.assert_close(program(*codes.values(), *masks), expected, rtol=1e-5, atol=1e-6)


def test_a_program_that_is_wrong_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("vqmae_hf.export.programs.run_file", lambda path, graph, inputs: graph.module(*inputs) + 0.1)
    with pytest.raises(ExportError, match="'decode' differs from the model by"):
        export_program(visual_tokenizer(), tmp_path / "programs", parts=("decode",))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported(classifier, tmp_path):
    with pytest.raises(TypeError, match="found VQMAEForPreTraining; AudioVQVAEModel"):
        export_program(build(VQMAEForPreTraining, vqmae_config()), tmp_path / "out")
    without = build(VQMAEForAudioVisualClassification, vqmae_config())
    with pytest.raises(ValueError, match=r"parts=\('values',\).*has \('codes',\)"):
        export_program(without, tmp_path / "out", parts=("values",))
    with pytest.raises(TypeError, match="found VQMAEModel"):
        export_onnx(build(VQMAEModel, vqmae_config()), tmp_path / "out")


def test_onnx_without_its_packages(tmp_path, monkeypatch):
    monkeypatch.setattr("vqmae_hf.export.programs.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'vqmae-hf\[onnx\]'"):
        export_onnx(visual_tokenizer(), tmp_path / "out")


def test_exporting_leaves_the_model_as_it_was(tmp_path):
    model = audio_tokenizer().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    export_program(model, tmp_path / "programs", parts=("encode",))
    assert model.training
    assert "nearest_codes" not in vars(model.quantizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
