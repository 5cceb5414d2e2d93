"""setup.py, constraints.txt and what the package imports say the same."""

import ast
import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
SETUP = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))

# Distributions whose import has another name.
DISTRIBUTION = {
    "PIL": "pillow",
    "cv2": "opencv-python-headless",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
    "huggingface_hub": "huggingface-hub",
}

# Imported, and brought along by a requirement that cannot do without it.
BROUGHT_ALONG = {"pyarrow": "datasets", "fsspec": "datasets"}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements_of_setup() -> dict[str, list[Requirement]]:
    """The lists of requirements at the top of setup.py, by the name of their variable."""
    lists = {}
    for node in SETUP.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
            strings = [item.value for item in node.value.elts if isinstance(item, ast.Constant)]
            lists[node.targets[0].id] = [Requirement(string) for string in strings]
    return lists


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "constraints.txt holds exact versions alone"
    return {normalized(name): version for name, version in pairs}


REQUIREMENTS = requirements_of_setup()
ALL = [requirement for requirements in REQUIREMENTS.values() for requirement in requirements]
EVERY_REQUIREMENT = pytest.mark.parametrize("requirement", ALL, ids=[requirement.name for requirement in ALL])


def test_the_lists_were_found():
    assert set(REQUIREMENTS) == {"REQUIREMENTS", "TEST", "DEMO", "LORA", "ONNX", "DOCS", "DEV"}
    assert all(REQUIREMENTS.values())


@EVERY_REQUIREMENT
def test_setup_gives_ranges_that_contain_the_tested_version(requirement):
    assert not any(specifier.operator in ("==", "===") for specifier in requirement.specifier), "a pin, not a range"
    tested = pins().get(normalized(requirement.name))
    assert tested is not None, f"constraints.txt has no tested version of {requirement.name}"
    assert requirement.specifier.contains(tested, prereleases=True)


@pytest.mark.parametrize("package", ["torchvision", "torchaudio", "timm", "torchcodec", "ffmpeg-python"])
def test_what_must_not_be_needed_is_not_required(package):
    assert package not in {normalized(requirement.name) for requirement in ALL}
    assert package not in pins()


def test_what_the_package_imports_is_required():
    required = {normalized(requirement.name) for requirement in REQUIREMENTS["REQUIREMENTS"]}
    optional = {
        normalized(requirement.name) for name in ("DEMO", "LORA", "ONNX") for requirement in REQUIREMENTS[name]
    }
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    imported -= {*sys.stdlib_module_names, "vqmae_hf"}
    distributions = {normalized(DISTRIBUTION.get(name, name)) for name in imported}
    assert distributions <= required | optional | BROUGHT_ALONG.keys(), "imported, but not in setup.py"


@pytest.mark.parametrize(("distribution", "parent"), BROUGHT_ALONG.items())
def test_what_a_requirement_brings_along_it_really_brings(distribution, parent):
    assert parent in {normalized(requirement.name) for requirement in REQUIREMENTS["REQUIREMENTS"]}
    needed = [Requirement(string) for string in metadata.requires(parent) or []]
    assert distribution in {normalized(requirement.name) for requirement in needed if requirement.marker is None}


def test_promises_of_the_design():
    ranges = {normalized(requirement.name): requirement.specifier for requirement in ALL}
    assert ranges["transformers"].contains("5.17.0")
    assert not ranges["transformers"].contains("6.0.0")
    assert ranges["torch"].contains("2.6.0")
    assert not ranges["opencv-python-headless"].contains("5.0.0"), "5.0 has no Haar cascades"
    assert pins()["torch"] == "2.13.0"
    (call,) = [node.value for node in SETUP.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    assert arguments["name"].value == "vqmae-hf"
    assert SpecifierSet(arguments["python_requires"].value).contains("3.10")


def test_files_that_are_no_python_are_packaged():
    """Whatever lies beside the code and is not code has to be named in package_data to reach an installation."""
    (call,) = [node.value for node in SETUP.body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    package_data = next(keyword.value for keyword in call.keywords if keyword.arg == "package_data")
    patterns = ast.literal_eval(package_data)["vqmae_hf"]
    package = ROOT / "src" / "vqmae_hf"
    files = [
        path.relative_to(package)
        for path in package.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "__pycache__" not in path.parts
    ]
    assert Path("py.typed") in files
    assert not [str(file) for file in files if not any(file.match(pattern) for pattern in patterns)]
