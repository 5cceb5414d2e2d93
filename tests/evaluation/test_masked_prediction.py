"""Masked prediction: models whose predictions are known get the scores that can be worked out by hand."""

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from vqmae_hf import VQMAEConfig, VQMAEForPreTraining
from vqmae_hf.evaluation.code_baselines import CodeScores, FrequencyBaseline, tube_positions
from vqmae_hf.evaluation.masked_prediction import (
    ScoreTable,
    WindowBatch,
    fixed_mask,
    gain_of_other_modality,
    paired_gain,
    predict_hidden_tubes,
    score_masked_codes,
)
from vqmae_hf.evaluation.masked_prediction_chart import draw_masked_prediction

SIZES = {"audio": 64, "visual": 128}
SPEAKERS = {0: "a", 1: "a", 2: "b", 3: "b"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = VQMAEConfig.from_preset("tiny", num_hidden_layers=1, decoder_num_hidden_layers=1)
    return VQMAEForPreTraining(config).eval()


def batch_of(inputs, first=0, strangers=None):
    count = len(next(iter(inputs.values())))
    numbers = list(range(first, first + count))
    return WindowBatch(inputs, numbers, numbers, strangers or {})


@pytest.fixture
def inputs():
    return {
        "audio_codes": torch.randint(0, 64, (4, 100, 64)),
        "visual_codes": torch.randint(0, 128, (4, 50, 8, 8)),
    }


class Known:
    """Stands in for a model: `predict(tubes, modality, masks)` gives the logits of its tubes."""

    def __init__(self, real, predict):
        self.config, self.model, self.predict = real.config, real.model, predict

    def __call__(self, audio_mask=None, visual_mask=None, output_logits=True, return_loss=False, **inputs):
        tubes = self.model.prepare_tubes(**inputs)
        masks = {"audio": audio_mask, "visual": visual_mask}
        return {f"{name}_logits": self.predict(tubes, name, masks) for name in tubes}


def perfect(tubes, modality, masks):
    return 1000.0 * one_hot(tubes[modality].codes, SIZES[modality])


def ignorant(tubes, modality, masks):
    return torch.zeros(*tubes[modality].codes.shape, SIZES[modality])


def summary(model, batches, modality, ratio=0.5, **options):
    return score_masked_codes(model, batches, modality, ratio, **options)["model"].summary()


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_perfect_and_ignorant_models(model, inputs, modality):
    best = summary(Known(model, perfect), [batch_of(inputs)], modality)
    assert (best["cross_entropy"], best["top1"], best["top5"]) == (0, 1, 1)
    worst = summary(Known(model, ignorant), [batch_of(inputs)], modality)
    assert worst["cross_entropy"] == pytest.approx(np.log(SIZES[modality]), rel=1e-6)
    assert worst["top1"] == worst["top5"] == 0  # a tie between all codes is no guess
    assert best["codes"] == worst["codes"] == inputs[f"{modality}_codes"].numel() // 2
    assert best["clips"] == 4


@pytest.mark.parametrize("modality", ["audio", "visual"])
def test_cross_entropy_is_the_loss_of_training(model, inputs, modality):
    _, mask, _ = predict_hidden_tubes(model, batch_of(inputs), modality, 0.75, "visible", seed=3)
    other = {"audio": "visual", "visual": "audio"}[modality]
    nothing = torch.zeros(4, model.config.num_audio_tubes if other == "audio" else 80, dtype=torch.bool)
    with torch.no_grad():
        loss = model(**inputs, **{f"{modality}_mask": mask, f"{other}_mask": nothing})[f"{modality}_loss"]
    found = summary(model, [batch_of(inputs)], modality, 0.75, context="visible", seed=3)
    assert found["cross_entropy"] == pytest.approx(loss.item(), rel=1e-5)


def test_masks_depend_on_the_window_and_grow_with_the_ratio(model, inputs):
    tubes = model.model.prepare_tubes(**inputs)["visual"]
    mask = fixed_mask(tubes, 0.5, [0, 1, 2, 3], seed=0)
    assert mask.float().mean() == 0.5
    assert len({tuple(row.tolist()) for row in mask}) == 4
    assert torch.equal(fixed_mask(tubes, 0.5, [2, 1, 2, 0], seed=0), mask[[2, 1, 2, 0]])
    assert not torch.equal(fixed_mask(tubes, 0.5, [0, 1, 2, 3], seed=1), mask)
    more = fixed_mask(tubes, 0.9, [0, 1, 2, 3], seed=0)
    assert (more | ~mask).all()
    assert more.float().mean() == 0.9


def test_batches_do_not_matter(model, inputs):
    whole = score_masked_codes(model, [batch_of(inputs)], "audio", 0.75)["model"]
    pieces = [batch_of({name: codes[i : i + 1] for name, codes in inputs.items()}, first=i) for i in range(4)]
    single = score_masked_codes(model, pieces, "audio", 0.75)["model"]
    np.testing.assert_allclose(single.sums, whole.sums, rtol=1e-4)


def test_visible_codes_and_padding_do_not_count(model, inputs):
    attention = torch.ones(4, 100, dtype=torch.long)
    attention[0, 50:] = 0
    attention[1] = 0
    padded = {**inputs, "audio_attention_mask": attention}
    table = score_masked_codes(Known(model, perfect), [batch_of(padded)], "audio", 0.9)["model"]
    assert table.clips.tolist() == [0, 2, 3]  # the second clip has no sound
    assert table.sums[1, 0] == 144 * 40
    assert table.sums[0, 0] < 144 * 40
    assert table.summary()["cross_entropy"] == 0
    silent = {**inputs, "audio_attention_mask": torch.zeros(4, 100, dtype=torch.long)}
    with pytest.raises(ValueError, match="no clip has audio codes"):
        score_masked_codes(Known(model, perfect), [batch_of(silent)], "audio", 0.9)


def test_baselines_are_asked_the_same_codes(model, inputs):
    uniform = FrequencyBaseline.unigram(np.ones((64, 128)), tube_positions(model.config, "visual"))
    tables = score_masked_codes(model, [batch_of(inputs)], "visual", 0.9, baselines={"uniform": uniform})
    assert np.array_equal(tables["uniform"].sums[:, 0], tables["model"].sums[:, 0])
    assert tables["uniform"].summary()["cross_entropy"] == pytest.approx(np.log(128))


def test_a_model_that_listens_gains_what_the_sound_says(model):
    """Its guess for every face code is the first voice code that it hears."""

    def listening(tubes, modality, masks):
        logits = ignorant(tubes, modality, masks)
        if modality == "visual" and "audio" in tubes and not masks["audio"].all():
            heard = tubes["audio"].codes[:, 0, 0]
            logits += 20.0 * one_hot(heard, 128)[:, None, None]
        return logits

    voice = torch.tensor([3, 5, 7, 9])
    inputs = {
        "audio_codes": voice.view(4, 1, 1).expand(-1, 100, 64),
        "visual_codes": voice.view(4, 1, 1, 1).expand(-1, 50, 8, 8),
    }
    strangers = {name: codes.roll(1, 0) for name, codes in inputs.items()}
    batches = [batch_of(inputs, strangers=strangers)]
    gain = gain_of_other_modality(Known(model, listening), batches, "visual", 0.9, SPEAKERS)
    known, unknown = np.log1p(127 * np.exp(-20)), np.log(128)
    expected = {"visible": known, "hidden": unknown, "absent": unknown, "stranger": known + 20}
    for context, value in expected.items():
        assert gain["contexts"][context]["cross_entropy"] == pytest.approx(value, abs=1e-5)
    for context in ("hidden", "absent", "stranger"):
        found = gain["gain_over"][context]
        assert found["mean"] == pytest.approx(expected[context] - known, abs=1e-5)
        assert found["share"] == 1
        assert (found["clips"], found["speakers"]) == (4, 2)
    deaf = gain_of_other_modality(Known(model, listening), batches, "audio", 0.9, SPEAKERS)
    assert all(found["mean"] == 0 == found["share"] for found in deaf["gain_over"].values())


@pytest.mark.parametrize("fusion", ["self", "cross"])
def test_every_context_gives_an_answer(inputs, fusion):
    torch.manual_seed(0)
    fields = {"encoder_fusion": fusion, "decoder_fusion": fusion, "num_hidden_layers": 1}
    model = VQMAEForPreTraining(VQMAEConfig.from_preset("tiny", decoder_num_hidden_layers=1, **fields)).eval()
    strangers = {name: codes.roll(1, 0) for name, codes in inputs.items()}
    for modality in ("audio", "visual"):
        gain = gain_of_other_modality(model, [batch_of(inputs, strangers=strangers)], modality, 0.9, SPEAKERS)
        values = [scores["cross_entropy"] for scores in gain["contexts"].values()]
        assert np.isfinite(values).all()
        assert len(set(values)) == 4


def test_intervals_hold_the_mean_and_widen_with_doubt():
    generator = np.random.default_rng(0)
    speakers = [f"s{i // 10}" for i in range(100)]
    without = generator.normal(3.0, 0.5, 100)
    gain = paired_gain(without, without - 0.1, speakers)
    assert gain["mean"] == pytest.approx(0.1)
    assert gain["interval"] == pytest.approx([0.1, 0.1])
    noisy = paired_gain(without, without - 0.1 - generator.normal(0, 0.2, 100), speakers)
    low, high = noisy["interval"]
    assert low < noisy["mean"] < high
    assert high - low == pytest.approx(2 * 1.96 * 0.2 / np.sqrt(100), rel=0.3)
    # Speakers who differ as wholes: clips of the same speaker say little that is new.
    clustered = without - np.repeat(generator.normal(0.1, 0.2, 10), 10)
    found = paired_gain(without, clustered, speakers)
    assert np.ptp(found["speaker_interval"]) > 2 * np.ptp(found["interval"])
    assert paired_gain(without[:1], without[:1], ["a"])["interval"] is None


def test_scores_of_the_windows_of_a_clip_are_added():
    ones = torch.ones(2, dtype=torch.float64)
    first = CodeScores(2 * ones, 4 * ones, ones, 2 * ones)
    second = CodeScores(torch.tensor([2.0, 0.0]).double(), 0 * ones, 0 * ones, 0 * ones)
    table = ScoreTable([first, second], [7, 8, 7, 9])
    assert table.clips.tolist() == [7, 8]
    assert table.clip_cross_entropy.tolist() == [1, 2]
    assert table.summary() == {"cross_entropy": 8 / 6, "top1": 2 / 6, "top5": 4 / 6, "codes": 6, "clips": 2}


def test_the_chart_has_a_line_for_each_predictor_and_a_bar_for_each_gain():
    names = ("model", "unigram", "position_unigram", "copy_nearest")
    scores = {name: {"cross_entropy": 1.0 + place} for place, name in enumerate(names)}
    gain = {"gain_over": {c: {"mean": 0.1, "interval": [0.0, 0.3]} for c in ("stranger", "hidden", "absent")}}
    masked = {"audio": {"0.5": scores, "0.9": scores}, "visual": {"0.9": scores}}
    figure = draw_masked_prediction({"masked": masked, "gain": {"visual": gain, "audio": gain}})
    audio, _, gains = figure.axes
    assert [line.get_ydata()[0] for line in audio.lines] == [1, 2, 3, 4]
    assert len({line.get_color() for line in audio.lines}) == len({line.get_marker() for line in audio.lines}) == 4
    assert [bar.get_height() for bar in gains.patches] == [0.1] * 6
    assert len(draw_masked_prediction({"masked": {"audio": masked["audio"]}}).axes) == 1
