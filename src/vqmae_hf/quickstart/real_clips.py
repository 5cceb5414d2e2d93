"""The same steps on real recordings, where there are any: find the face, tokenize, reconstruct, with sound."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from vqmae_hf.data.corpora import VIDEO_SUFFIXES
from vqmae_hf.data.media import FrameReader
from vqmae_hf.data.prepared_clips import load_failures, prepare_clips
from vqmae_hf.evaluation.fidelity import log_spectral_distance, peak_signal_to_noise
from vqmae_hf.inference import ReconstructedClip, reconstruct_clip
from vqmae_hf.quickstart.chain import FACE_SIZE, Quickstart
from vqmae_hf.training import train_audio_tokenizer, train_visual_tokenizer
from vqmae_hf.training.arguments import AudioTokenizerArguments, VisualTokenizerArguments
from vqmae_hf.training.assembly import processor_for_tokenizers
from vqmae_hf.training.recipes import build_arguments

SHARED_CLIPS = Path("../shared/data/grid")
HELD_OUT = 3
SHOWN_FRAMES = 8
# Four times the codes of the drawn faces: lips and teeth are small, and here nothing has to be learned from the codes.
REAL_VISUAL_OVERRIDES = {
    "num_downsampling_layers": 2,
    "hidden_size": 48,
    "residual_hidden_size": 32,
    "codebook_size": 512,
    "dead_code_threshold": 0.03,
    "ema_decay": 0.95,
}
# With twice the steps on half the frames the same minute gives 1 dB more (docs/LOG.md).
REAL_BATCH = 8


@dataclass
class RealClip:
    """
    A held-out recording and what its tokens kept.

    Args:
        path: of the recording.
        reconstruction: tokens and decoded clip.
        mp4: the decoded clip, with its sound.
        frames: (n, H, W, 3) uint8, some original pictures.
        boxes: (n, 4) where the face was found in them: x, y, width, height in pixels.
        psnr_db: of the face crops.
        log_spectral_distance_db: of the sound.
    """

    path: Path
    reconstruction: ReconstructedClip
    mp4: Path
    frames: np.ndarray
    boxes: np.ndarray
    psnr_db: float
    log_spectral_distance_db: float


@dataclass
class RealClips:
    """What the real part found: clips used, why others were not, and the held-out ones."""

    folder: Path
    num_clips: int
    num_frames: int
    failures: list[str]
    held_out: list[RealClip]


def find_real_clips(folder: str | Path | None, at_most: int) -> list[Path]:
    """
    Videos of a folder, evenly chosen; of the shared recordings, if they are there, when no folder is named.

    Raises:
        ValueError: the named folder has no videos.
    """
    root = Path(folder) if folder is not None else SHARED_CLIPS
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES) if root.is_dir() else []
    if folder is not None and len(paths) <= HELD_OUT:
        raise ValueError(
            f"{root} holds {len(paths)} videos ({', '.join(sorted(VIDEO_SUFFIXES))}); at least {HELD_OUT + 1} are needed: "
            f"{HELD_OUT} are held out, the others train the tokenizers."
        )
    step = max(1, len(paths) // max(1, at_most))
    return paths[::step][:at_most]


def continue_on_real_clips(quickstart: Quickstart, paths: list[Path]) -> RealClips:
    """Train tokenizers on all but the last clips, and send those through their tokens and back."""
    held_out = paths[-HELD_OUT:] if len(paths) > HELD_OUT else paths[-1:]
    training = [path for path in paths if path not in held_out]
    corpus = Dataset.from_dict(
        {
            "clip_id": [path.stem for path in training],
            "video": [{"path": str(path), "bytes": None} for path in training],
            "speaker": ["unknown"] * len(training),
        }
    )
    folder = quickstart.work / "real"
    clips = prepare_clips(corpus, folder / "clips", face_size=FACE_SIZE)
    failures = [f"{failure.clip_id}: {failure.reason}" for failure in load_failures(folder / "clips")]
    audio, visual = _train_tokenizers(quickstart, folder)
    processor = processor_for_tokenizers({"audio": audio, "visual": visual})
    shown = []
    for path in held_out:
        rebuilt = reconstruct_clip(path, processor=processor, audio_tokenizer=audio, visual_tokenizer=visual)
        mp4 = rebuilt.write(quickstart.output_dir / "real" / f"{path.stem}.mp4")
        shown.append(_describe(path, rebuilt, mp4))
    return RealClips(paths[0].parent, len(paths), sum(clips["num_frames"][:]), failures, shown)


def _train_tokenizers(quickstart: Quickstart, folder: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    shared = {
        "clips_dir": str(folder / "clips"),
        "recipe": "quickstart",
        "max_steps": quickstart.size.real_tokenizer_steps,
        "validation_share": 0.0,
        "test_share": 0.0,
        "picture_clips": 0,
        "seed": quickstart.seed,
    }
    audio = build_arguments(AudioTokenizerArguments, output_dir=str(folder / "audio_tokenizer"), **shared)
    visual = build_arguments(
        VisualTokenizerArguments,
        output_dir=str(folder / "visual_tokenizer"),
        model_overrides=REAL_VISUAL_OVERRIDES,
        per_device_train_batch_size=REAL_BATCH,
        **shared,
    )
    return train_audio_tokenizer.run(audio).model, train_visual_tokenizer.run(visual).model


def _describe(path: Path, rebuilt: ReconstructedClip, mp4: Path) -> RealClip:
    """The numbers of a reconstruction, and the pictures around its faces."""
    clip = rebuilt.clip
    chosen = np.linspace(0, len(clip.frames) - 1, min(SHOWN_FRAMES, len(clip.frames))).round().astype(int)
    pictures = FrameReader(path, clip.frames_per_second)
    wanted = set(chosen.tolist())
    frames = np.stack([picture.to_rgb() for index, picture in enumerate(pictures) if index in wanted])
    psnr = peak_signal_to_noise(clip.frames, rebuilt.frames)
    distance = log_spectral_distance(rebuilt.spectra, rebuilt.decoded_spectra)
    return RealClip(path, rebuilt, mp4, frames, clip.face_boxes[chosen], psnr, distance)
