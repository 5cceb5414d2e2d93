"""A process without vqmae_hf: loads every kind from the local hub and from a folder, and runs it.

python without_the_package.py FOLDER: reads FOLDER/expected.pt, works in FOLDER, prints what was the same.
"""

import json
import sys
from pathlib import Path

sys.modules["vqmae_hf"] = None  # type: ignore[assignment]
sys.modules["torchvision"] = None  # type: ignore[assignment]

import torch  # noqa: E402
import transformers  # noqa: E402
from huggingface_hub import snapshot_download  # noqa: E402
from published_models import AUTO_CLASSES, CLASSIFIERS, answer  # noqa: E402
from snippets import run_snippets  # noqa: E402
from transformers.models.auto.video_processing_auto import AutoVideoProcessor  # noqa: E402

folder = Path(sys.argv[1])
expected = torch.load(folder / "expected.pt", weights_only=True)


def check(name: str, found: dict, what: str = "outputs") -> None:
    wanted = expected[what][name]
    assert found.keys() == wanted.keys(), (name, set(found) ^ set(wanted))
    for key, value in wanted.items():
        assert torch.equal(torch.as_tensor(found[key]), value), f"{name}: {key} differs"


clip = {name: value.numpy() for name, value in expected["clip"].items()}
for name, auto_class in AUTO_CLASSES.items():
    for place in (f"tester/{name}", snapshot_download(f"tester/{name}", local_dir=folder / name)):
        model = getattr(transformers, auto_class).from_pretrained(place, trust_remote_code=True)
        assert type(model).__module__.startswith("transformers_modules."), type(model)
        check(name, answer(name, model))
        print("model", name, place == f"tester/{name}")
    if name == "audio_tokenizer":
        extractor = transformers.AutoFeatureExtractor.from_pretrained(f"tester/{name}", trust_remote_code=True)
        check(name, extractor(clip["waveform"], sampling_rate=16000), "features")
    elif name == "visual_tokenizer":
        check(name, AutoVideoProcessor.from_pretrained(place, trust_remote_code=True)(clip["frames"]), "features")
    else:
        processor = transformers.AutoProcessor.from_pretrained(f"tester/{name}", trust_remote_code=True)
        check(name, processor(audio=clip["waveform"], videos=clip["frames"]), "features")
    print("processor", name)

for name in CLASSIFIERS:
    for place in (f"tester/{name}", str(folder / name)):
        # A folder tells its task itself.
        classify = transformers.pipeline(model=place, trust_remote_code=True, top_k=None)
        assert {a["label"]: a["score"] for a in classify(dict(clip))} == expected["scores"][name], name
        assert {a["label"]: a["score"] for a in classify(str(folder / "clip.mp4"))} == expected["file_scores"][name], (
            name
        )
        print("pipeline", name)

# What was loaded with its code is saved with its code.
classify.save_pretrained(folder / "again")
again = transformers.pipeline(model=str(folder / "again"), trust_remote_code=True, top_k=None)
assert {a["label"]: a["score"] for a in again(dict(clip))} == expected["scores"][name]
refusal = "none"
try:
    again(str(folder / "clip.mp4"))
except ValueError as error:
    refusal = str(error)
assert "pip install vqmae-hf" in refusal, refusal
print("saved again")

cards = json.loads((folder / "cards.json").read_text())
print("snippets", run_snippets(cards, with_package=False))
