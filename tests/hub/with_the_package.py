"""A process with vqmae_hf: its classes come before the code on the hub, trusted or not; examples that need it run."""

import json
import sys
from pathlib import Path

sys.modules["torchvision"] = None  # type: ignore[assignment]

import transformers  # noqa: E402
from published_models import AUTO_CLASSES, CLASSIFIERS  # noqa: E402
from snippets import run_snippets  # noqa: E402

import vqmae_hf  # noqa: E402

folder = Path(sys.argv[1])
for name, auto_class in AUTO_CLASSES.items():
    for trust in ({}, {"trust_remote_code": True}):
        model = getattr(transformers, auto_class).from_pretrained(f"tester/{name}", **trust)
        assert type(model) is getattr(vqmae_hf, type(model).__name__), type(model)
        if not name.endswith("tokenizer"):
            processor = transformers.AutoProcessor.from_pretrained(f"tester/{name}", **trust)
            assert type(processor) is getattr(vqmae_hf, type(processor).__name__), type(processor)
        if name in CLASSIFIERS:
            classify = transformers.pipeline("audiovisual-classification", model=f"tester/{name}", **trust)
            assert type(classify) is vqmae_hf.AudioVisualClassificationPipeline, type(classify)
    print("own", name)

print("snippets", run_snippets(json.loads((folder / "cards.json").read_text()), with_package=True))
