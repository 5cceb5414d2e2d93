"""The masked autoencoder and the classifiers against the authors' implementations, to 1e-5."""

import pytest
import torch

from vqmae_hf.conversion import convert_classifier, convert_vqmae
from vqmae_hf.conversion.renaming import map_keys, split_attention
from vqmae_hf.conversion.vqmae_names import CLASSIFIER_KEYS, VQMAE_KEYS
from vqmae_hf.modeling.losses import asymmetric_single_label_loss, info_nce
from vqmae_hf.modeling.token_tubes import (
    audio_codes_to_tubes,
    audio_tubes_to_codes,
    visual_codes_to_tubes,
    visual_tubes_to_codes,
)

from .conftest import assert_matches

pytestmark = pytest.mark.shared

AUTOENCODERS = [
    "cmdmae_tiny_enc-self_dec-self_con",
    "cmdmae_tiny_enc-self_dec-self_sinpos",
    "cmdmae_tiny_enc-cross_dec-cross_con",
]


# Clips whose 24 visual and 16 audio tubes have the recorded extents of 8 and 4 codes, which no tensor shows.
EXTENTS = {
    "audio_num_spectra": 8,
    "audio_codes_per_spectrum": 8,
    "audio_tube_size": (2, 2),
    "visual_num_frames": 12,
    "visual_codes_per_side": 4,
    "visual_tube_size": (2, 2, 2),
}


def assert_sizes(config, recorded: dict, **choices) -> None:
    """What was inferred from the tensors is what the authors' model was made with."""
    expected = {
        "audio_codebook_size": recorded["num_embeddings_a"],
        "audio_code_dim": recorded["emb_dim_a"],
        "visual_codebook_size": recorded["num_embeddings_v"],
        "visual_code_dim": recorded["emb_dim_v"],
        "num_hidden_layers": recorded["encoder_num_layer"],
        "num_attention_heads": recorded["encoder_num_head"],
        "encoder_fusion": "cross" if recorded["encoder_cross_attention"] else "self",
        "mlp_ratio": recorded["mlp_ratio"],
        **choices,
    }
    assert {name: getattr(config, name) for name in expected} == expected


def autoencoder(recording: dict):
    recorded = recording["config"]
    model = convert_vqmae(recording["state_dict"], **EXTENTS)
    assert_sizes(
        model.config,
        recorded,
        decoder_num_hidden_layers=recorded["decoder_num_layer"],
        decoder_num_attention_heads=recorded["decoder_num_head"],
        decoder_fusion="cross" if recorded["decoder_cross_attention"] else "self",
        contrastive=recorded["contrastive"],
        position_embedding="learned" if recorded["pos_embedding_trained"] else "sinusoidal",
    )
    return model


def inputs_of(model, recording: dict) -> dict[str, torch.Tensor]:
    config = model.config
    return {
        "audio_codes": audio_tubes_to_codes(recording["x_a"], config.audio_grid, config.audio_tube_size),
        "visual_codes": visual_tubes_to_codes(recording["x_v"], config.visual_grid, config.visual_tube_size),
    }


def masks_of(run: dict) -> dict[str, torch.Tensor]:
    return {"visual_mask": run["mask_v"][..., 0].bool(), "audio_mask": run["mask_a"][..., 0].bool()}


@pytest.mark.parametrize("name", AUTOENCODERS)
@pytest.mark.parametrize("index", range(4))
def test_forward(parity, name, index):
    """Local and global representations, logits and every loss term. The last run shows no sound at all."""
    recording = parity(name)
    run, model = recording["runs"][index], autoencoder(recording)
    output = model(**inputs_of(model, recording), **masks_of(run), output_logits=True)
    encoded = model.model(**inputs_of(model, recording), **masks_of(run))
    for modality, letter in (("visual", "v"), ("audio", "a")):
        keep = run[f"keep_{letter}"]
        # Theirs lists visible tubes in the order of the permutation, ours in that of the clip.
        places = run[f"forward_indexes_{letter}"][:keep].argsort(dim=0)  # (keep, B)
        theirs = run[f"z_{letter}"].gather(0, places.unsqueeze(2).expand_as(run[f"z_{letter}"])).transpose(0, 1)
        if keep:
            assert_matches(encoded[f"{modality}_last_hidden_state"], theirs, f"{modality} local")
        assert_matches(output[f"{modality}_logits"], run[f"logits_{letter}"], f"{modality} logits")
        loss = run[f"loss_{letter}"].nan_to_num(0.0)
        assert_matches(output[f"{modality}_loss"], loss, f"{modality} loss")
        if recording["config"]["contrastive"]:
            assert_matches(output[f"{modality}_global"], run[f"cls_{letter}"][0], f"{modality} global")
    if recording["config"]["contrastive"]:
        assert_matches(output.contrastive_loss, run["loss_contrastive"], "contrastive loss")
    assert_matches(output.loss, run["loss_total"].nan_to_num(0.0), "total loss")


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_gradients(parity, name):
    recording = parity(name)
    run, model = recording["runs"][0], autoencoder(recording)
    model(**inputs_of(model, recording), **masks_of(run)).loss.backward()
    expected = split_attention(map_keys(run["grads"], VQMAE_KEYS))
    audio_branch = "decoder.transformer.modality_fusion.audio."
    for key, theirs in expected.items():
        gradient = model.get_parameter(key).grad
        if key.startswith(audio_branch.replace("audio", "visual")):
            # One set of weights there, two here: theirs has the gradient of both branches.
            gradient = gradient + model.get_parameter(key.replace("fusion.visual", "fusion.audio")).grad
        elif key.startswith(audio_branch):
            continue
        if key.endswith(".key.bias"):  # shifts all scores of a softmax alike: rounding is all there is
            assert gradient.abs().max() < 1e-6
            continue
        assert_matches(gradient, theirs.reshape(gradient.shape), f"gradient of {key}", 1e-4)


def test_four_optimizer_steps(parity):
    """The trajectory of AdamW on one batch, every weight after four steps."""
    recording = parity("cmdmae_tiny_enc-self_dec-self_con")
    model, recorded = autoencoder(recording), recording["adamw"]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recorded["lr"], betas=tuple(recorded["betas"]), weight_decay=recorded["weight_decay"]
    )
    for step in range(recorded["steps"]):
        loss = model(**inputs_of(model, recording), **masks_of(recording["runs"][0])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert_matches(loss, recorded["losses"][step], f"loss of step {step}")
    for key, theirs in split_attention(map_keys(recording["state_after_4"], VQMAE_KEYS)).items():
        if not key.endswith(".key.bias"):  # no gradient but rounding, of which AdamW makes full steps
            ours = model.get_parameter(key)
            assert_matches(ours, theirs.reshape(ours.shape), key, 1e-4)


CLASSIFIERS = {
    "classifier_tiny_enc-self_mean": "mean",
    "classifier_tiny_enc-self_attention": "attention",
    "classifier_tiny_enc-cross_con_attention": "attention",
    "query2label_tiny_enc-self": "query2emo",
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier(parity, name):
    recording, pooling = parity(name), CLASSIFIERS[name]
    model = convert_classifier(recording["state_dict"], **EXTENTS)
    classes = recording["config"]["num_classes"]
    assert_sizes(model.config, recording["config"], classifier_pooling=pooling, num_labels=classes)
    model.set_attn_implementation("eager")
    output = model(**inputs_of(model, recording), labels=recording["y"], output_global_attentions=True)
    assert_matches(output.logits, recording["logits"], "logits")
    assert_matches(output.loss, recording["asl_loss"], "asymmetric loss")
    if pooling == "attention":
        visual, audio = output.global_attentions
        assert_matches(visual.mean(dim=1), recording["att_v"], "attention over the face")
        assert_matches(audio.mean(dim=1), recording["att_a"], "attention over the voice")
    output.loss.backward()
    kept = {
        k: v for k, v in recording["grads"].items() if pooling != "query2emo" or not k.startswith(("head.", "pool"))
    }
    for key, theirs in split_attention(map_keys(kept, CLASSIFIER_KEYS)).items():
        gradient = model.get_parameter(key).grad
        if key.endswith(".key.bias"):
            assert gradient.abs().max() < 1e-6
            continue
        assert_matches(gradient, theirs.reshape(gradient.shape), f"gradient of {key}", 1e-4)


def test_speech_only(parity):
    """VQ-MAE-S. Theirs leaves one masked tube per clip out of the loss, so the loss is compared on the logits."""
    recording = parity("vqmae_s_tiny_random")
    recorded = recording["config"]
    extents = {"audio_num_spectra": 40, "audio_codes_per_spectrum": 32, "audio_tube_size": (2, 2)}
    model = convert_vqmae(recording["state_dict"], **extents)
    config = model.config
    assert (config.modalities, config.global_representation, config.mlp_ratio) == (("audio",), "cls_token", 4)
    assert (config.num_hidden_layers, config.decoder_num_hidden_layers) == (
        recorded["encoder_layer"],
        recorded["decoder_layer"],
    )
    codes = audio_tubes_to_codes(recording["x"], config.audio_grid, config.audio_tube_size)
    keep = recording["keep"]
    visible = recording["forward_indexes"][:keep]  # (keep, B)
    mask = torch.ones(recording["x"].shape[:2], dtype=torch.bool).scatter(1, visible.T, False)
    output = model(audio_codes=codes, audio_mask=mask, output_logits=True)
    encoded = model.model(audio_codes=codes, audio_mask=mask)
    assert_matches(output.audio_logits, recording["logits"], "logits")
    assert_matches(encoded.audio_global, recording["features"][0], "class token")
    places = visible.argsort(dim=0).unsqueeze(2).expand(-1, -1, recording["features"].shape[2])
    assert_matches(
        encoded.audio_last_hidden_state, recording["features"][1:].gather(0, places).transpose(0, 1), "local"
    )
    counted = recording["mask"].bool()
    assert counted[..., 0].sum(dim=1).tolist() == [recording["n_counted_masked_tokens"]] * len(counted)
    loss = torch.nn.functional.cross_entropy(output.audio_logits[counted], recording["x"][counted])
    assert_matches(loss, recording["loss"], "loss over the tubes that theirs counts")


def test_tubes(parity):
    recording = parity("tubes")
    visual = recording["visual_in"].view(1, 50, 24, 24)
    tubes = visual_codes_to_tubes(visual, (5, 4, 4))
    assert torch.equal(tubes, recording["visual_tubes"])
    assert torch.equal(visual_tubes_to_codes(tubes, (10, 6, 6), (5, 4, 4)), visual)
    for spectra, codes in ((5, recording["audio_in_50"]), (10, recording["audio_in_100"])):
        tubes = audio_codes_to_tubes(codes, (spectra, 4))
        assert torch.equal(tubes, recording[f"audio_tubes_t{spectra}"])
        assert torch.equal(audio_tubes_to_codes(tubes, (10, 16), (spectra, 4)), codes)


@pytest.mark.parametrize("index", range(5))
def test_info_nce(parity, index):
    case = parity("contrastive_loss")["cases"][index]
    a, b = case["a"].requires_grad_(), case["b"].requires_grad_()
    loss = info_nce(a, b, case["temperature"])
    loss.backward()
    assert_matches(loss, case["loss"], "loss")
    for ours, name in ((a.grad, "grad_a"), (b.grad, "grad_b")):
        if name not in case:
            continue
        theirs = case[name]
        if len(a) == 1:  # nothing to tell apart: no loss, no gradient but rounding
            assert ours.abs().max() < 1e-6
        else:
            assert_matches(ours, theirs, "gradient")


@pytest.mark.parametrize("index", range(4))
def test_asymmetric_loss(parity, index):
    case = parity("asl_single_label")["cases"][index]
    logits = case["logits"].requires_grad_()
    loss = asymmetric_single_label_loss(logits, case["target"], case["gamma_pos"], case["gamma_neg"], case["eps"])
    loss.backward()
    assert_matches(loss, case["loss"], "loss")
    assert_matches(logits.grad, case["grad"], "gradient")
