"""Every kind of checkpoint, published, loads elsewhere without the package and answers the same to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import EvalResult, HfApi, ModelCard
from local_hub import LocalHub, use_hub
from published_models import AUTO_CLASSES, CLASSIFIERS, answer, make_models
from snippets import needs_package, python_blocks
from transformers import AutoProcessor, pipeline

import vqmae_hf
from vqmae_hf.data.synthetic import load_synthetic_corpus, write_synthetic_corpus
from vqmae_hf.hub import push_checkpoint, push_corpus
from vqmae_hf.hub.checkpoint_source import find_processor

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")]

HERE = Path(__file__).parent
METRICS = {"accuracy": 0.5, "uar": 0.25, "macro_f1": 0.125, "weighted_f1": 0.375}
RESULTS = {"chance": 1 / 3, "test": {"audio+visual": {"metrics": METRICS}}}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A hub with every kind of checkpoint and a corpus, published from here, and what the models answer here."""
    folder = tmp_path_factory.mktemp("published")
    monkeypatch = pytest.MonkeyPatch()
    with LocalHub() as hub:
        use_hub(monkeypatch, hub, folder / "cache")
        monkeypatch.chdir(folder)
        (folder / "results.json").write_text(json.dumps(RESULTS))
        make_media(folder)
        clip = {
            "waveform": np.random.default_rng(0).normal(size=5120).astype("float32"),
            "frames": np.random.default_rng(1).integers(256, size=(8, 16, 16, 3), dtype=np.uint8),
        }
        expected = {"clip": clip, "outputs": {}, "features": {}, "scores": {}, "file_scores": {}}
        for name, model in make_models().items():
            results = folder / "results.json" if name in CLASSIFIERS else None
            model.save_pretrained(folder / "source" / name)
            push_checkpoint(
                folder / "source" / name, f"tester/{name}", results=results, corpora=["synthetic", "ravdess"]
            )
            record_answers(name, model, clip, expected)
        push_corpus(folder / "corpus", "tester/corpus")
        expected["clip"] = {key: torch.from_numpy(value) for key, value in clip.items()}
        torch.save(expected, folder / "expected.pt")
        repositories = {name: hub.model(f"tester/{name}") for name in AUTO_CLASSES}
        repositories["corpus"] = hub.dataset("tester/corpus")
        cards = {name: repository.files["README.md"].content.decode() for name, repository in repositories.items()}
        (folder / "cards.json").write_text(json.dumps(cards))
        yield SimpleNamespace(hub=hub, folder=folder, cards=cards, expected=expected)
    monkeypatch.undo()


def make_media(folder: Path) -> None:
    """The files that the examples of the cards name."""
    write_synthetic_corpus(
        folder / "corpus", num_speakers=2, emotions=["happy"], clips_per_emotion=1, clip_seconds=1, show_progress=False
    )
    paths = [row["video"]["path"] for row in load_synthetic_corpus(folder / "corpus")]
    for name, path in zip(("clip.mp4", "other.mp4"), paths, strict=True):
        (folder / name).symlink_to(path)
    soundfile.write(folder / "voice.wav", np.sin(np.arange(16000) / 20), 16000)


def record_answers(name, model, clip, expected):
    expected["outputs"][name] = answer(name, model)
    processor, _ = find_processor(model, None)
    if name == "audio_tokenizer":
        features = processor(clip["waveform"], sampling_rate=16000)
    elif name == "visual_tokenizer":
        features = processor(clip["frames"])
    else:
        features = processor(audio=clip["waveform"], videos=clip["frames"])
    expected["features"][name] = {key: torch.as_tensor(value) for key, value in features.items()}
    if name in CLASSIFIERS:
        classify = pipeline("audiovisual-classification", model=model, processor=processor, top_k=None)
        for kind, source in (("scores", dict(clip)), ("file_scores", "clip.mp4")):
            expected[kind][name] = {row["label"]: row["score"] for row in classify(source)}


def run_elsewhere(world, script: str) -> list[str]:
    """A process of its own, with empty caches, that finds the hub by HF_ENDPOINT."""
    own = world.folder / f"{Path(script).stem}-home"
    environment = {
        **os.environ,
        "HF_ENDPOINT": world.hub.url,
        "HF_HOME": str(own),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_TOKEN": "stranger-token",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent / "modeling")]),
    }
    result = subprocess.run(
        [sys.executable, str(HERE / script), str(world.folder)],
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
        env=environment,
        cwd=world.folder,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout.splitlines()


def test_a_process_without_the_package_gets_the_same_from_the_hub_and_from_a_folder(world):
    lines = run_elsewhere(world, "without_the_package.py")
    for name in AUTO_CLASSES:
        assert {f"model {name} True", f"model {name} False", f"processor {name}"} <= set(lines)
    assert lines.count("pipeline vqmae_classifier") == lines.count("pipeline mdvae_classifier") == 2
    assert "saved again" in lines
    blocks = [block for card in world.cards.values() for block in python_blocks(card) if not needs_package(block)]
    assert len(blocks) == len(AUTO_CLASSES) + len(CLASSIFIERS) + 1, "an example for every kind, two for classifiers"
    assert f"snippets {len(blocks)}" in lines


def test_a_process_with_the_package_uses_its_classes_and_needs_no_trust(world):
    lines = run_elsewhere(world, "with_the_package.py")
    assert [line.split()[1] for line in lines if line.startswith("own ")] == list(AUTO_CLASSES)
    blocks = [block for card in world.cards.values() for block in python_blocks(card) if needs_package(block)]
    assert {name for name, card in world.cards.items() if any(map(needs_package, python_blocks(card)))} == set(
        world.cards
    )
    assert f"snippets {len(blocks)}" in lines


@pytest.mark.parametrize("name", [*AUTO_CLASSES, "corpus"])
def test_every_card_says_what_people_have_to_know(world, name):
    card = world.cards[name]
    for heading in ("## Use\n", "## Intended use\n", "## Limits\n", "## Licence\n"):
        assert card.count(heading) == 1, heading
    assert "{{" not in card
    assert "None" not in card
    assert "\n\n\n" not in card
    for words in ("63.6 %", "Acted speech", "Article 5(1)(f)", "at work and in education"):
        assert card.count(words) == 1, words
    if name == "corpus":
        assert ModelCard(card).data.license == "apache-2.0"
        return
    assert "Synthetic talking faces" in card
    assert "CC BY-NC-SA 4.0" in card
    assert "no licence was stated" in card
    assert "was not evaluated" in card


@pytest.mark.parametrize("name", AUTO_CLASSES)
def test_numbers_of_a_card_are_those_of_its_json_and_nothing_else(world, name):
    data = ModelCard(world.cards[name], ignore_metadata_errors=False).data
    if name not in CLASSIFIERS:
        assert data.eval_results is None
        assert "Not evaluated" in world.cards[name]
        return
    assert all(isinstance(result, EvalResult) for result in data.eval_results)
    assert [result.metric_value for result in data.eval_results] == list(METRICS.values())
    assert {result.dataset_split for result in data.eval_results} == {"test"}
    rows = [row for row in world.cards[name].splitlines() if "`results.json`" in row]
    assert rows[0] == "| test | audio+visual | accuracy (WAR) | 0.5 | `results.json` |"
    assert rows[-1] == "| not stated | guessing | accuracy (WAR) | 0.3333 | `results.json` |"
    assert json.loads(world.hub.model(f"tester/{name}").files["results.json"].content) == RESULTS


def test_push_to_hub_of_a_model_brings_everything_and_keeps_the_processor_that_is_there(world):
    published = set(world.hub.model("tester/vqmae_classifier").files) - {"results.json"}
    model = vqmae_hf.VQMAEForAudioVisualClassification.from_pretrained(world.folder / "source/vqmae_classifier")
    processor = vqmae_hf.VQMAEProcessor.from_model_config(model.config, frames_per_second=12.5)
    url = processor.push_to_hub("tester/mine", private=True)
    assert "/commit/" in url
    there = world.hub.model("tester/mine")
    assert there.private
    assert {"processing_vqmae.py", "clip_windows.py", "processor_config.json"} <= set(there.files)
    model.push_to_hub("tester/mine", commit_message="Mine", tags=["private"])
    assert set(there.files) == published
    assert [commit.title for commit in there.refs["main"].history()] == ["Mine", "Upload processor", "initial commit"]
    assert ModelCard(there.files["README.md"].content.decode()).data.tags == ["private"]
    settings = json.loads(there.files["processor_config.json"].content)
    assert settings["video_processor"]["frames_per_second"] == 12.5


def test_push_to_hub_of_a_pipeline_brings_model_and_processor(world):
    folder = world.folder / "source/mdvae_classifier"
    processor = AutoProcessor.from_pretrained("tester/mdvae_classifier", cache_dir=world.folder / "cache")
    classify = pipeline("audiovisual-classification", model=str(folder), processor=processor)
    classify.push_to_hub("tester/pipeline", create_pr=True)
    files = world.hub.model("tester/pipeline").refs["refs/pr/1"].files
    assert set(files) == set(world.hub.model("tester/mdvae_classifier").files) - {"results.json"}
    assert "audiovisual-classification" in json.loads(files["config.json"].content)["custom_pipelines"]
    assert set(HfApi().list_repo_files("tester/pipeline")) == {".gitattributes"}


def test_what_was_loaded_from_the_hub_and_saved_again_is_free_of_what_it_does_not_carry(world, tmp_path):
    model = vqmae_hf.VQMAEForAudioVisualClassification.from_pretrained("tester/vqmae_classifier", cache_dir=tmp_path)
    model.save_pretrained(tmp_path / "again")
    settings = json.loads((tmp_path / "again/config.json").read_text())
    assert not {"auto_map", "custom_pipelines"} & set(settings)
    assert not list((tmp_path / "again").glob("*.py"))
