"""Packaging of vqmae-hf. Ranges live here, the versions the tests ran with in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (HERE / "src/vqmae_hf/version.py").read_text(encoding="utf-8").splitlines()
    if line.startswith("__version__")
)

REQUIREMENTS = [
    "torch>=2.6",
    "transformers>=5.17,<6",
    "accelerate>=1.6",
    "datasets>=4.0",
    "pyarrow>=17",
    "filelock>=3.12",
    "fsspec>=2024.2",
    "huggingface-hub>=1.0",
    "evaluate>=0.4.6",
    "safetensors>=0.5",
    "numpy>=1.26",
    "av>=15",
    "soundfile>=0.12",
    "librosa>=0.10",
    # 5.0 dropped CascadeClassifier and the packaged cascade files.
    "opencv-python-headless>=4.8,<5",
    "pillow>=10",
    "scipy>=1.11",
    "scikit-learn>=1.4",
    "matplotlib>=3.8",
    "tensorboard>=2.14",
    "jinja2>=3.1",
    "pyyaml>=6",
    "tqdm>=4.66",
    "pebble>=5.0",
    "typer>=0.15",
    "rich>=13",
]

TEST = ["pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.5", "hypothesis>=6.100", "playwright>=1.50"]
DEMO = ["gradio>=6.31,<7", "starlette>=0.40"]
LORA = ["peft>=0.17"]
ONNX = ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"]
DOCS = [
    "mkdocs-material>=9.6,<10",
    "mkdocstrings[python]>=0.28",
    "nbformat>=5.10",
    "nbclient>=0.10",
    "ipykernel>=6.29",
]
DEV = [*TEST, *LORA, *ONNX, *DEMO, *DOCS, "ruff>=0.8", "mypy>=1.13", "types-PyYAML"]

setup(
    name="vqmae-hf",
    version=VERSION,
    description="Audiovisual speech representation learning and emotion recognition, the Hugging Face way: "
    "VQ-MAE-AV and MDVAE as transformers models",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={
        "vqmae_hf": [
            "py.typed",
            "demo/static/*",
            "training/recipes/*.yaml",
            "training/launch_files/*.yaml",
            "experiments/files/*.yaml",
            "experiments/studies/*.yaml",
            "experiments/mdvae/*.yaml",
            "quickstart/*.html.jinja",
            "hub/cards/*.jinja",
            "hub/cards/space/*",
            "own_corpus/*.html.jinja",
        ]
    },
    install_requires=REQUIREMENTS,
    py_modules=["vqmae_hf_command"],  # beside the package: what importing it costs, the command puts off
    entry_points={"console_scripts": ["vqmae-hf=vqmae_hf_command:main"]},
    extras_require={"test": TEST, "demo": DEMO, "lora": LORA, "onnx": ONNX, "docs": DOCS, "dev": DEV},
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
