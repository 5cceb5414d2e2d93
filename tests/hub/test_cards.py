"""The texts of the cards: all there, found where the package is installed, and complete for every kind."""

from importlib.resources import files

import pytest
import small_mdvae
import small_models
from hub_repositories import card_errors
from snippets import python_blocks

from vqmae_hf.hub.checkpoint_source import open_source
from vqmae_hf.hub.kinds import KINDS
from vqmae_hf.hub.model_card import CardFacts, describe_corpora, render_model_card
from vqmae_hf.modeling.configuration_mdvae import MDVAEConfig
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification, VQMAEForPreTraining, VQMAEModel

VARIANTS = {
    "speech": lambda: small_models.build(VQMAEForAudioVisualClassification, small_models.speech_config()),
    "codes alone": lambda: small_models.build(VQMAEForPreTraining, small_models.vqmae_config()),
    "encoder": lambda: small_models.build(VQMAEModel, small_models.vqmae_config(with_tokenizers=True)),
    "features alone": small_mdvae.make,
    **{
        f"{kind.model_class.__name__} without tokenizers": lambda kind=kind: kind.model_class(
            small_mdvae.mdvae_config() if kind.model_class.config_class is MDVAEConfig else small_models.vqmae_config()
        )
        for kind in KINDS
        if kind.is_classifier
    },
}


def render(model, metadata=None, corpora=None, arguments=None):
    facts = CardFacts(open_source(model), "tester/model", arguments or {}, {}, corpora, metadata or {})
    return render_model_card(facts, describe_corpora(facts), [])


def test_every_kind_has_its_text_in_the_package_and_in_the_folder_that_people_look_into(request):
    names = {f"{kind.name}.md.jinja" for kind in KINDS} | {"synthetic_dataset.md.jinja", "model_card.md.jinja"}
    assert names <= {path.name for path in (files("vqmae_hf.hub") / "cards").iterdir()}
    assert names <= {path.name for path in (request.config.rootpath / "hub_cards").iterdir()}


@pytest.mark.parametrize("variant", VARIANTS)
def test_cards_of_models_without_tokenizers_or_of_one_modality_show_examples_that_run(variant, monkeypatch):
    model = VARIANTS[variant]()
    card = render(model)
    assert card_errors(card) == []
    assert "Undefined" not in card
    blocks = [block for block in python_blocks(card) if "torch." in block]
    if variant != "encoder":
        monkeypatch.setattr(
            f"transformers.{open_source(model).kind.auto_class}.from_pretrained", lambda *_, **__: model
        )
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", lambda *_, **__: model.base_model)
    assert blocks or variant == "speech"
    for block in blocks:
        exec(compile(block, f"<{variant}>", "exec"), {})


def test_what_is_known_of_the_training_is_told_and_nothing_else():
    model = small_models.audio_tokenizer()
    card = render(model, arguments={"corpus": "ravdess", "max_seconds": None, "note": "a|b"})
    assert "RAVDESS, the Ryerson" in card
    assert "CC BY-NC-SA 4.0" in card
    assert r"| `note` | a\|b |" in card
    assert "max_seconds" not in card
    told = render(model, arguments={"corpus": "videofolder"})
    assert "What this model was trained on was not stated" in told
    assert "our own recordings (no more is stated" in render(model, corpora=["our own recordings"])


def test_what_the_publisher_says_comes_first_and_has_to_be_valid():
    model = small_models.audio_tokenizer()
    card = render(model, metadata={"license": "cc-by-nc-sa-4.0", "language": ["en"], "tags": ["mine"]})
    assert "license: cc-by-nc-sa-4.0" in card
    assert "The weights: cc-by-nc-sa-4.0." in card
    assert card_errors(card) == []
    assert card_errors(render(model, metadata={"license": "free"})) == ["license 'free' is not in the list"]
