"""
The inference of MDVAE as the equations stand: every network at every frame, on concatenated inputs. The model computes as
much as it can for all frames at once; `tests/modeling/test_mdvae_recurrence.py` holds it to this form, and the benchmarks
compare their speed.
"""

import torch

from vqmae_hf.modeling.mdvae_inference import DynamicLatent
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel
from vqmae_hf.modeling.modeling_outputs_mdvae import MDVAEEncoding


def plain_static(model: MDVAEModel, f_a: torch.Tensor, f_v: torch.Tensor):
    """The posterior of w: one step of both directions per frame."""
    features, encoder = torch.cat([f_v, f_a], dim=2), model.static_latent
    onwards = encoder.forward_history.initial_state(features)
    backwards = encoder.backward_history.initial_state(features)
    T = features.shape[1]
    for t in range(T):
        onwards = encoder.forward_history.step(features[:, t], onwards)
        backwards = encoder.backward_history.step(features[:, T - 1 - t], backwards)
    summary = [onwards, backwards, features.mean(dim=1)] if encoder.sees_mean else [onwards, backwards]
    return encoder.posterior(torch.cat(summary, dim=1))


def plain_encode(model: MDVAEModel, audio_features, visual_features, noise=None) -> MDVAEEncoding:
    """All latents of a model of both modalities, all networks frame by frame, results grown by concatenation."""
    f_a, f_v = audio_features, model.visual_embedding(visual_features)
    w = plain_static(model, f_a, f_v)
    encoding = MDVAEEncoding(w=w.sample(noise["w"] if noise else None), w_mean=w.mean, w_logvar=w.logvar)
    latents = {name: model.dynamic_latents[name] for name in ("z_av", "z_a", "z_v")}
    history = {name: latent.history.initial_state(f_a) for name, latent in latents.items()}
    results: dict[str, torch.Tensor] = {}
    for t in range(f_a.shape[1]):
        frame = {"audio": f_a[:, t], "visual": f_v[:, t], "w": encoding["w"]}
        inputs = {"z_av": ["w", "audio", "visual"], "z_a": ["w", "audio", "z_av"], "z_v": ["w", "visual", "z_av"]}
        for name, latent in latents.items():
            found = plain_step(latent, history[name], [frame[part] for part in inputs[name]])
            frame[name] = found[f"{name}_sample"] = found.pop("posterior").sample(noise[name][:, t] if noise else None)
            for part, value in rename(found, name).items():
                value = value.unsqueeze(1)
                results[part] = torch.cat([results[part], value], dim=1) if part in results else value
            history[name] = latent.history.step(frame[name], history[name])
    for part, value in results.items():
        encoding[part] = value
    return encoding


def plain_step(latent: DynamicLatent, history: torch.Tensor, conditions: list[torch.Tensor]) -> dict:
    posterior = latent.posterior(torch.cat([history, *conditions], dim=1))
    prior = latent.prior(history)
    return {
        "posterior": posterior,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "prior_mean": prior.mean,
        "prior_logvar": prior.logvar,
    }


def rename(found: dict, name: str) -> dict[str, torch.Tensor]:
    """The names of [`MDVAEEncoding`]."""
    return {name if part.endswith("sample") else f"{name}_{part}": value for part, value in found.items()}
