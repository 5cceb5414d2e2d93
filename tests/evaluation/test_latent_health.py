import pytest
import torch

from vqmae_hf import MDVAEConfig, MDVAEModel
from vqmae_hf.evaluation.latent_health import latent_health


@pytest.fixture
def model():
    torch.manual_seed(0)
    return MDVAEModel(MDVAEConfig.from_preset("tiny", audio_feature_scale=2.0)).eval()


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(1)
    return {f"{name}_features": torch.randn(5, 6, 256, generator=generator) for name in ("audio", "visual")}


def test_the_mean_explains_nothing_and_the_features_everything(model, features, monkeypatch):
    exact = {name: features[f"{name}_features"] for name in ("audio", "visual")}
    monkeypatch.setattr(model, "decode_features", lambda encoding: exact)
    assert latent_health(model, [features])["explained_variance"] == pytest.approx({"audio": 1, "visual": 1})
    mean = {name: values.mean(dim=(0, 1), keepdim=True).expand_as(values) for name, values in exact.items()}
    monkeypatch.setattr(model, "decode_features", lambda encoding: mean)
    assert latent_health(model, [features])["explained_variance"] == pytest.approx({"audio": 0, "visual": 0}, abs=1e-6)


def test_numbers_whose_posterior_is_the_prior_are_not_in_use(model, features):
    assert latent_health(model, [features])["active_numbers"]["w"] > 0
    posterior = model.static_latent.posterior
    with torch.no_grad():
        for layer in (posterior.mean, posterior.logvar):
            layer.weight[3:], layer.bias[3:] = 0, 0
            layer.bias[:3] = 1
    health = latent_health(model, [features])
    assert health["active_numbers"]["w"] == 3
    with torch.no_grad():
        encoding = model.encode(**features)
    assert health["divergence"]["w"] == pytest.approx(float(model.latent_divergences(encoding)["w"].sum()), rel=1e-5)


def test_batches_and_padding_make_no_difference(model, features):
    together = latent_health(model, [features])
    parts = [{name: values[rows] for name, values in features.items()} for rows in (slice(0, 2), slice(2, 5))]
    padded = {name: torch.nn.functional.pad(values, (0, 0, 0, 4), value=9.0) for name, values in parts[1].items()}
    mask = torch.tensor([[1] * 6 + [0] * 4] * 3)
    padded |= {"audio_attention_mask": mask, "visual_attention_mask": mask}
    apart = latent_health(model, [parts[0], padded])
    for name, values in together.items():
        assert apart[name] == pytest.approx(values, rel=1e-4), name


def test_no_batch_is_refused(model):
    with pytest.raises(ValueError, match="batches holds none"):
        latent_health(model, [])
