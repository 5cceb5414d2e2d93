"""The whole chain in seconds: corpus, tokenizers, tokens, pre-training, fine-tuning, checkpoint, pipeline, report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForPreTraining, AutoModelForVideoClassification, AutoProcessor, pipeline

from vqmae_hf.data.media import probe_media
from vqmae_hf.data.synthetic import write_synthetic_corpus
from vqmae_hf.quickstart.__main__ import main, run
from vqmae_hf.quickstart.chain import choose_classifier, format_table, new_quickstart
from vqmae_hf.quickstart.real_clips import find_real_clips


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A quickstart of the debug size; "real" clips are synthetic ones here."""
    root = tmp_path_factory.mktemp("quickstart")
    videos = write_synthetic_corpus(root / "videos", num_speakers=1, clips_per_emotion=1, show_progress=False)
    quickstart = new_quickstart(root / "out", "debug")
    return quickstart, run(quickstart, videos / "clips")


def test_every_part_left_its_files(finished):
    quickstart, findings = finished
    page = (quickstart.output_dir / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") >= 15
    assert "Real recordings" in page
    results = json.loads((quickstart.output_dir / "results.json").read_text(encoding="utf-8"))
    assert results["table"] == findings.table
    assert [row["input"] for row in findings.table].count("audio + video") == 2
    assert format_table(findings.table).splitlines()[-1].startswith("chance")


def test_the_numbers_are_of_the_predictions(finished):
    """Accuracy recounted from what was predicted for each clip of the test speakers, none of whom was trained on."""
    _, findings = finished
    chosen = choose_classifier(findings.results)
    result = findings.results[chosen].results
    predictions = result["test"]["audio+visual"]["predictions"]
    correct = sum(row["emotion"] == row["predicted"] for row in predictions) / len(predictions)
    (reported,) = [row["accuracy"] for row in findings.table if (row["input"], row["start"]) == chosen]
    assert reported == pytest.approx(correct)
    assert {row["speaker"] for row in predictions} == set(result["speakers"]["test"])
    assert not set(result["speakers"]["test"]) & {*result["speakers"]["train"], *result["speakers"]["validation"]}


def test_the_folder_is_a_checkpoint(finished):
    quickstart, findings = finished
    model = AutoModelForVideoClassification.from_pretrained(quickstart.model_dir)
    processor = AutoProcessor.from_pretrained(quickstart.model_dir)
    trained = findings.results[choose_classifier(findings.results)].model
    frames = torch.randint(256, (50, 64, 64, 3), dtype=torch.uint8).numpy()
    inputs = processor(videos=frames, audio=torch.randn(32000).numpy(), return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, trained(**inputs).logits)
    assert AutoModelForPreTraining.from_pretrained(quickstart.work / "pretrained").config.model_type == "vqmae"


def test_the_pipeline_answers_as_in_the_report(finished):
    quickstart, findings = finished
    classify = pipeline("audiovisual-classification", model=str(quickstart.model_dir), device="cpu")
    answer = findings.answers[0]
    again = classify(answer["path"], top_k=None)
    assert [item["label"] for item in again] == [item["label"] for item in answer["answer"]]
    assert sum(item["score"] for item in again) == pytest.approx(1, abs=1e-5)


def test_real_clips_come_back_with_sound(finished):
    _, findings = finished
    for clip in findings.real.held_out:
        info = probe_media(clip.mp4)
        assert info.has_video
        assert info.has_audio
        assert len(clip.reconstruction.frames) == len(clip.reconstruction.clip.frames)
        assert 0 < clip.psnr_db < 60


def test_a_fresh_process_uses_the_checkpoint(finished):
    """As a user of transformers would: nothing but the folder and `import vqmae_hf`."""
    quickstart, findings = finished
    program = (
        "import sys; sys.modules['torchvision'] = None\n"
        "import vqmae_hf\n"
        "from transformers import pipeline\n"
        f"answer = pipeline('audiovisual-classification', model={str(quickstart.model_dir)!r})"
        f"({findings.answers[0]['path']!r})\n"
        "print(answer[0]['label'])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == findings.answers[0]["answer"][0]["label"]


TRAINING = """
import sys
sys.modules["torchvision"] = None
import torch, vqmae_hf
from transformers import AutoModelForVideoClassification, AutoProcessor, Trainer, TrainingArguments

folder, path, output = sys.argv[1:]
model = AutoModelForVideoClassification.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
clip = vqmae_hf.load_clip(path, face_size=processor.video_processor.size["height"])
inputs = processor(audio=clip.waveform, videos=[clip.frames], sampling_rate=clip.sampling_rate, return_tensors="pt")
item = {name: values[0] for name, values in inputs.items()} | {"labels": 1}
arguments = TrainingArguments(output, max_steps=3, per_device_train_batch_size=2, learning_rate=1e-3, use_cpu=True,
                              report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=1)
trainer = Trainer(model=model, args=arguments, train_dataset=[item] * 6)
trainer.train()
trainer.save_model(output)
losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
again = AutoModelForVideoClassification.from_pretrained(output).eval()
with torch.no_grad():
    equal = torch.equal(again(**inputs).logits, model.cpu().eval()(**inputs).logits)
print(losses[-1] < losses[0], equal)
"""


def test_a_fresh_process_trains_it_further_with_plain_transformers(finished, tmp_path):
    quickstart, findings = finished
    arguments = [str(quickstart.model_dir), findings.answers[0]["path"], str(tmp_path)]
    done = subprocess.run([sys.executable, "-c", TRAINING, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-2:] == ["True", "True"]  # it learns; saved equals loaded


def test_another_size_does_not_continue_a_run(finished, capsys):
    quickstart, _ = finished
    assert main(["--output_dir", str(quickstart.output_dir), "--size", "full"]) == 1
    assert "choose another --output_dir" in capsys.readouterr().err


def test_a_folder_without_videos_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="holds 0 videos"):
        find_real_clips(tmp_path, 4)
