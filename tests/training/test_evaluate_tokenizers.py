import json

import numpy as np
import pytest
import soundfile
import torch

from vqmae_hf import AudioVQVAEModel, VisualVQVAEModel
from vqmae_hf.data.clips import load_clip
from vqmae_hf.data.prepared_clips import clip_arrays
from vqmae_hf.evaluation.fidelity import scale_invariant_sdr
from vqmae_hf.evaluation.round_trips import average_clips, encode_and_decode, retrieve_sounds, sound_quality
from vqmae_hf.training import evaluate_tokenizers, train_audio_tokenizer
from vqmae_hf.training.arguments import AudioTokenizerArguments
from vqmae_hf.training.assembly import processor_for_tokenizers
from vqmae_hf.training.evaluate_tokenizers import is_chosen
from vqmae_hf.training.evaluation_arguments import EvaluateTokenizersArguments
from vqmae_hf.training.recipes import build_arguments


def evaluate(world, folder, **values):
    tokenizers = {name: world.tokens[name] for name in ("audio_tokenizer", "visual_tokenizer")}
    options = {"use_cpu": True, "sound_clips": 1, "sample_clips": 1, **tokenizers, **values}
    arguments = build_arguments(
        EvaluateTokenizersArguments, clips_dir=world.clips_dir, output_dir=str(folder), **options
    )
    return evaluate_tokenizers.run(arguments)


@pytest.fixture(scope="module")
def evaluated(world, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluated")
    return folder, evaluate(world, folder)


def test_only_test_speakers_are_evaluated_and_averages_follow_from_the_clips(evaluated, world):
    folder, results = evaluated
    assert json.loads((folder / "tokenizers.json").read_text()) == results
    assert len(results["speakers"]) == 1
    assert len(results["clips"]) == 3
    assert {row["speaker"] for row in results["clips"]} == set(results["speakers"])
    for modality, metrics in {
        "audio": {"itakura_saito", "log_spectral_distance", "perplexity"},
        "visual": {"psnr", "ssim", "perplexity"},
    }.items():
        for name in metrics:
            values = [row[modality][name] for row in results["clips"]]
            assert results[modality]["metrics"][name]["mean"] == pytest.approx(np.mean(values))
            assert results[modality]["metrics"][name]["std"] == pytest.approx(np.std(values, ddof=1))
    sound = results["audio"]["metrics"]
    assert sound["sound_si_sdr"]["clips"] == sound["phase_retrieval_log_spectral_distance"]["clips"] == 1


def test_use_of_the_codebook_is_that_of_the_store(evaluated, world):
    _, results = evaluated
    store = world.store.filter(lambda row: row["speaker"] in results["speakers"])
    for modality in ("audio", "visual"):
        codes = np.concatenate([np.asarray(row) for row in store[f"{modality}_codes"]])
        codebook = results[modality]["codebook"]
        assert codebook["share_used"] == len(set(codes.tolist())) / codebook["size"]
        assert 1 <= codebook["perplexity"] <= len(set(codes.tolist()))


def test_samples_can_be_looked_at_and_listened_to(evaluated):
    folder, results = evaluated
    written = sorted(path.name for path in (folder / "samples").iterdir())
    assert written == sorted(results["samples"])
    kinds = ["decoded.mp4", "decoded.wav", "frames.png", "original.wav", "phase_retrieval.wav", "spectra.png"]
    assert [name.rsplit("-", 1)[1] for name in written] == kinds
    sound, rate = soundfile.read(folder / "samples" / written[3])
    assert rate == 16000
    assert np.abs(sound).max() == pytest.approx(0.95, abs=1e-3)
    clip = load_clip(folder / "samples" / written[0], on_missing_face="center")
    assert len(clip.frames) >= 50
    assert clip.waveform is not None


def test_phase_retrieval_of_the_true_spectra_is_the_floor(evaluated):
    _, results = evaluated
    metrics = {name: values["mean"] for name, values in results["audio"]["metrics"].items()}
    assert metrics["phase_retrieval_log_spectral_distance"] < metrics["sound_log_spectral_distance"]


class Unchanging(torch.nn.Module):
    """A tokenizer that loses nothing: its codes are the values."""

    device = torch.device("cpu")

    def encode(self, values):
        self.values = values
        return torch.zeros(values.shape[0], 1, dtype=torch.long)

    def decode(self, codes):
        return self.values


def test_a_perfect_tokenizer_costs_what_phase_retrieval_costs(world):
    tokenizers = {
        "audio": AudioVQVAEModel.from_pretrained(world.tokens["audio_tokenizer"]),
        "visual": VisualVQVAEModel.from_pretrained(world.tokens["visual_tokenizer"]),
    }
    processor = processor_for_tokenizers(tokenizers)
    arrays = clip_arrays(world.clips, 0)
    trip = encode_and_decode(*arrays, processor, {"audio": Unchanging(), "visual": Unchanging()})
    assert evaluate_tokenizers.visual_quality(trip) == pytest.approx(
        {"psnr": 168.13, "ssim": 1, "perplexity": 1}, abs=0.01
    )
    assert evaluate_tokenizers.audio_quality(trip) == pytest.approx(
        {"itakura_saito": 0, "log_spectral_distance": 0, "perplexity": 1}
    )
    sounds = retrieve_sounds(trip)
    quality = sound_quality(trip, arrays.waveform, sounds)
    assert quality["sound_si_sdr"] == quality["phase_retrieval_si_sdr"]
    assert quality["sound_log_spectral_distance"] == quality["phase_retrieval_log_spectral_distance"]
    assert quality["sound_si_sdr"] == pytest.approx(scale_invariant_sdr(arrays.waveform, sounds.original))
    # With its true phases the sound is the recording.
    true_sound = arrays.waveform / np.abs(arrays.waveform).max()
    exact = sound_quality(trip, arrays.waveform, sounds._replace(decoded=true_sound))
    assert exact["sound_log_spectral_distance"] < 0.01
    assert exact["sound_si_sdr"] > 100


def test_a_modality_without_tokenizer_is_left_out(world, tmp_path):
    results = evaluate(world, tmp_path, audio_tokenizer=None, part="all", sample_clips=1)
    assert "audio" not in results
    assert set(results["speakers"]) == set(world.clips["speaker"])
    assert [name.rsplit("-", 1)[1] for name in results["samples"]] == ["frames.png"]


def test_another_split_than_that_of_the_training_is_refused(world, tmp_path):
    training = build_arguments(
        AudioTokenizerArguments,
        recipe="debug",
        clips_dir=world.clips_dir,
        output_dir=str(tmp_path / "audio"),
        split_seed=3,
        max_steps=1,
        eval_strategy="no",
        save_strategy="no",
        picture_clips=0,
        disable_tqdm=True,
    )
    train_audio_tokenizer.run(training)
    own = {"audio_tokenizer": str(tmp_path / "audio"), "visual_tokenizer": None}
    with pytest.raises(ValueError, match=r"another split of the speakers \(--split_seed 3\)"):
        evaluate(world, tmp_path / "results", **own)
    assert evaluate(world, tmp_path / "results", split_seed=3, sound_clips=0, sample_clips=0, **own)["samples"] == []


def test_problems_are_reported_all_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"3 problem.*\n.*output_dir is needed.*\n.*clips_dir is needed.*\n.*missing"):
        build_arguments(EvaluateTokenizersArguments)


def test_a_part_without_speakers_is_named(world, tmp_path):
    with pytest.raises(ValueError, match=r"part='test' of this split has no clip; .*\['train'\]"):
        evaluate(world, tmp_path, validation_share=0.0, test_share=0.0)


@pytest.mark.parametrize(("total", "wanted"), [(10, 3), (3, 10), (7, 0), (64, 64), (1, 1)])
def test_chosen_clips_are_as_many_as_wanted_and_spread(total, wanted):
    chosen = [i for i in range(total) if is_chosen(i, total, wanted)]
    assert len(chosen) == min(wanted, total)
    gaps = np.diff(chosen)
    assert not len(gaps) or gaps.max() - gaps.min() <= 1


def test_averages_count_the_clips_that_have_a_metric():
    averages = average_clips([{"a": 1.0, "b": 5.0}, {"a": 3.0}])
    assert averages["a"] == {"mean": 2.0, "std": pytest.approx(np.sqrt(2)), "clips": 2}
    assert averages["b"] == {"mean": 5.0, "std": 0.0, "clips": 1}
