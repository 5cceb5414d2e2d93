"""What the demo computes and shows, without a browser and without Gradio."""

import base64
import io
import re
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from small_demo_models import EMOTIONS, build_classifier, save

from vqmae_hf.data.media import probe_media
from vqmae_hf.demo.__main__ import main
from vqmae_hf.demo.clips import DemoLimits, VisitorStore, examine, open_clip
from vqmae_hf.demo.emotion import emotion_panel, read_emotion
from vqmae_hf.demo.factors import encode_loaded, factors_panel, mix_clips
from vqmae_hf.demo.masking import masking_panel
from vqmae_hf.demo.media import heat
from vqmae_hf.demo.models import DemoModels, load_demo_models
from vqmae_hf.demo.pieces import bars, curves, error_card, time_axis
from vqmae_hf.demo.server import find_examples, make_examples
from vqmae_hf.demo.tokens import code_colours, tokens_panel, view_tokens
from vqmae_hf.inference.masked_reconstruction import reconstruct_masked_clip
from vqmae_hf.inference.talking_faces import decode_clip

LIMITS = DemoLimits(max_seconds=5, max_megabytes=2)


@pytest.fixture(scope="module")
def happy(models, clips):
    return open_clip(str(clips["happy"]), models.classify.processor.clip_options(), LIMITS)


def videos(html):
    """The mp4 files inside a page."""
    return [base64.b64decode(data) for data in re.findall(r"data:video/mp4;base64,([^\"]+)", html)]


# ---- clips and their limits ----


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("long", "lasts 8 seconds; accepted are up to 5 seconds"),
        ("large", "has 3 MB; accepted are up to 2 MB"),
        ("text", "cannot be read as a video or as sound"),
    ],
)
def test_what_the_demo_does_not_take_is_refused_in_words_for_a_visitor(clips, name, message):
    with pytest.raises(ValueError, match=message):
        examine(str(clips[name]), LIMITS)


def test_no_clip_and_an_expired_one_are_refused(tmp_path):
    with pytest.raises(ValueError, match="choose a clip first"):
        examine(None, LIMITS)
    with pytest.raises(ValueError, match="deleted after 30 minutes"):
        examine(str(tmp_path / "gone.mp4"), LIMITS)


def test_a_recording_that_does_not_say_its_length_is_not_decoded_beyond_the_limit(clips, models, monkeypatch):
    info = replace(probe_media(clips["long"]), duration_seconds=None)
    monkeypatch.setattr("vqmae_hf.demo.clips.probe_media", lambda path: info)
    with pytest.raises(ValueError, match="lasts 6 seconds"):
        open_clip(str(clips["long"]), models.classify.processor.clip_options(), LIMITS)


def test_without_a_face_the_remedy_is_named_and_works(clips, models):
    rates = models.classify.processor.clip_options()
    with pytest.raises(ValueError, match="Use the middle of the picture"):
        open_clip(str(clips["faceless"]), rates, LIMITS)
    assert open_clip(str(clips["faceless"]), rates, LIMITS, use_centre=True).frames is not None


def test_limits_are_positive_numbers():
    with pytest.raises(ValueError, match="max_seconds=0"):
        DemoLimits(max_seconds=0)


# ---- visitors ----


def test_a_result_is_computed_once_for_each_visitor():
    store, calls = VisitorStore(), []
    for visitor in ("anna", "bert", "anna"):
        assert store.remember(visitor, "key", lambda visitor=visitor: calls.append(visitor) or visitor) == visitor
    assert calls == ["anna", "bert"]


def test_results_of_many_visitors_are_dropped_oldest_first(monkeypatch):
    monkeypatch.setattr("vqmae_hf.demo.clips.MOST_VISITORS", 2)
    store, calls = VisitorStore(), []
    for visitor in ("anna", "bert", "anna", "carl", "anna", "bert"):
        store.remember(visitor, "key", lambda visitor=visitor: calls.append(visitor))
    assert calls == ["anna", "bert", "carl", "bert"]


def test_files_of_a_visitor_who_leaves_are_deleted_unless_another_uses_them(tmp_path):
    store = VisitorStore()
    shared, own = tmp_path / "shared.mp4", tmp_path / "own.mp4"
    for path, visitors in ((shared, ("anna", "bert")), (own, ("anna",))):
        path.write_bytes(b"clip")
        for visitor in visitors:
            store.uses(visitor, str(path))
    store.forget("anna")
    assert (shared.exists(), own.exists()) == (True, False)
    store.forget("bert")
    assert not shared.exists()


# ---- what the tabs show ----


def test_the_emotion_is_the_answer_of_the_pipeline(models, clips, happy):
    reading = read_emotion(models.classify, happy)
    answer = {item["label"]: item["score"] for item in models.classify(str(clips["happy"]), top_k=None)}
    assert dict(zip(reading.labels, reading.scores, strict=True)) == pytest.approx(answer)
    assert reading.curve.scores[-1].tolist() == pytest.approx(reading.scores, abs=0.03), "a clip within a window"
    html = emotion_panel(reading)
    assert f'data-label="{max(answer, key=answer.get)}"' in html
    assert html.count("<polyline") == len(EMOTIONS)
    assert {"Show attention", "Spectrogram of the voice"} <= set(
        re.findall("Show attention|Spectrogram of the voice", html)
    )


def test_without_sound_the_face_alone_is_read_and_the_page_says_so(models, clips):
    clip = open_clip(str(clips["silent"]), models.classify.processor.clip_options(), LIMITS)
    html = emotion_panel(read_emotion(models.classify, clip))
    assert "what the face alone says" in html
    assert "Spectrogram" not in html


def test_a_voice_alone_is_read(models, clips):
    clip = open_clip(str(clips["voice"]), models.classify.processor.clip_options(), LIMITS)
    html = emotion_panel(read_emotion(models.classify, clip))
    assert "what the voice alone says" in html
    assert "vq-heat" not in html


def test_three_versions_of_a_masked_clip_are_shown(models, happy, tmp_path):
    masked = models.masked
    result = reconstruct_masked_clip(happy, model=masked.model, processor=masked.processor, mask_ratio=(0.5, 0.25))
    html = masking_panel(result)
    shown = {part: int(share) for share, part in re.findall(r"<b>(\d+) %</b><span>(\w+) hidden<", html)}
    assert shown == {
        "face": round(100 * result.hidden_share("visual")),
        "voice": round(100 * result.hidden_share("audio")),
    }
    assert shown["voice"] < shown["face"]
    sounds = []
    for number, data in enumerate(videos(html)):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(data)
        sounds.append(probe_media(path).has_audio)
    assert sounds == [True, False, True]


def test_factors_of_two_clips_are_mixed(models, clips):
    talker = models.talker
    rates = talker.processor.clip_options()
    first, second = (encode_loaded(talker, open_clip(str(clips[name]), rates, LIMITS)) for name in ("happy", "sad"))
    none, whole = dict.fromkeys(("w", "z_av", "z_a", "z_v"), 0.0), dict.fromkeys(("w", "z_av", "z_a", "z_v"), 1.0)
    decoded = [decode_clip(talker, each.latents) for each in (first, second)]
    assert np.array_equal(mix_clips(talker, first, second, none).frames, decoded[0].frames)
    assert np.array_equal(mix_clips(talker, first, second, whole).frames, decoded[1].frames)
    assert not np.array_equal(decoded[0].frames, decoded[1].frames)
    html = factors_panel(mix_clips(talker, first, second, {**none, "w": 0.5}), *decoded, {**none, "w": 0.5})
    assert "of B: w 50 %" in html
    assert len(videos(html)) == 3


def test_factors_need_face_and_voice(models, clips):
    clip = open_clip(str(clips["silent"]), models.talker.processor.clip_options(), LIMITS)
    with pytest.raises(ValueError, match="has no sound"):
        encode_loaded(models.talker, clip)


def test_the_codes_shown_are_those_of_the_moment(models, happy):
    model, processor = models.tokenizing
    view = view_tokens(model, processor, happy)
    frame = 17
    html = tokens_panel(view, frame)
    face, voice = html.split('class="vq-voice-codes"')
    shown = [int(code) for code in re.findall(r'data-says="code (\d+):', face)]
    assert shown == view.coded.codes["visual"][frame].flatten().tolist()
    shown = [int(code) for code in re.findall(r'data-says="code (\d+):', voice)]
    assert shown == view.coded.codes["audio"][2 * frame].tolist()
    address = re.search(r"data:image/jpeg;base64,([^\"]+)", face).group(1)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(address))).resize((64, 64))).astype(float)
    assert np.abs(picture - view.frames[frame]).mean() < 6
    assert tokens_panel(view, 10**6) == tokens_panel(view, view.last_frame)


def test_codes_that_are_alike_have_like_colours():
    codebook = torch.arange(32.0).unsqueeze(1) * torch.tensor([[1.0, 2.0, -1.0]])
    colours = code_colours(codebook[torch.randperm(32, generator=torch.Generator().manual_seed(0))]).astype(int)
    assert len({tuple(colour) for colour in colours}) == 32
    ordered = code_colours(codebook).astype(int)
    steps = np.abs(np.diff(ordered, axis=0)).sum(1)
    assert steps.max() < 0.2 * np.abs(ordered[0] - ordered[-1]).sum()


# ---- pieces ----


def test_what_comes_from_elsewhere_is_escaped():
    for html in (error_card("<script>"), bars(["<script>"], [1.0])):
        assert "<script>" not in html


def test_curves_of_one_moment_are_still_lines():
    (points,) = re.findall(r'polyline points="([^"]+)"', curves([1.0], [[0.25]], 1.0, 0))
    assert points == "0.0,75.00 1000.0,75.00"


@pytest.mark.parametrize("duration", [0.04, 0.9, 2.0, 14.99, 61.0])
def test_a_time_axis_has_few_marks_within_the_clip(duration):
    places = [float(place) for place in re.findall(r"left:([\d.]+)%", time_axis(duration))]
    assert 1 <= len(places) <= 9
    assert all(0 <= place <= 100 for place in places)


def test_heat_grows_with_attention_and_small_differences_stay_faint():
    strong = heat(np.array([[0.2, 1.0, 3.0]], np.float32))[0, :, 3]
    assert strong[0] == 0 < strong[1] < strong[2]
    faint = heat(np.array([[1.0, 1.05]], np.float32))[0, :, 3]
    assert faint[1] < 30


# ---- models and examples ----


def test_a_demo_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one of: checkpoint"):
        load_demo_models()


def test_checkpoints_of_another_kind_are_refused(checkpoints):
    with pytest.raises(ValueError, match=r"checkpoint: found .*VQMAEForPreTraining; accepted is VQMAEForAudioVisual"):
        load_demo_models(checkpoint=checkpoints["pretraining"])
    with pytest.raises(ValueError, match=r"pretraining: found .*MDVAEModel"):
        load_demo_models(pretraining=checkpoints["mdvae"])
    with pytest.raises(ValueError, match="'vqmae'; accepted is 'mdvae'"):
        load_demo_models(mdvae=checkpoints["checkpoint"])


def test_a_checkpoint_without_tokenizers_is_refused(tmp_path):
    model = build_classifier()
    model.config.audio_tokenizer_config = None
    model.model.audio_tokenizer = None
    with pytest.raises(ValueError, match="no tokenizer for audio"):
        load_demo_models(checkpoint=save(model, tmp_path / "bare"))


def test_tokens_come_from_any_model_with_tokenizers(models):
    assert DemoModels(masked=models.masked).tokenizing[0] is models.masked.model
    assert DemoModels(classify=models.classify).tokenizing[0] is models.classify.model
    assert DemoModels(talker=models.talker).tokenizing is None


def test_examples_are_found_or_made(clips, tmp_path):
    shutil.copy(clips["sad"], tmp_path / "b.mp4")
    shutil.copy(clips["happy"], tmp_path / "a.MP4")
    (tmp_path / "notes.txt").write_text("no clip")
    assert [path.name for path in find_examples(tmp_path)] == ["a.MP4", "b.mp4"]
    with pytest.raises(ValueError, match="examples: found no clips"):
        find_examples(tmp_path / "nowhere")
    made = make_examples(tmp_path / "made")
    assert all(probe_media(path).has_audio for path in made)


def test_the_program_says_in_one_line_what_is_wrong():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit, match=r"^Error: found no checkpoint; give the demo at least one of"):
        main([])
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_gradio_the_remedy_is_named(monkeypatch):
    import vqmae_hf.demo

    monkeypatch.setattr(vqmae_hf.demo, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install vqmae-hf\[demo\]"):
        vqmae_hf.demo.launch()
