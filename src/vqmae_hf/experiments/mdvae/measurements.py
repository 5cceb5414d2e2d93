"""
What is measured of the models of one seed, each a function of workspace and seed that returns plain JSON values.

Letters: N clips, T frames, D features.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vqmae_hf.evaluation.denoising import (
    Method,
    RegionFidelity,
    as_damaged,
    as_undamaged,
    damage_clips,
    held_frames,
    model_method,
    moved_mean,
    region_fidelity,
    tokenizer_method,
)
from vqmae_hf.evaluation.disentanglement import measure_disentanglement
from vqmae_hf.evaluation.face_corruptions import CORRUPTIONS, FaceCorruption
from vqmae_hf.evaluation.few_labels import LabelledClips, label_curve, logistic_regression, small_network
from vqmae_hf.evaluation.known_factors import FactorValues
from vqmae_hf.evaluation.pictures import pixels_to_frames
from vqmae_hf.evaluation.swap_fidelity import Media, MediaProbes, swap_report
from vqmae_hf.experiments.mdvae.study import BOTH, StudyWorkspace, encode_features
from vqmae_hf.experiments.mdvae.supervised_transformer import (
    SupervisedTransformer,
    count_parameters,
    supervised_transformer,
    width_for,
)
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel
from vqmae_hf.modeling.modeling_outputs_mdvae import MDVAELatents

# Clips decoded at a time, and clips of training speakers that the probes of decoded media learn from.
DECODED_AT_ONCE = 8
PROBE_CLIPS = 120


def disentanglement(workspace: StudyWorkspace, seed: int) -> dict[str, Any]:
    """Probes and gaps of every factor; see `measure_disentanglement`."""
    model = workspace.model(BOTH, seed)
    parts = [workspace.part(name) for name in ("labelled", "test")]
    train, test = ((encode_features(model, workspace.features, p.rows), p.values) for p in parts)
    return {
        "factors": measure_disentanglement(train, test, seed),
        "parameters": model_parameters(model),
        "speakers": [len(set(p.values.speakers)) for p in parts],
        "clips": [len(p.rows) for p in parts],
    }


def denoising(workspace: StudyWorkspace, seed: int) -> dict[str, Any]:
    """
    PSNR and SSIM inside the damage, clip by clip.

    Returns:
        `speakers`: of every clip; `conditions`: by "corruption region" and method, `psnr` and `ssim` of every clip.
    """
    model, visual = workspace.model(BOTH, seed), workspace.model(("visual",), seed)
    known: dict[str, Method] = {
        "MDVAE with sound": model_method(model),
        "MDVAE without sound": model_method(model, with_sound=False),
        "visual VAE": model_method(visual),
    }
    unknown: dict[str, Method] = {
        "MDVAE with sound, damage unknown": model_method(model, knows_damage=False),
        "MDVAE without sound, damage unknown": model_method(model, with_sound=False, knows_damage=False),
        "visual VAE, damage unknown": model_method(visual, knows_damage=False),
    }
    undamaged: dict[str, Method] = {
        "MDVAE of the undamaged face": model_method(model),
        "visual VAE of the undamaged face": model_method(visual),
        "tokenizer of the undamaged face": tokenizer_method(model),
    }
    test = workspace.part("test")
    chosen = np.random.default_rng(seed).permutation(len(test.rows))[: workspace.study.denoising_clips]
    frames, spectra = workspace.frames(test.rows[chosen]), workspace.spectra(test.rows[chosen], model)
    whole = damage_clips(frames, spectra, FaceCorruption(), seed)
    ceilings = {name: make(as_undamaged(whole)) for name, make in undamaged.items()}
    conditions: dict[str, Any] = {}
    for kind in CORRUPTIONS:
        for region, box in workspace.study.regions.items():
            clips = damage_clips(frames, spectra, FaceCorruption(kind, tuple(box)), seed)  # type: ignore[arg-type]
            restored = {name: restore(clips) for name, restore in known.items()}
            moved = {f"mean moved by the {name}": moved_mean(clips, made) for name, made in restored.items()}
            made = {"damaged": as_damaged(clips), "mean of the undamaged frames": held_frames(clips)}
            made |= {**moved, **restored, **{name: restore(clips) for name, restore in unknown.items()}, **ceilings}
            conditions[f"{kind} {region}"] = {name: _rounded(region_fidelity(clips, m)) for name, m in made.items()}
    return {"speakers": test.values.speakers[chosen].tolist(), "conditions": conditions}


def _rounded(score: RegionFidelity) -> dict[str, list[float]]:
    return {metric: np.round(values, 4).tolist() for metric, values in score._asdict().items()}


def few_labels(workspace: StudyWorkspace, seed: int) -> dict[str, Any]:
    """
    Emotion on unseen speakers over the share of labels.

    Returns:
        `curves`: by system, as of `label_curve`; `speakers`: of the test clips; `parameters`: of the models and the
        transformer; `chance`.
    """
    study, parts = workspace.study, [workspace.part(name) for name in ("labelled", "test")]
    labels = [part.values.values["emotion"] for part in parts]
    shares = tuple(study.label_shares)
    curves: dict[str, Any] = {}
    parameters = {}
    for title, modalities in (("MDVAE", BOTH), ("audio VAE", ("audio",)), ("visual VAE", ("visual",))):
        model = workspace.model(modalities, seed)
        parameters[title] = model_parameters(model)
        latents = [encode_features(model, workspace.features, part.rows).static["w"] for part in parts]
        train, test = (LabelledClips(w, y) for w, y in zip(latents, labels, strict=True))
        for name, classifier in (("logistic regression", logistic_regression), ("small network", small_network)):
            options = {"shares": shares, "num_draws": study.label_draws, "seed": 1000 * seed}
            curves[f"w of the {title}, {name}"] = label_curve(classifier, train, test, **options)
    joined = [
        LabelledClips(np.concatenate([workspace.features[m][part.rows] for m in BOTH], axis=2).astype(np.float32), y)
        for part, y in zip(parts, labels, strict=True)
    ]
    sizes = (joined[0].inputs.shape[2], joined[0].inputs.shape[1], len(np.unique(labels[0])))
    width = width_for(parameters["MDVAE"], *sizes)
    parameters["supervised transformer"] = count_parameters(SupervisedTransformer(sizes[0], width, *sizes[1:]))
    curves["supervised transformer"] = label_curve(
        supervised_transformer(width, sizes[2]),
        *joined,
        shares=shares,
        num_draws=study.supervised_draws,
        seed=1000 * seed,
    )
    return {
        "curves": curves,
        "speakers": parts[1].values.speakers.tolist(),
        "parameters": parameters,
        "chance": float(np.bincount(labels[1]).max() / len(labels[1])),
    }


def swaps(workspace: StudyWorkspace, seed: int) -> dict[str, Any]:
    """What decoded clips show after one latent was swapped; see `swap_report`."""
    model, train, test = workspace.model(BOTH, seed), workspace.part("labelled"), workspace.part("test")
    learned = np.sort(np.random.default_rng(seed).permutation(len(train.rows))[:PROBE_CLIPS])
    probes = MediaProbes(
        decode_media(model, encode_rows(model, workspace, train.rows[learned])), train.values.select(learned), seed
    )
    first, second = swap_partners(test.values, workspace.study.swapped_pairs, seed)
    source, target = (encode_rows(model, workspace, test.rows[chosen]) for chosen in (first, second))
    decoded = {"none": decode_media(model, target)}
    for name in ("w", *model.config.dynamic_latents):
        decoded[name] = decode_media(model, model.swap(source, target, (name,)))
    report = swap_report(probes, decoded, test.values.select(first), test.values.select(second))
    return {"factors": report, "pairs": len(first)}


MEASUREMENTS: dict[str, Callable[[StudyWorkspace, int], dict[str, Any]]] = {
    "disentanglement": disentanglement,
    "swaps": swaps,
    "denoising": denoising,
    "few-labels": few_labels,
}


def model_parameters(model: MDVAEModel) -> int:
    """Parameters without those of the tokenizers."""
    return sum(p.numel() for name, p in model.named_parameters() if "tokenizer" not in name)


def swap_partners(values: FactorValues, num_pairs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """
    Pairs of clips (places) of different speakers and emotions.

    Raises:
        ValueError: no such pair.
    """
    generator = np.random.default_rng(seed)
    emotions = values.values["emotion"]
    first, second = [], []
    for place in generator.permutation(len(emotions)):
        others = np.flatnonzero((values.speakers != values.speakers[place]) & (emotions != emotions[place]))
        if len(others) and len(first) < num_pairs:
            first.append(place)
            second.append(generator.choice(others))
    if not first:
        raise ValueError("the test clips have one speaker or one emotion; a swap needs two of each.")
    return np.array(first), np.array(second)


@torch.no_grad()
def encode_rows(model: MDVAEModel, workspace: StudyWorkspace, rows: np.ndarray) -> MDVAELatents:
    """The latents (means) of some clips, as one batch."""
    static, moving = encode_features(model, workspace.features, rows)
    return MDVAELatents(**{name: torch.from_numpy(array) for name, array in {**static, **moving}.items()})


@torch.no_grad()
def decode_media(model: MDVAEModel, latents: MDVAELatents) -> Media:
    """Latents of N clips as pictures and power spectra."""
    frames, spectra = [], []
    for start in range(0, len(latents["w"]), DECODED_AT_ONCE):
        part = {name: tensor[start : start + DECODED_AT_ONCE].to(model.device) for name, tensor in latents.items()}
        decoding = model.decode(MDVAELatents(**part), output_values=True)
        frames += [pixels_to_frames(clip) for clip in decoding["pixel_values_videos"]]
        spectra.append(decoding["audio_values"].float().cpu().numpy())
    return Media(np.stack(frames), np.concatenate(spectra))
