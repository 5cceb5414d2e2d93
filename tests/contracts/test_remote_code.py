"""A checkpoint with its code in it, used where the package is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

# As in conftest.py: one that cannot load its operators breaks transformers.
WITHOUT_TORCHVISION = 'import sys; sys.modules["torchvision"] = None\n'

# What each model takes of the same inputs; one spectrum per frame for the dynamical autoencoder.
GIVEN_TO = """
def given_to(name, model, inputs):
    if name == "mdvae":
        return {**inputs, "audio_values": inputs["audio_values"][:, :4]}
    return {key: value for key, value in inputs.items() if "tokenizer" not in name or key == model.main_input_name}
"""

# Saving with code sets state of the classes, hence a process of its own.
SAVE = """
import sys
from pathlib import Path
import torch
import transformers
import vqmae_hf

folder = Path(sys.argv[1])
torch.manual_seed(0)
audio = vqmae_hf.AudioVQVAEConfig(num_frequency_bins=65, hidden_size=8, residual_hidden_size=4, codebook_size=16)
visual = vqmae_hf.VisualVQVAEConfig(image_size=16, hidden_size=8, num_residual_layers=1, residual_hidden_size=4,
                                    codebook_size=24)
config = vqmae_hf.VQMAEConfig(
    audio_num_spectra=8, audio_codes_per_spectrum=8, audio_tube_size=(2, 2), audio_codebook_size=16, audio_code_dim=8,
    visual_num_frames=4, visual_codes_per_side=4, visual_tube_size=(2, 2, 2), visual_codebook_size=24,
    visual_code_dim=4, num_hidden_layers=1, decoder_num_hidden_layers=1, num_labels=3,
    encoder_fusion="cross", decoder_fusion="cross", audio_tokenizer_config=audio, visual_tokenizer_config=visual,
)
dynamical = vqmae_hf.MDVAEConfig.from_preset(
    "tiny", audio_codes_per_spectrum=8, audio_code_dim=8, visual_codes_per_side=4, num_labels=3,
    audio_tokenizer_config=audio, visual_tokenizer_config=visual,
)
models = {
    "audio_tokenizer": (vqmae_hf.AudioVQVAEModel(audio), "AutoModel"),
    "visual_tokenizer": (vqmae_hf.VisualVQVAEModel(visual), "AutoModel"),
    "pretraining": (vqmae_hf.VQMAEForPreTraining(config), "AutoModelForPreTraining"),
    "classifier": (vqmae_hf.VQMAEForAudioVisualClassification(config), "AutoModelForVideoClassification"),
    "mdvae": (vqmae_hf.MDVAEForAudioVisualClassification(dynamical), "AutoModelForVideoClassification"),
}
inputs = {"audio_values": torch.rand(2, 8, 65).square(), "pixel_values_videos": torch.rand(2, 4, 3, 16, 16) - 0.5}
expected = {}
for name, (model, auto_class) in models.items():
    type(model.config).register_for_auto_class()
    type(model).register_for_auto_class(auto_class)
    model.eval().save_pretrained(folder / name)
    given = given_to(name, model, inputs)
    generator = {"generator": torch.Generator().manual_seed(1)} if name == "pretraining" else {}
    output = model(**given, **generator)
    expected[name] = {key: value.detach() for key, value in output.items()}

processor = vqmae_hf.VQMAEProcessor.from_model_config(config)
vqmae_hf.VQMAEProcessor.register_for_auto_class("AutoProcessor")
vqmae_hf.AudioVQVAEFeatureExtractor.register_for_auto_class("AutoFeatureExtractor")
vqmae_hf.VisualVQVAEVideoProcessor.register_for_auto_class("AutoVideoProcessor")
processor.save_pretrained(folder / "classifier")
vqmae_hf.MDVAEProcessor.register_for_auto_class("AutoProcessor")
vqmae_hf.MDVAEProcessor.from_model_config(dynamical).save_pretrained(folder / "mdvae")
clip = {"waveform": torch.randn(2560).numpy(), "frames": torch.randint(256, (4, 16, 16, 3), dtype=torch.uint8).numpy()}
features = processor(audio=clip["waveform"], videos=clip["frames"], sampling_rate=16000, return_tensors="pt")
expected["processor"] = dict(features)
classify = transformers.pipeline("audiovisual-classification", model=models["classifier"][0], processor=processor)
scores = {answer["label"]: answer["score"]
          for answer in classify({**clip, "sampling_rate": 16000, "frames_per_second": 25}, top_k=None)}
classify.save_pretrained(folder / "pipeline")
torch.save({"inputs": inputs, "clip": {k: torch.from_numpy(v) for k, v in clip.items()}, "expected": expected,
            "scores": scores}, folder / "expected.pt")
"""

LOAD = """
import sys
from pathlib import Path
sys.modules["vqmae_hf"] = None
import torch
import transformers
from transformers.models.auto.video_processing_auto import AutoVideoProcessor

folder = Path(sys.argv[1])
recorded = torch.load(folder / "expected.pt", weights_only=True)
inputs, clip, expected = recorded["inputs"], recorded["clip"], recorded["expected"]

def clip_of(clip):
    return {"waveform": clip["waveform"].numpy(), "frames": clip["frames"].numpy(), "sampling_rate": 16000,
            "frames_per_second": 25}

def check(name, found):
    assert found.keys() == expected[name].keys(), (name, set(found) ^ set(expected[name]))
    for key, value in expected[name].items():
        assert torch.equal(found[key], value), f"{name}: {key} differs"
    print("same", name)

autos = {"audio_tokenizer": "AutoModel", "visual_tokenizer": "AutoModel", "pretraining": "AutoModelForPreTraining",
         "mdvae": "AutoModelForVideoClassification", "classifier": "AutoModelForVideoClassification"}
for name, auto in autos.items():
    model = getattr(transformers, auto).from_pretrained(folder / name, trust_remote_code=True)
    given = given_to(name, model, inputs)
    generator = {"generator": torch.Generator().manual_seed(1)} if name == "pretraining" else {}
    check(name, model(**given, **generator))
    assert type(model).__module__.startswith("transformers_modules."), type(model)

model.train()
assert not model.model.audio_tokenizer.training, "frozen tokenizers train"
assert not any(parameter.requires_grad for parameter in model.model.audio_tokenizer.parameters())
model.eval().save_pretrained(folder / "again")
again = transformers.AutoModelForVideoClassification.from_pretrained(folder / "again", trust_remote_code=True)
check("classifier", again(**inputs))

processor = transformers.AutoProcessor.from_pretrained(folder / "classifier", trust_remote_code=True)
features = processor(audio=clip["waveform"].numpy(), videos=clip["frames"].numpy(), sampling_rate=16000,
                     return_tensors="pt")
check("processor", features)
print(type(transformers.AutoProcessor.from_pretrained(folder / "mdvae", trust_remote_code=True)).__name__)
for auto in (transformers.AutoFeatureExtractor, AutoVideoProcessor):
    print(type(auto.from_pretrained(folder / "classifier", trust_remote_code=True)).__name__)

classify = transformers.pipeline("audiovisual-classification", model=str(folder / "pipeline"), trust_remote_code=True)
scores = {answer["label"]: answer["score"] for answer in classify(clip_of(clip), top_k=None)}
assert scores == recorded["scores"], (scores, recorded["scores"])
print("same pipeline")
"""


def run_python(code: str, folder: Path) -> str:
    environment = {**os.environ, "HF_MODULES_CACHE": str(folder / "modules"), "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCHVISION + code, str(folder)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=environment,
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


@pytest.mark.slow
def test_checkpoints_that_carry_their_code_give_the_same_bits_without_the_package(tmp_path):
    run_python(GIVEN_TO + SAVE, tmp_path)
    carried = {path.name for path in (tmp_path / "classifier").glob("*.py")}
    package = Path(__file__).resolve().parents[2] / "src" / "vqmae_hf" / "modeling"
    assert {"modeling_vqmae.py", "vector_quantizer.py", "processing_vqmae.py", "clip_windows.py"} <= carried
    assert carried <= {path.name for path in package.glob("*.py")}
    lines = run_python(GIVEN_TO + LOAD, tmp_path).splitlines()
    names = ["audio_tokenizer", "visual_tokenizer", "pretraining", "mdvae", "classifier", "classifier", "processor"]
    assert lines == [
        *[f"same {name}" for name in names],
        "MDVAEProcessor",
        "AudioVQVAEFeatureExtractor",
        "VisualVQVAEVideoProcessor",
        "same pipeline",
    ]
