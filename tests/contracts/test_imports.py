"""Who may import whom, what `modeling/` may contain so that the Hub can carry it, and what `import vqmae_hf` needs."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

import vqmae_hf

PACKAGE = Path(vqmae_hf.__file__).parent
MODELING = sorted((PACKAGE / "modeling").glob("*.py"))

# Each layer imports from itself and the ones before it; what is not named here sits on top and may import everything.
LAYERS = ["modeling", "data", "evaluation", "training"]
MODELING_PACKAGES = {"torch", "numpy", "transformers", "huggingface_hub"}

LAYERED = sorted(path for layer in LAYERS for path in (PACKAGE / layer).rglob("*.py"))
EVERY_LAYERED_FILE = pytest.mark.parametrize("path", LAYERED, ids=lambda path: str(path.relative_to(PACKAGE)))
EVERY_MODELING_FILE = pytest.mark.parametrize("path", MODELING, ids=lambda path: path.name)


def syntax_tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(path: Path) -> Iterator[str]:
    """Absolute names of everything a file imports, wherever in the file, strings of `import_module` included."""
    package = ["vqmae_hf", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*parents, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (argument.value for argument in node.args if isinstance(argument, ast.Constant))


def layer_of(module: str) -> str | None:
    """The layer of an absolute module name; None for other packages and for what sits on top."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "vqmae_hf" and parts[1] in LAYERS else None


# ---- direction ----


@EVERY_LAYERED_FILE
def test_nothing_is_imported_upwards(path):
    layer = path.relative_to(PACKAGE).parts[0]
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    own = {module for module in imported_modules(path) if module.split(".")[0] == "vqmae_hf"}
    neutral = {"vqmae_hf", "vqmae_hf.version", "vqmae_hf.version.__version__", "vqmae_hf.__version__"}
    upwards = {module for module in own - neutral if layer_of(module) not in allowed}
    assert not upwards, f"{layer} may import {allowed}"


def test_the_check_of_directions_sees_every_form_of_import(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "modeling").mkdir()
    path = tmp_path / "modeling" / "example.py"
    path.write_text(
        "from ..training import stages\nfrom .. import data\nimport vqmae_hf.evaluation.metrics\n"
        'def f():\n    from vqmae_hf.quickstart import run\n    import_module("vqmae_hf.cli")\n'
    )
    found = set(imported_modules(path))
    assert {"vqmae_hf.training", "vqmae_hf.data", "vqmae_hf.evaluation.metrics", "vqmae_hf.quickstart"} <= found
    assert "vqmae_hf.cli" in found


# ---- modeling/ ----


def test_modeling_is_flat_and_its_file_names_say_what_they_hold():
    assert not [path for path in (PACKAGE / "modeling").iterdir() if path.is_dir() and path.name != "__pycache__"]
    names = [path.name for path in MODELING if path.name != "__init__.py"]
    # They become files at the root of a Hub repository, next to those of others.
    assert not {"utils.py", "common.py", "modeling.py", "config.py", "layers.py"} & set(names)
    assert len({name.replace("_", "") for name in names}) == len(names)


@EVERY_MODELING_FILE
def test_modeling_imports_only_what_the_hub_can_carry(path):
    siblings = {sibling.stem for sibling in MODELING}
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            packages = {alias.name.split(".")[0] for alias in node.names}
            assert packages <= MODELING_PACKAGES | set(sys.stdlib_module_names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1, "a parent folder is not uploaded"
            assert node.module in siblings, "only `from .sibling import name` is carried along"
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] in MODELING_PACKAGES | set(sys.stdlib_module_names)


@EVERY_MODELING_FILE
def test_modeling_imports_nothing_inside_functions_or_for_type_checkers_only(path):
    for node in ast.walk(syntax_tree(path)):
        hides = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda))
        hides |= isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if hides:
            inner = [child for child in ast.walk(node) if isinstance(child, (ast.Import, ast.ImportFrom))]
            assert not inner, f"line {inner[0].lineno}: {ast.unparse(inner[0])}"


@EVERY_MODELING_FILE
def test_no_line_of_prose_looks_like_a_relative_import(path):
    """transformers finds the files to upload by a regular expression over lines, docstrings and comments included."""
    siblings = {sibling.stem for sibling in MODELING}
    for line in path.read_text(encoding="utf-8").splitlines():
        for pattern in (r"^\s*import\s+\.(\S+)\s*$", r"^\s*from\s+\.(\S+)\s+import"):
            found = re.match(pattern, line)
            assert not found or found.group(1) in siblings, line


@EVERY_MODELING_FILE
def test_nothing_waits_for_the_device_to_read_one_number(path):
    calls = [
        node.lineno
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "item"
    ]
    assert not calls, f"`.item()` in lines {calls}"


# ---- the package ----


# As in conftest.py: one that cannot load its operators breaks transformers.
WITHOUT_TORCHVISION = 'import sys; sys.modules["torchvision"] = None\n'


def run_python(code: str) -> str:
    """Output of a fresh interpreter."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCHVISION + code], capture_output=True, text=True, timeout=240, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


USE_WITHOUT = """
import sys
for name in ("torchvision", "torchaudio", "torchcodec", "timm", "av", "cv2", "datasets", "matplotlib", "evaluate",
             "sklearn", "tensorboard", "gradio"):
    sys.modules[name] = None
import numpy as np
import torch
import vqmae_hf
from transformers import pipeline

audio, visual = vqmae_hf.AudioVQVAEConfig.from_preset("tiny"), vqmae_hf.VisualVQVAEConfig.from_preset("tiny")
config = vqmae_hf.VQMAEConfig.from_preset(
    "tiny", num_hidden_layers=1, audio_tokenizer_config=audio, visual_tokenizer_config=visual
)
model = vqmae_hf.VQMAEForAudioVisualClassification(config).eval()
processor = vqmae_hf.VQMAEProcessor.from_model_config(config)
classify = pipeline("audiovisual-classification", model=model, processor=processor)
clip = {"frames": np.zeros((50, 64, 64, 3), np.uint8), "waveform": np.random.randn(32000).astype(np.float32),
        "frames_per_second": 25, "sampling_rate": 16000}
print(len(classify(clip)))
"""

IMPORT_ONLY = """
import sys
import vqmae_hf
heavy = ("av", "cv2", "datasets", "matplotlib", "evaluate", "sklearn", "pandas", "pyarrow", "tensorboard", "gradio",
         "transformers.trainer", "transformers.training_args", "accelerate.test_utils")
print([name for name in heavy if name in sys.modules])
print(sorted(name for name in sys.modules if name.startswith(("vqmae_hf.data", "vqmae_hf.training", "vqmae_hf.eval"))))
"""


def test_models_processors_and_pipeline_work_without_what_only_files_and_training_need():
    assert run_python(USE_WITHOUT).splitlines()[-1] == "2"


def test_importing_the_package_imports_nothing_that_touches_files_or_trains():
    assert run_python(IMPORT_ONLY).splitlines() == ["[]", "[]"]


def test_every_public_name_is_there():
    assert set(vqmae_hf.__all__) <= set(dir(vqmae_hf))
    for name in vqmae_hf.__all__:
        found = getattr(vqmae_hf, name)
        module = vqmae_hf._PUBLIC.get(name)
        if module is not None:
            assert getattr(import_module(f"vqmae_hf.{module}"), name) is found
            assert found.__doc__, f"{name} is public and has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vqmae_hf.nothing  # noqa: B018


def test_type_checkers_see_the_same_public_names():
    tree = syntax_tree(PACKAGE / "__init__.py")
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    declared = {
        alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == vqmae_hf._PUBLIC
