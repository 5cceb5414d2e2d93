"""The training objective of MDVAE, term by term, and what each term moves; refused inputs; configurations."""

import math

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from small_mdvae import LATENTS, make, mdvae_config, prefix_mask, random_features, random_noise
from small_models import audio_tokenizer_config, gradients
from torch.distributions import Normal, kl_divergence

from vqmae_hf.modeling.configuration_mdvae import MDVAE_PRESETS, MDVAEConfig
from vqmae_hf.modeling.losses import itakura_saito
from vqmae_hf.modeling.mdvae_losses import gaussian_kl, reconstruction_loss, with_free_bits
from vqmae_hf.modeling.mdvae_networks import Gaussian, linear_of_parts
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel

TERMS = ["audio_loss", "visual_loss", "w_kl", "z_av_kl", "z_a_kl", "z_v_kl"]


def distribution(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean, gaussian.logvar.mul(0.5).exp())


def posterior(encoding, name) -> Normal:
    return distribution(Gaussian(encoding[f"{name}_mean"], encoding[f"{name}_logvar"]))


def standard(like: torch.Tensor) -> Normal:
    return Normal(torch.zeros_like(like), torch.ones_like(like))


# ---- terms ----


def test_the_divergence_is_that_of_torch():
    q, p = (Gaussian(torch.randn(4, 5, 6), torch.randn(4, 5, 6)) for _ in range(2))
    torch.testing.assert_close(gaussian_kl(q, p), kl_divergence(distribution(q), distribution(p)))
    assert not gaussian_kl(q, q).any()


def test_every_term_by_hand():
    model, features = make(kl_weight=0.3), random_features()
    output = model(**features, noise=random_noise(model))
    e, B, T = output.encoding, 3, 6
    for modality in ("audio", "visual"):
        expected = (features[f"{modality}_features"] - output[f"{modality}_features"]).square().sum() / (B * T)
        torch.testing.assert_close(output[f"{modality}_loss"], expected)
    torch.testing.assert_close(output.w_kl, kl_divergence(posterior(e, "w"), standard(e.w)).sum() / B)
    for name in LATENTS[1:]:
        expected = kl_divergence(posterior(e, name), posterior(e, f"{name}_prior")).sum() / (B * T)
        torch.testing.assert_close(output[f"{name}_kl"], expected)
    divergences = output.w_kl + output.z_av_kl + output.z_a_kl + output.z_v_kl
    torch.testing.assert_close(output.loss, output.audio_loss + output.visual_loss + 0.3 * divergences)


@pytest.mark.parametrize("lengths", [None, [6, 4, 1]])
def test_what_moves_counts_as_often_as_it_is_said(lengths):
    mask = None if lengths is None else prefix_mask(lengths, 6)
    target, made = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    clips = [(made - target)[clip, : (lengths or [6] * 3)[clip]] for clip in range(3)]
    frames = sum(map(len, clips))
    standing = sum(len(clip) * clip.mean(0).square().sum() for clip in clips) / frames
    moving = sum((clip - clip.mean(0)).square().sum() for clip in clips) / frames
    if mask is not None:
        made = torch.where(mask.bool().unsqueeze(2), made, torch.inf)  # at padding anything may stand
    plain, heavy = (
        reconstruction_loss(target, made, "squared_error", mask if mask is None else mask.bool(), weight)
        for weight in (1.0, 5.0)
    )
    torch.testing.assert_close(plain, standing + moving)
    torch.testing.assert_close(heavy, standing + 5 * moving)


def test_a_model_takes_the_weight_of_what_moves_from_its_configuration():
    features = random_features()
    plain, heavy = (
        model(**features, noise=random_noise(model)) for model in (make(), make(visual_movement_weight=4.0))
    )
    torch.testing.assert_close(heavy.audio_loss, plain.audio_loss)
    expected = reconstruction_loss(features["visual_features"], plain.visual_features, "squared_error", None, 4.0)
    torch.testing.assert_close(heavy.visual_loss, expected)
    with pytest.raises(
        StrictDataclassClassValidationError, match=r"audio_movement_weight=2.0 is of squared errors only"
    ):
        MDVAEConfig(audio_reconstruction_loss="itakura_saito", audio_movement_weight=2.0)


def test_beta_of_a_call_wins_over_the_configurations():
    model, features = make(kl_weight=5.0), random_features()
    output = model(**features, kl_weight=0.0)
    torch.testing.assert_close(output.loss, output.audio_loss + output.visual_loss)
    half = model(**features, kl_weight=torch.tensor(0.5)).loss
    torch.testing.assert_close(half - output.loss, 0.1 * (model(**features).loss - output.loss))


def test_beta_of_one_latent_leaves_the_others_theirs():
    model, features = make(kl_weight=0.5, z_a_kl_weight=2.0), random_features()
    usual, heavy = model(**features), model(**features, kl_weight={"z_a": 3.0})
    assert usual.z_a_kl > 0
    torch.testing.assert_close(heavy.loss - usual.loss, 2.0 * 2.5 * usual.z_a_kl)


def test_free_bits_cost_nothing_and_pull_nothing():
    divergences = torch.tensor([0.1, 0.5, 2.0], requires_grad=True)
    free = with_free_bits(divergences, 1.0)  # log 2 = 0.69 nats
    torch.testing.assert_close(free, torch.tensor(2 * math.log(2) + 2.0))
    free.backward()
    assert divergences.grad.tolist() == [0, 0, 1]
    model, features = make(free_bits=100.0, kl_weight=1.0), random_features()
    output = model(**features)
    numbers = 7 + 5 + 3 + 2
    expected = output.audio_loss + output.visual_loss + numbers * 100 * math.log(2)
    torch.testing.assert_close(output.loss, expected)
    assert output.w_kl < 100, "the terms are reported as they are"


def test_without_loss_there_are_reconstructions_alone():
    output = make()(**random_features(), return_loss=False)
    assert set(output) == {"audio_features", "visual_features", "encoding"}


def test_itakura_saito_where_features_are_positive():
    model = make(audio_reconstruction_loss="itakura_saito")
    features = random_features()
    with pytest.raises(ValueError, match=r"never negative.*squared_error"):
        model(**features)
    features["audio_features"] = features["audio_features"].exp()
    output = model(**features)
    assert (output.audio_features > 0).all()
    expected = itakura_saito(features["audio_features"], output.audio_features).sum() / 18
    torch.testing.assert_close(output.audio_loss, expected)


# ---- gradients ----


def parts_moved(model, loss) -> set[str]:
    model.zero_grad()
    loss.backward()
    return {".".join(name.split(".")[: 3 if name.startswith("dynamic") else 2]) for name in gradients(model)}


def test_every_term_sends_gradient_to_what_it_should():
    model, features = make(), random_features()
    noise = random_noise(model)

    def moved(term: str) -> set[str]:
        return parts_moved(model, model(**features, noise=noise)[term])

    static = {f"static_latent.{part}" for part in ("forward_history", "backward_history", "posterior")}
    static.add("visual_embedding.layers")

    def latent(name: str, *parts: str) -> set[str]:
        return {f"dynamic_latents.{name}.{part}" for part in parts}

    everything = ("history", "posterior", "prior")
    shared = latent("z_av", "history", "posterior")
    assert moved("w_kl") == static
    assert moved("z_av_kl") == static | latent("z_av", *everything)
    assert moved("z_a_kl") == static | shared | latent("z_a", *everything)
    assert moved("z_v_kl") == static | shared | latent("z_v", *everything)
    for term, name, decoder in (("audio_loss", "z_a", "decoders.audio"), ("visual_loss", "z_v", "decoders.visual")):
        assert moved(term) == static | shared | latent(name, "history", "posterior") | {decoder}
    parts = set.union(*(moved(term) for term in TERMS))
    assert moved("loss") == parts
    assert {name for name, _ in model.named_parameters()} == set(gradients(model))


def test_a_few_steps_of_training_bring_every_reconstruction_down():
    torch.manual_seed(0)
    model = MDVAEModel(mdvae_config(kl_weight=0.1)).train()
    features = random_features()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    first = model(**features, sample=False)
    for _ in range(60):
        optimizer.zero_grad()
        model(**features).loss.backward()
        optimizer.step()
    last = model(**features, sample=False)
    assert last.audio_loss < 0.8 * first.audio_loss
    assert last.visual_loss < 0.8 * first.visual_loss


@pytest.mark.parametrize("leading", [0, 3])
def test_a_layer_of_parts_is_the_layer_of_their_concatenation(leading):
    layer, static, moving = torch.nn.Linear(9 + leading, 4), torch.randn(2, 5), torch.randn(2, 6, 4)
    ahead = torch.zeros(2, 6, leading)
    whole = torch.cat([ahead, static.unsqueeze(1).expand(-1, 6, -1), moving], dim=2)
    torch.testing.assert_close(linear_of_parts(layer, [static, moving]), layer(whole))


# ---- one modality ----


@pytest.mark.parametrize(("modality", "latent"), [("audio", "z_a"), ("visual", "z_v")])
def test_a_model_of_one_modality_has_its_latent_and_w_alone(modality, latent):
    model = make(modalities=(modality,))
    features = {f"{modality}_features": random_features()[f"{modality}_features"]}
    output = model(**features, noise=random_noise(model))
    assert set(output) == {
        "loss",
        f"{modality}_loss",
        "w_kl",
        f"{latent}_kl",
        f"{modality}_features",
        "encoding",
    }
    torch.testing.assert_close(output.loss, output[f"{modality}_loss"] + output.w_kl + output[f"{latent}_kl"])
    assert not any("z_av" in name for name, _ in model.named_parameters())
    output.loss.backward()
    assert {name for name, _ in model.named_parameters()} == set(gradients(model))


# ---- refusals ----


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual_features": None}, "neither of visual_features and pixel_values_videos"),
        ({"audio_values": torch.rand(3, 6, 65)}, "both of audio_features and audio_values"),
        ({"audio_features": torch.rand(3, 6, 63)}, r"audio_features has shape \(3, 6, 63\); \(clips, frames, 64\)"),
        ({"audio_features": torch.rand(6, 64)}, r"\(clips, frames, 64\)"),
        ({"audio_features": torch.rand(3, 0, 64), "visual_features": torch.rand(3, 0, 64)}, "at least one frame"),
        ({"audio_features": torch.rand(3, 12, 64)}, "one spectrum per frame.*MDVAEProcessor"),
        ({"audio_features": None, "audio_values": torch.rand(3, 6, 65)}, "needs the audio tokenizer.*set_tokenizers"),
        ({"audio_attention_mask": torch.ones(3, 5)}, r"audio_attention_mask has shape \(3, 5\); \(3, 6\)"),
        ({"visual_attention_mask": 1 - prefix_mask([1, 2, 3])}, "padding at the end.*denoise"),
    ],
)
def test_refused_inputs(change, message):
    with pytest.raises(ValueError, match=message):
        make()(**{**random_features(), **change})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"modalities": ()}, "must name 'audio', 'visual' or both"),
        ({"modalities": ("audio", "audio")}, "names one twice"),
        ({"modalities": ("text",)}, "must name"),
        ({"z_av_size": 0}, "z_av_size=0 must be positive"),
        ({"num_frames": -1}, "num_frames=-1 must be positive"),
        ({"z_v_prior_sizes": ()}, "z_v_prior_sizes=.* must be at least one positive number"),
        ({"audio_decoder_sizes": (4, 0)}, "audio_decoder_sizes"),
        ({"z_a_posterior_sizes": (4,)}, r"z_a_posterior_sizes=\(4,\) and .* equally many layers"),
        ({"kl_weight": -0.5}, "kl_weight=-0.5 cannot be negative"),
        ({"free_bits": -1}, "free_bits=-1 cannot be negative"),
        ({"audio_tokenizer_config": audio_tokenizer_config(codebook_dim=5)}, "audio_code_dim=8, but .* has 5"),
    ],
)
def test_nonsense_is_refused_with_the_field_the_value_and_the_remedy(fields, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        mdvae_config(**fields)


# ---- presets ----


def test_the_papers_model_has_8_48_million_parameters():
    with torch.device("meta"):
        model = MDVAEModel(MDVAEConfig.from_preset("mdvae"))
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_484_568


def test_sizes_of_the_paper():
    config = MDVAEConfig.from_preset("mdvae")
    assert (config.w_size, config.z_av_size, config.z_a_size, config.z_v_size) == (84, 16, 8, 4)
    assert (config.audio_feature_size, config.visual_feature_size) == (512, 2048)


@pytest.mark.parametrize("preset", list(MDVAE_PRESETS))
def test_presets_fit_the_tokenizers_of_their_name(preset):
    tokenizers = {f"{part}_tokenizer_config": {} for part in ("audio", "visual")}
    for name in tokenizers:
        tokenizers[name] = MDVAEConfig.sub_configs[name].from_preset(preset)
    assert MDVAEConfig.from_preset(preset, **tokenizers).num_frames == 30


def test_unknown_presets_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"\['mdvae', 'tiny'\]"):
        MDVAEConfig.from_preset("huge")


def test_configurations_are_the_same_after_json(tmp_path):
    config = mdvae_config(modalities=("visual",), free_bits=0.5, audio_tokenizer_config=audio_tokenizer_config())
    config.save_pretrained(tmp_path)
    loaded = MDVAEConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() | {"architectures": None} == config.to_dict() | {"architectures": None}
    assert loaded.audio_tokenizer_config.codebook_size == 16
    assert loaded.dynamic_latents == ("z_v",)
