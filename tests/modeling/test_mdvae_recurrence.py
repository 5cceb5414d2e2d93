"""The recurrences of MDVAE: the plain form gives the same, time flows forwards, lengths and padding, noise."""

import pytest
import torch
from plain_mdvae import plain_encode
from small_mdvae import LATENTS, make, prefix_mask, random_features, random_noise
from small_models import gradients, seeded

from vqmae_hf.modeling.mdvae_inference import infer_together
from vqmae_hf.modeling.mdvae_networks import FeatureDecoder, GatedRecurrence
from vqmae_hf.modeling.mdvae_recurrences import (
    LatentNetworks,
    StackedLinear,
    final_states,
    run_latents,
    state_gates,
)
from vqmae_hf.modeling.modeling_mdvae import MDVAEModel


def close(first: torch.Tensor, second: torch.Tensor) -> None:
    """To 1e-6 of the largest magnitude."""
    scale = max(1.0, float(second.detach().abs().max()))
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6 * scale)


# ---- the plain form ----


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("frames", [1, 2, 6, 17])
@pytest.mark.parametrize("sees_mean", [False, True])
def test_the_plain_form_gives_the_same(sampled, frames, sees_mean):
    model = make(w_sees_mean=sees_mean)
    features = random_features(frames=frames)
    noise = random_noise(model, frames=frames) if sampled else None
    fast, plain = model.encode(**features, noise=noise), plain_encode(model, **features, noise=noise)
    assert fast.keys() == plain.keys()
    for name in plain:
        close(fast[name], plain[name])


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("sees_mean", [False, True])
def test_the_plain_form_has_the_same_gradients(sampled, sees_mean):
    model, features = make(w_sees_mean=sees_mean), random_features()
    noise = random_noise(model) if sampled else None
    found = []
    for encoding in (model.encode(**features, noise=noise), plain_encode(model, **features, noise=noise)):
        model.zero_grad()
        sum(value.square().mean() for value in encoding.values()).backward()
        found.append(gradients(model))
    fast, plain = found
    assert fast.keys() == plain.keys()
    assert {name.split(".")[0] for name in fast} == {"visual_embedding", "static_latent", "dynamic_latents"}
    for name in plain:
        close(fast[name], plain[name])


def test_the_recurrence_is_that_of_torch():
    ours, theirs = GatedRecurrence(5, 7), torch.nn.GRU(5, 7, batch_first=True)
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(theirs, f"{name}_l0").copy_(getattr(ours, name))
    inputs = torch.randn(3, 4, 5)
    states, _ = theirs(inputs)
    torch.testing.assert_close(ours(inputs), states)
    state = ours.initial_state(inputs)
    for t in range(4):
        state = ours.step(inputs[:, t], state)
        torch.testing.assert_close(state, states[:, t])
    torch.testing.assert_close(ours(inputs[:, 2:], states[:, 1]), states[:, 2:])


def test_priors_of_given_samples_are_those_of_the_recurrence():
    model = make()
    encoding = model.encode(**random_features(), sample=True, generator=seeded())
    for name in LATENTS[1:]:
        prior = model.dynamic_latents[name].prior_of(encoding[name])
        close(prior.mean, encoding[f"{name}_prior_mean"])
        close(prior.logvar, encoding[f"{name}_prior_logvar"])


# ---- time ----


@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("t", [1, 3, 5])
def test_the_future_moves_nothing_before_it(sampled, t):
    """The static latent sees the whole clip, so it is given."""
    model, features = make(), random_features()
    noise = random_noise(model) if sampled else None
    other = {name: value.clone() for name, value in features.items()}
    for value in other.values():
        value[:, t:] += torch.randn_like(value[:, t:])
    w = torch.randn(3, 7)
    before, after = (model.infer_latents(model.prepare_features(**inputs), noise, w) for inputs in (features, other))
    for name in LATENTS[1:]:
        for part in (name, f"{name}_mean", f"{name}_logvar", f"{name}_prior_mean", f"{name}_prior_logvar"):
            torch.testing.assert_close(before[part][:, :t], after[part][:, :t], rtol=0, atol=1e-6)
        assert (before[name][:, t] - after[name][:, t]).abs().max() > 1e-3
        # The prior of frame t only knows the frames before it.
        torch.testing.assert_close(
            before[f"{name}_prior_mean"][:, t], after[f"{name}_prior_mean"][:, t], rtol=0, atol=1e-6
        )
        if t < 5:
            assert (before[f"{name}_prior_mean"][:, t + 1] - after[f"{name}_prior_mean"][:, t + 1]).abs().max() > 1e-4
    assert (before["w_mean"] - after["w_mean"]).abs().max() > 1e-3


def test_what_is_seen_stays_out_of_what_is_heard_alone_and_the_other_way_round():
    model, features = make(), random_features()
    w, zeros = torch.randn(3, 7), {name: torch.zeros_like(value) for name, value in features.items()}
    inputs = model.prepare_features(**features)
    shared = model.infer_latents(inputs, None, w)["z_av"]
    for heard, name, other in (("audio", "z_a", "visual"), ("visual", "z_v", "audio")):
        latent = model.dynamic_latents[name]
        embedded = model.embed_features(inputs.features)
        silent = model.embed_features({**inputs.features, other: zeros[f"{other}_features"]})
        first, second = (infer_together([latent], [[w, known[heard], shared]])[0] for known in (embedded, silent))
        assert torch.equal(first.sample, second.sample)


@pytest.mark.parametrize("frames", [1, 2, 30, 75])
def test_clips_of_any_length_are_encoded_and_decoded(frames):
    model = make()
    output = model(**random_features(frames=frames))
    assert output.loss.isfinite()
    assert output.encoding.z_av.shape == (3, frames, 5)
    assert output.audio_features.shape == (3, frames, 64)


# ---- padding ----


@pytest.mark.parametrize("sees_mean", [False, True])
def test_a_padded_clip_is_encoded_as_it_is_alone(sees_mean):
    model = make(w_sees_mean=sees_mean)
    features, lengths = random_features(), [6, 4, 1]
    mask = prefix_mask(lengths)
    together = model.encode(**features, audio_attention_mask=mask, visual_attention_mask=mask)
    assert torch.equal(together.frame_mask, mask.bool())
    for clip, length in enumerate(lengths):
        alone = model.encode(**{name: value[[clip], :length] for name, value in features.items()})
        for name in alone:
            found = together[name][[clip]] if name.startswith("w") else together[name][[clip], :length]
            close(found, alone[name])


@pytest.mark.parametrize("padding", [100.0, float("inf")])
@pytest.mark.parametrize("sees_mean", [False, True])
def test_padding_takes_part_in_no_loss_and_gets_no_gradient(padding, sees_mean):
    model = make(w_sees_mean=sees_mean)
    features, mask = random_features(), prefix_mask([6, 4, 1])
    masks = {"audio_attention_mask": mask, "visual_attention_mask": mask}
    noise = random_noise(model)
    expected = model(**features, **masks, noise=noise)
    changed = {name: value.masked_fill(~mask.bool().unsqueeze(2), padding) for name, value in features.items()}
    output = model(**changed, **masks, noise=noise)
    terms = [name for name in output if name == "loss" or name.endswith(("_loss", "_kl"))]
    assert len(terms) == 7
    for name in terms:
        assert torch.equal(output[name], expected[name]), name
    if padding < float("inf"):
        inputs = {name: value.requires_grad_() for name, value in changed.items()}
        model(**inputs, **masks, noise=noise).loss.backward()
        for value in inputs.values():
            assert not value.grad[~mask.bool()].any()
            assert value.grad[mask.bool()].any(dim=1).all()


def test_losses_of_a_padded_batch_are_those_of_its_clips_by_frames():
    model, features, lengths = make(), random_features(), [6, 4, 1]
    mask = prefix_mask(lengths)
    together = model(**features, audio_attention_mask=mask)
    alone = [model(**{n: v[[clip], :length] for n, v in features.items()}) for clip, length in enumerate(lengths)]
    torch.testing.assert_close(together.w_kl, sum(output.w_kl for output in alone) / 3)
    for term in ("audio_loss", "visual_loss", "z_av_kl", "z_a_kl", "z_v_kl"):
        weighted = sum(output[term] * length for output, length in zip(alone, lengths, strict=True)) / 11
        torch.testing.assert_close(together[term], weighted)


def test_a_frame_counts_where_it_is_both_heard_and_seen():
    model, features = make(), random_features()
    heard, seen = prefix_mask([6, 3, 6]), prefix_mask([6, 5, 2])
    encoding = model.encode(**features, audio_attention_mask=heard, visual_attention_mask=seen)
    assert encoding.frame_mask.sum(dim=1).tolist() == [6, 3, 2]


# ---- noise ----


def test_means_are_deterministic_and_samples_are_those_of_the_generator():
    model, features = make(), random_features()
    assert torch.equal(model.encode(**features).z_v, model.encode(**features).z_v)
    first, second, third = (model.encode(**features, sample=True, generator=seeded(seed)) for seed in (1, 1, 2))
    for name in LATENTS:
        assert torch.equal(first[name], second[name])
        assert not torch.equal(first[name], third[name])
        assert not torch.equal(first[name], first[f"{name}_mean"])


def test_explicit_noise_is_mean_plus_deviation():
    model, features = make(), random_features()
    noise = random_noise(model)
    encoding = model.encode(**features, noise=noise)
    for name in LATENTS:
        expected = encoding[f"{name}_mean"] + encoding[f"{name}_logvar"].mul(0.5).exp() * noise[name]
        close(encoding[name], expected)
    drawn = model.encode(**features, sample=True, generator=seeded(0))
    replayed = model.encode(**features, noise=random_noise(model, seed=0))
    assert torch.equal(drawn.z_a, replayed.z_a), "noise is drawn in the order w, z_av, z_a, z_v"
    zero = model.encode(**features, noise={name: torch.zeros_like(value) for name, value in noise.items()})
    close(zero.z_v, model.encode(**features).z_v)


def test_training_samples_and_evaluation_does_not():
    model, features = make(), random_features()
    assert torch.equal(model(**features).loss, model(**features).loss)
    model.train()
    assert not torch.equal(model(**features).loss, model(**features).loss)
    assert torch.equal(model(**features, sample=False).loss, model.eval()(**features).loss)


def test_noise_of_another_shape_is_refused():
    model = make()
    noise = random_noise(model, frames=5)
    with pytest.raises(ValueError, match=r"noise has shapes .*are accepted"):
        model.encode(**random_features(), noise=noise)
    with pytest.raises(ValueError, match="noise has shapes"):
        model.encode(**random_features(), noise={"w": noise["w"]})


# ---- the gradients of the recurrences ----


def test_the_gradients_of_the_recurrences_are_those_of_differences():
    """Also of what the static latent's states get from padding, whose update gates are infinite: nothing."""
    torch.manual_seed(0)
    units = [GatedRecurrence(2, 3).double() for _ in range(2)]
    gates = torch.randn(4, 2, 2, 9, dtype=torch.float64)
    gates[3, 0, 1, 3:6] = torch.inf
    from_state = StackedLinear.of([state_gates(unit) for unit in units])
    inputs = (
        gates.requires_grad_(),
        from_state.weight.detach().requires_grad_(),
        from_state.bias.detach().requires_grad_(),
    )
    finite = torch.where(gates.detach().isfinite(), 1.0, 0.0)

    def states(gates, weight, bias):
        kept = torch.where(finite > 0, gates, torch.inf)
        return final_states(kept, StackedLinear(weight, bias))

    with torch.no_grad():
        gates.masked_fill_(finite == 0, 0)
    assert torch.autograd.gradcheck(states, inputs)


@pytest.mark.parametrize("sampled", [False, True])
def test_the_gradients_of_the_latents_are_those_of_differences(sampled):
    torch.manual_seed(0)
    model = make().double()
    networks = LatentNetworks.of([model.dynamic_latents[name] for name in ("z_a", "z_v")], sampled)
    weights = [weight.detach().requires_grad_() for weight in networks.tensors()]
    projected = torch.randn(3, 2, 2, networks.layers[0].weight.shape[2], dtype=torch.float64, requires_grad=True)
    noise = torch.randn(3, 2, 2, networks.latent_size, dtype=torch.float64) if sampled else None

    def latents(projected, *weights):
        return tuple(run_latents(projected, noise, LatentNetworks.from_tensors(weights)))

    assert torch.autograd.gradcheck(latents, (projected, *weights), fast_mode=True)


# ---- half precision and compilation ----


def test_under_autocast_the_mean_of_the_features_is_not_rounded():
    torch.manual_seed(0)
    decoder = FeatureDecoder(4, [8], 16, "tanh", positive=False)
    torch.nn.init.uniform_(decoder.output.bias, 80, 100)  # where half precision knows steps of 0.5
    latents = torch.randn(2, 3, 4)
    expected = decoder([latents])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = decoder([latents])
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.02


def test_under_autocast_inference_and_divergences_stay_in_float32():
    model, features = make(), random_features()
    noise = random_noise(model)
    expected = model(**features, noise=noise)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**features, noise=noise)
        output.loss.backward()
    assert all(value.dtype == torch.float32 for name, value in output.encoding.items())
    assert {output[name].dtype for name in ("loss", "w_kl", "z_v_kl", "audio_loss")} == {torch.float32}
    for name in ("loss", "w_kl", "z_av_kl", "z_a_kl", "z_v_kl"):
        torch.testing.assert_close(output[name], expected[name], rtol=0.03, atol=0.01)


@pytest.mark.slow
def test_the_training_step_compiles_as_one_graph():
    model = make(num_frames=2).train()
    features, noise = random_features(2, 2), random_noise(model, 2, 2)
    mask = prefix_mask([2, 1], 2)
    expected = model(**features, noise=noise, audio_attention_mask=mask).loss
    expected.backward()
    wanted = gradients(model)
    model.zero_grad()
    compiled: MDVAEModel = torch.compile(model, fullgraph=True, backend="aot_eager")
    loss = compiled(**features, noise=noise, audio_attention_mask=mask).loss
    loss.backward()
    torch.testing.assert_close(loss, expected)
    found = gradients(model)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-4, atol=1e-5)
