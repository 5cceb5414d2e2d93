"""Train the audio tokenizer: `python -m vqmae_hf.training.train_audio_tokenizer --recipe vqmae --output_dir ...`"""

from collections.abc import Sequence

import torch
from PIL import Image
from transformers import set_seed

from vqmae_hf.data.prepared_clips import clip_arrays
from vqmae_hf.evaluation.pictures import named_rows, spectrogram
from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.feature_extraction_audio_vqvae import AudioVQVAEFeatureExtractor
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel
from vqmae_hf.training.arguments import AudioTokenizerArguments
from vqmae_hf.training.clip_batches import ClipSpectra, first_batch
from vqmae_hf.training.codebook_start import start_codebook
from vqmae_hf.training.recipes import parse_arguments
from vqmae_hf.training.stages import StageResult, open_clips, run_stage, split_speakers_of

TERMS = ("reconstruction_loss", "commitment_loss", "perplexity", "code_usage")


def run(args: AudioTokenizerArguments) -> StageResult:
    """Train an `AudioVQVAEModel` on the spectra of prepared clips and save it with its feature extractor."""
    set_seed(args.seed)
    config = AudioVQVAEConfig.from_preset(args.model_preset, **(args.model_overrides or {}))
    n_fft = 2 * (config.num_frequency_bins - 1)
    feature_extractor = AudioVQVAEFeatureExtractor(n_fft=n_fft, hop_length=args.hop_length)
    parts = split_speakers_of(open_clips(args), args)
    train_data = ClipSpectra(parts["train"], feature_extractor, args.spectra_per_clip, seed=args.seed)
    validation_data = None
    if "validation" in parts:
        validation_data = ClipSpectra(parts["validation"], feature_extractor, args.spectra_per_clip, draw=False)
    model = AudioVQVAEModel(config)
    start_codebook(model, first_batch(train_data), seed=args.seed, method=args.codebook_start)
    _, result = run_stage(
        args,
        model,
        feature_extractor,
        train_data=train_data,
        validation_data=validation_data,
        terms=TERMS,
        paint=Spectrograms(validation_data or train_data, args.picture_clips) if args.picture_clips else None,
    )
    return result


class Spectrograms:
    """Paints whole clips as they are and as the tokenizer reconstructs them."""

    def __init__(self, data: ClipSpectra, num_clips: int):
        shown = range(min(num_clips, len(data)))
        self.values = [data.feature_extractor(clip_arrays(data.clips, i).waveform, padding=False) for i in shown]

    def __call__(self, model: AudioVQVAEModel) -> dict[str, Image.Image]:
        rows = []
        for features in self.values:
            original: torch.Tensor = features["audio_values"][0]
            reconstruction = model.decode(model.encode(original.unsqueeze(0).to(model.device)))[0]
            loudest = float(original.max())
            rows += [
                ("original", spectrogram(original, loudest=loudest)),
                ("reconstructed", spectrogram(reconstruction, loudest=loudest)),
            ]
        return {"spectra": named_rows(rows)}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    run(parse_arguments(AudioTokenizerArguments, argv))


if __name__ == "__main__":
    main()
