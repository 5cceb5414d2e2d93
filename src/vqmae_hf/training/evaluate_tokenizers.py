"""How good tokenizers are, on unseen speakers:

python -m vqmae_hf.training.evaluate_tokenizers --clips_dir clips --audio_tokenizer runs/audio \
    --visual_tokenizer runs/visual --output_dir runs/tokenizers

Distances of spectra, sounds and pictures per clip and on average, use of the codebooks, and samples to look at and to
listen to.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel

from vqmae_hf.data.prepared_clips import ClipArrays, clip_arrays
from vqmae_hf.data.shards import write_json
from vqmae_hf.data.token_store import tokenizer_fingerprint
from vqmae_hf.evaluation.round_trips import (
    RetrievedSounds,
    RoundTrip,
    audio_quality,
    average_clips,
    describe_usage,
    encode_and_decode,
    retrieve_sounds,
    sound_quality,
    visual_quality,
    write_samples,
)
from vqmae_hf.training.arguments import SplitArguments
from vqmae_hf.training.assembly import load_tokenizers, processor_for_tokenizers
from vqmae_hf.training.evaluation_arguments import EvaluateTokenizersArguments, check_same_split, evaluated_part
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.stages import open_clips
from vqmae_hf.training.tokenize_corpus import encoding_device

RESULTS_NAME = "tokenizers.json"
SAMPLES_NAME = "samples"


def run(args: EvaluateTokenizersArguments) -> dict[str, Any]:
    """Evaluate one or both tokenizers, and write `tokenizers.json` and `samples/` to the output folder.

    Returns:
        What is in the file: per modality the `metrics` (mean, std, clips), the `codebook` over all clips and the
        tokenizer; per clip its metrics; the part, the speakers and the split.
    """
    Path(args.output_dir).mkdir(parents=True, exist_ok=True)
    checkpoints = {"audio": args.audio_tokenizer, "visual": args.visual_tokenizer}
    if args.part != "all":
        for checkpoint in filter(None, checkpoints.values()):
            check_same_split(checkpoint, args, "clips_dir")
    tokenizers = load_tokenizers(**{f"{name}_tokenizer": checkpoint for name, checkpoint in checkpoints.items()})
    for tokenizer in tokenizers.values():
        tokenizer.to(encoding_device(args.use_cpu))
    clips = evaluated_part(open_clips(args), args, args.part)
    evaluation = TokenizerEvaluation(tokenizers, args)
    for i in tqdm(range(len(clips)), desc="clips"):
        evaluation.add(clips, i)
    results = {
        **evaluation.summarize(checkpoints),
        "part": args.part,
        "speakers": sorted(set(clips["speaker"])),
        "split": {part.name: getattr(args, part.name) for part in fields(SplitArguments)},
        "clips": evaluation.rows,
        "samples": evaluation.samples,
    }
    write_json(Path(args.output_dir) / RESULTS_NAME, results)
    return results


@dataclass
class TokenizerEvaluation:
    """Gathers what is measured clip by clip.

    Args:
        tokenizers: by modality, in evaluation mode.
        args: how many clips to listen to, and where to put what.
    """

    tokenizers: dict[str, PreTrainedModel]
    args: EvaluateTokenizersArguments
    rows: list[dict[str, Any]] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.processor = processor_for_tokenizers(self.tokenizers)
        extractor = self.processor.feature_extractor
        self.stft = {"n_fft": extractor.n_fft, "hop_length": extractor.hop_length}
        self.counts = {name: np.zeros(t.config.codebook_size, np.int64) for name, t in self.tokenizers.items()}

    def add(self, clips: Dataset, i: int) -> None:
        """Measure clip i, and write its samples if it is one of those."""
        arrays = clip_arrays(clips, i)
        trip = encode_and_decode(*arrays, self.processor, self.tokenizers)
        row: dict[str, Any] = {"clip_id": clips[i]["clip_id"], "speaker": clips[i]["speaker"]}
        is_sample = is_chosen(i, len(clips), self.args.sample_clips)
        sounds = None
        if trip.spectra is not None:
            row["audio"] = audio_quality(trip)
            if is_sample or is_chosen(i, len(clips), self.args.sound_clips):
                sounds = retrieve_sounds(trip, **self.stft)
                row["audio"].update(sound_quality(trip, arrays.waveform, sounds, **self.stft))
            self._count("audio", trip.audio_codes)
        if trip.pixels is not None:
            row["visual"] = visual_quality(trip)
            self._count("visual", trip.visual_codes)
        if is_sample:
            self._write_samples(row["clip_id"], trip, arrays, sounds)
        self.rows.append(row)

    def summarize(self, checkpoints: dict[str, str | None]) -> dict[str, Any]:
        """Averages over clips, and the use of the codebooks over all of them, by modality."""
        return {
            name: {
                "checkpoint": checkpoints[name],
                "fingerprint": tokenizer_fingerprint(tokenizer),
                "metrics": average_clips(row[name] for row in self.rows if name in row),
                "codebook": describe_usage(self.counts[name]),
            }
            for name, tokenizer in self.tokenizers.items()
        }

    def _count(self, modality: str, codes: Any) -> None:
        counts = self.counts[modality]
        counts += np.bincount(codes.flatten().numpy(), minlength=len(counts))

    def _write_samples(
        self, clip_id: str, trip: RoundTrip, arrays: ClipArrays, sounds: RetrievedSounds | None
    ) -> None:
        folder = Path(self.args.output_dir) / SAMPLES_NAME
        rates = {
            "sampling_rate": self.processor.feature_extractor.sampling_rate,
            "frames_per_second": self.processor.video_processor.frames_per_second,
        }
        name = re.sub(r"[^\w.-]+", "_", clip_id)
        self.samples += write_samples(folder, name, trip, arrays.waveform, sounds, **rates)


def is_chosen(i: int, total: int, wanted: int) -> bool:
    """Whether item i is one of `wanted` that are evenly spread over `total`."""
    wanted = min(wanted, total)
    return (i + 1) * wanted // total > i * wanted // total


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    args = parse_arguments(EvaluateTokenizersArguments, argv)
    results = run(args)
    for modality in ("audio", "visual"):
        for name, values in results.get(modality, {}).get("metrics", {}).items():
            print(f"{modality} {name}: {values['mean']:.3f} ± {values['std']:.3f} ({values['clips']} clips)")
        if modality in results:
            print(f"{modality} codebook: {results[modality]['codebook']}")


if __name__ == "__main__":
    main()
