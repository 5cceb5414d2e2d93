"""The benchmarks by name: `stage/model/size/precision`. Sizes are those of ../shared/BASELINE.md where it has figures."""

import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Case, Program, Work
from vqmae_hf import (
    AudioVQVAEConfig,
    AudioVQVAEModel,
    MDVAEConfig,
    MDVAEModel,
    VisualVQVAEConfig,
    VisualVQVAEModel,
    VQMAEConfig,
    VQMAEForAudioVisualClassification,
    VQMAEForPreTraining,
)
from vqmae_hf.modeling.mdvae_features import FrameFeatures
from vqmae_hf.modeling.mdvae_generation import draw_noise
from vqmae_hf.modeling.modeling_outputs_mdvae import MDVAEOutput

ROOT = Path(__file__).resolve().parents[1]
SHARED_CLIPS = ROOT.parent / "shared" / "data" / "grid"
sys.path.insert(0, str(ROOT / "tests" / "modeling"))
from plain_mdvae import plain_encode  # noqa: E402
from plain_tokenizers import plain_audio_codes, plain_visual_codes  # noqa: E402
from plain_vqmae import plain_classification_loss, plain_logits, plain_pretraining_loss  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
Inputs = dict[str, torch.Tensor]


def training_step(model: torch.nn.Module, loss: Program, bfloat16: bool) -> Program:
    """Forward, losses, backward and a fused AdamW, as the training programs do them."""
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-6, fused=True)

    def step() -> None:
        with torch.autocast(DEVICE, torch.bfloat16, enabled=bfloat16):
            value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def inference(program: Program, bfloat16: bool) -> Program:
    def run() -> None:
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=bfloat16):
            program()

    return run


def random_codes(config: VQMAEConfig, clips: int, frames: int | None = None) -> Inputs:
    frames = frames or config.visual_num_frames
    spectra = frames * config.audio_num_spectra // config.visual_num_frames
    side = config.visual_codes_per_side
    return {
        "audio_codes": torch.randint(
            config.audio_codebook_size, (clips, spectra, config.audio_codes_per_spectrum), device=DEVICE
        ),
        "visual_codes": torch.randint(config.visual_codebook_size, (clips, frames, side, side), device=DEVICE),
    }


def pretraining(preset: str, clips: int, bfloat16: bool, frames: int | None = None, **fields: Any) -> Work:
    """A step at half of the tubes masked."""
    config = VQMAEConfig.from_preset(preset, **fields)
    model = VQMAEForPreTraining(config).to(DEVICE).train()
    codes = random_codes(config, clips, frames)
    tubes = model.model.prepare_tubes(**codes)
    maskings = model.mask_tubes(tubes, {"audio": None, "visual": None}, 0.5)
    masks = {name: masking.mask for name, masking in maskings.items()}
    step = training_step(model, lambda: model(**codes, mask_ratio=0.5).loss, bfloat16)
    plain = training_step(model, lambda: plain_pretraining_loss(model, **codes, masks=masks), bfloat16)
    return Work(step, plain if frames is None else None)


def classifier(preset: str, pooling: str) -> VQMAEForAudioVisualClassification:
    config = VQMAEConfig.from_preset(preset, classifier_pooling=pooling, num_labels=8)
    return VQMAEForAudioVisualClassification(config).to(DEVICE)


def fine_tuning(preset: str, pooling: str, clips: int, bfloat16: bool) -> Work:
    model = classifier(preset, pooling).train()
    codes = random_codes(model.config, clips)
    labels = torch.randint(8, (clips,), device=DEVICE)
    step = training_step(model, lambda: model(**codes, labels=labels).loss, bfloat16)
    return Work(step, training_step(model, lambda: plain_classification_loss(model, labels, **codes), bfloat16))


def classification(preset: str, pooling: str, clips: int, bfloat16: bool) -> Work:
    model = classifier(preset, pooling).eval()
    codes = random_codes(model.config, clips)
    return Work(inference(lambda: model(**codes), bfloat16), inference(lambda: plain_logits(model, **codes), bfloat16))


def random_spectra(spectra: int) -> torch.Tensor:
    return torch.rand(1, spectra, 513, device=DEVICE).square()


def random_frames(frames: int, side: int = 96) -> torch.Tensor:
    return torch.rand(1, frames, 3, side, side, device=DEVICE) - 0.5


def tokenizer(modality: str, task: str, items: int, bfloat16: bool) -> Work:
    """`task` "encode", "decode" or "train" of one clip of so many spectra or frames."""
    model: Any
    if modality == "audio":
        model, values, plain_codes = (
            AudioVQVAEModel(AudioVQVAEConfig.from_preset("vqmae")),
            random_spectra(items),
            plain_audio_codes,
        )
    else:
        model, values, plain_codes = (
            VisualVQVAEModel(VisualVQVAEConfig.from_preset("vqmae")),
            random_frames(items),
            plain_visual_codes,
        )
    model = model.to(DEVICE).eval()
    if task == "train":
        model.train()
        return Work(training_step(model, lambda: model(values).loss, bfloat16))
    if task == "decode":
        codes = model.encode(values)
        return Work(inference(lambda: model.decode(codes), bfloat16))
    return Work(
        inference(lambda: model.encode(values), bfloat16), inference(lambda: plain_codes(model, values), bfloat16)
    )


def random_features(config: MDVAEConfig, clips: int, frames: int) -> Inputs:
    return {
        "audio_features": torch.randn(clips, frames, config.audio_feature_size, device=DEVICE),
        "visual_features": torch.randn(clips, frames, config.visual_feature_size, device=DEVICE),
    }


def plain_mdvae_loss(model: MDVAEModel, features: Inputs) -> torch.Tensor:
    """The model's objective on the latents of the plain, per-step inference."""
    shapes = model.noise_shapes(*features["audio_features"].shape[:2])
    encoding = plain_encode(model, **features, noise=draw_noise(shapes, None, torch.device(DEVICE)))
    inputs = FrameFeatures({name.removesuffix("_features"): value for name, value in features.items()}, None)
    output = MDVAEOutput()
    model.add_losses(output, inputs, encoding, model.decode_features(encoding))
    return output["loss"]


def mdvae(task: str, clips: int, frames: int, bfloat16: bool, with_plain: bool = True) -> Work:
    model = MDVAEModel(MDVAEConfig.from_preset("mdvae")).to(DEVICE).eval()
    features = random_features(model.config, clips, frames)
    if task == "encode":
        run = inference(lambda: model.encode(**features), bfloat16)
        plain = inference(lambda: plain_encode(model, **features), bfloat16)
    else:
        run = training_step(model.train(), lambda: model(**features).loss, bfloat16)
        plain = training_step(model, lambda: plain_mdvae_loss(model, features), bfloat16)
    return Work(run, plain if with_plain else None)


def emotion(source: str) -> Work:
    """The pipeline with `cross-12`, tokenizers and all, on a clip of 3 s: a GRID clip where there is one, else synthetic."""
    from vqmae_hf import AudioVisualClassificationPipeline, load_clip
    from vqmae_hf.training.assembly import build_vqmae, processor_for_tokenizers

    tokenizers: dict[str, Any] = {
        "audio": AudioVQVAEModel(AudioVQVAEConfig.from_preset("vqmae")),
        "visual": VisualVQVAEModel(VisualVQVAEConfig.from_preset("vqmae")),
    }
    model = build_vqmae(VQMAEForAudioVisualClassification, "cross-12", tokenizers, num_labels=8).to(DEVICE).eval()
    classify = AudioVisualClassificationPipeline(
        model=model, processor=processor_for_tokenizers(tokenizers), device=DEVICE
    )
    clip: Any = str(talking_face())
    if source == "frames":
        loaded = load_clip(clip)
        seconds = min(3.0, loaded.duration_seconds)
        clip = {
            "frames": np.asarray(loaded.frames)[: round(25 * seconds)],
            "waveform": np.asarray(loaded.waveform)[: round(16000 * seconds)],
        }
    return Work(lambda: classify(clip))


def talking_face() -> Path:
    """A file of 3 s with a face that is found."""
    clips = sorted(SHARED_CLIPS.glob("*.mp*"))
    if clips:
        return clips[0]
    from vqmae_hf import write_synthetic_corpus

    folder = Path(tempfile.mkdtemp())
    write_synthetic_corpus(folder, num_speakers=1, clips_per_emotion=1, clip_seconds=3.0, show_progress=False)
    return sorted(folder.rglob("*.mp4"))[0]


def _precisions(
    name: str, build: Any, *arguments: Any, reference: float | None = None, gigabytes: float | None = None
):
    """A case in fp32 and one in bfloat16 autocast."""
    return {
        f"{name}/{label}": Case(partial(build, *arguments, bfloat16), bfloat16, reference, gigabytes)
        for label, bfloat16 in (("fp32", False), ("bf16", True))
    }


def all_cases() -> dict[str, Case]:
    """Every case by name. Reference figures are of equal sizes; their peak memory is without the base."""
    cases: dict[str, Case] = {}
    for preset in ("self-6", "self-12", "cross-12"):
        for clips in (4, 16):
            cases |= _precisions(f"pretrain/{preset}/batch-{clips}", pretraining, preset, clips)
    # The architectures of BASELINE.md, where they differ from the presets: 4 decoder layers, no InfoNCE.
    known = [("self-6", 4, 1.83, 1.26), ("self-6", 16, 6.27, 4.36), ("cross-12", 16, 8.18, 5.23)]
    for preset, clips, seconds, gigabytes in known:
        for label, bfloat16 in (("fp32", False), ("bf16", True)):
            build = partial(pretraining, preset, clips, bfloat16, contrastive=False, decoder_num_hidden_layers=4)
            name = f"pretrain/{preset}-as-baseline/batch-{clips}/{label}"
            cases[name] = Case(build, bfloat16, seconds, gigabytes)
    for pooling, seconds in (("attention", 1.71), ("query2emo", 2.55)):
        cases |= _precisions(
            f"finetune/self-6-{pooling}/batch-8", fine_tuning, "self-6", pooling, 8, reference=seconds
        )
    latencies = {("self-6", 1): 0.163, ("self-6", 8): 0.959, ("cross-6", 1): 0.095, ("cross-6", 8): 0.7}
    latencies |= {("self-12", 1): 0.207, ("self-12", 8): 1.78}
    for (preset, clips), seconds in latencies.items():
        cases |= _precisions(
            f"classify/{preset}-query2emo/batch-{clips}", classification, preset, "query2emo", clips, reference=seconds
        )
    return cases | tokenizer_cases() | mdvae_cases() | emotion_cases() | cost_cases()


def tokenizer_cases() -> dict[str, Case]:
    audio = {("encode", 100): 0.017, ("encode", 1000): 0.194, ("decode", 100): 0.006, ("decode", 1000): 0.089}
    audio |= {("train", 64): 0.06, ("train", 1024): 0.619}
    visual = {("encode", 50): 0.285, ("decode", 50): 0.159, ("train", 16): 0.315, ("train", 64): 1.72}
    cases: dict[str, Case] = {}
    for modality, references in (("audio", audio), ("visual", visual)):
        for (task, items), seconds in references.items():
            name = f"{modality}-tokenizer/{task}/{items}"
            cases |= _precisions(name, tokenizer, modality, task, items, reference=seconds)
    return cases


def mdvae_cases() -> dict[str, Case]:
    return {
        **_precisions("mdvae/step/32-clips-of-30", mdvae, "step", 32, 30, reference=0.54, gigabytes=0.65),
        **_precisions("mdvae/step/128-clips-of-30", mdvae, "step", 128, 30, reference=1.64, gigabytes=1.1),
        **_precisions("mdvae/encode/1-clip-of-60", mdvae, "encode", 1, 60, reference=0.083),
    }


def emotion_cases() -> dict[str, Case]:
    return {f"emotion/cross-12/{source}": Case(partial(emotion, source)) for source in ("mp4", "frames")}


def cost_cases() -> dict[str, Case]:
    """Cost against the batch, the length of clips in pre-training, and the number of frames of MDVAE."""
    cases = {
        f"cost/batch/{clips}": Case(partial(pretraining, "self-6", clips, False, 50)) for clips in (1, 2, 4, 8, 16)
    }
    for frames in (10, 20, 30, 40, 50):
        cases[f"cost/frames/{frames}"] = Case(partial(pretraining, "self-6", 4, False, frames))
    for frames in (15, 30, 60, 120, 240):
        cases[f"cost/mdvae-encode/{frames}"] = Case(partial(mdvae, "encode", 1, frames, False, with_plain=False))
        cases[f"cost/mdvae-step/{frames}"] = Case(partial(mdvae, "step", 4, frames, False, with_plain=False))
    return cases
