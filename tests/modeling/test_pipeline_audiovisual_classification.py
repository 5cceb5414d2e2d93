"""The pipeline: files and arrays in, labels with scores out."""

import io
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from transformers import pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from vqmae_hf.data.clips import load_clip
from vqmae_hf.data.media import write_clip
from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.configuration_visual_vqvae import VisualVQVAEConfig
from vqmae_hf.modeling.configuration_vqmae import VQMAEConfig
from vqmae_hf.modeling.modeling_vqmae import VQMAEForAudioVisualClassification
from vqmae_hf.modeling.pipeline_audiovisual_classification import (
    TASK,
    AudioVisualClassificationPipeline,
    register_pipeline,
)
from vqmae_hf.modeling.processing_vqmae import VQMAEProcessor

LABELS = ("angry", "calm", "fear", "happy", "neutral", "sad")
SIDE = 16


def make_model(modalities=("audio", "visual"), seed=0, **overrides):
    torch.manual_seed(seed)
    audio = AudioVQVAEConfig.from_preset("tiny", hidden_size=8)
    visual = VisualVQVAEConfig.from_preset("tiny", image_size=SIDE, num_downsampling_layers=1, hidden_size=8)
    config = VQMAEConfig.from_preset(
        "tiny",
        modalities=modalities,
        num_hidden_layers=1,
        audio_tokenizer_config=audio.to_dict(),
        visual_tokenizer_config=visual.to_dict(),
        id2label=dict(enumerate(LABELS)),
        label2id={label: i for i, label in enumerate(LABELS)},
        **overrides,
    )
    model = VQMAEForAudioVisualClassification(config).eval()
    with torch.no_grad():  # so that different clips get clearly different scores
        model.classifier.weight.mul_(3)
    return model


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def processor(model):
    return VQMAEProcessor.from_model_config(model.config)


@pytest.fixture(scope="module")
def classify(model, processor):
    return pipeline(TASK, model=model, processor=processor, device="cpu")


def make_clip(frames, seed=0, sound=True, picture=True):
    generator = np.random.default_rng(seed)
    clip = {"frames_per_second": 25, "sampling_rate": 16000}
    if picture:
        clip["frames"] = generator.integers(0, 256, (frames, SIDE, SIDE, 3), dtype=np.uint8)
    if sound:
        clip["waveform"] = generator.standard_normal(frames * 640).astype(np.float32)
    return clip


@pytest.fixture(scope="module")
def clips():
    return [
        make_clip(130, 0),
        make_clip(20, 1, sound=False),
        make_clip(60, 2),
        make_clip(120, 3, picture=False),
        make_clip(50, 4),
        make_clip(7, 5),
    ]


def scores(result):
    return {entry["label"]: entry["score"] for entry in result}


def assert_same(results, expected):
    assert len(results) == len(expected)
    for result, reference in zip(results, expected, strict=True):
        assert scores(result) == pytest.approx(scores(reference), abs=1e-5)


def logits_by_hand(model, processor, clip):
    """Window by window, without the pipeline."""
    features = processor(audio=clip.get("waveform"), videos=clip.get("frames"))
    windows = processor.cut_windows(features)
    windows.pop("window_clip_index")
    count = len(windows["audio_values" if "waveform" in clip else "pixel_values_videos"])
    with torch.no_grad():
        return torch.cat([model(**{k: v[i : i + 1] for k, v in windows.items()}).logits for i in range(count)])


# ---- scores ----


@pytest.mark.parametrize("which", range(6))
def test_scores_are_the_mean_over_the_windows(classify, model, processor, clips, which):
    windows = logits_by_hand(model, processor, clips[which])
    assert len(windows) == [3, 1, 2, 3, 1, 1][which]
    expected = dict(zip(LABELS, windows.softmax(-1).mean(0).tolist(), strict=True))
    result = classify(clips[which], top_k=None)
    assert scores(result) == pytest.approx(expected, abs=1e-5)
    assert sum(scores(result).values()) == pytest.approx(1, abs=1e-5)


def test_labels_come_best_first(classify, clips):
    everything = classify(clips[0], top_k=None)
    assert [entry["score"] for entry in everything] == sorted((e["score"] for e in everything), reverse=True)
    assert sorted(entry["label"] for entry in everything) == sorted(LABELS)
    assert classify(clips[0], top_k=2) == everything[:2]
    assert classify(clips[0]) == everything[:5]
    assert classify(clips[0], top_k=99) == everything


def test_clips_are_told_apart_and_every_modality_counts(classify, clips):
    both = scores(classify(clips[0]))
    assert both != pytest.approx(scores(classify(clips[2])), abs=1e-3)
    for missing in ("frames", "waveform"):
        one = {name: value for name, value in clips[0].items() if name != missing}
        assert scores(classify(one)) != pytest.approx(both, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "function"), [("none", lambda x: x), ("sigmoid", torch.sigmoid), ("softmax", lambda x: x.softmax(-1))]
)
def test_function_to_apply(classify, model, processor, clips, name, function):
    expected = function(logits_by_hand(model, processor, clips[0])).mean(0)
    result = scores(classify(clips[0], function_to_apply=name, top_k=None))
    assert result == pytest.approx(dict(zip(LABELS, expected.tolist(), strict=True)), abs=1e-4)


@pytest.mark.parametrize(("problem_type", "name"), [("multi_label_classification", "sigmoid"), ("regression", "none")])
def test_the_function_follows_the_problem(processor, clips, problem_type, name):
    classify = pipeline(TASK, model=make_model(problem_type=problem_type), processor=processor, device="cpu")
    assert classify(clips[1]) == classify(clips[1], function_to_apply=name)


# ---- many clips ----


@pytest.mark.parametrize("batch_size", [2, 4])
def test_lists_batches_generators_and_data_sets_give_what_single_clips_give(classify, clips, batch_size):
    class Clips(Dataset):
        def __len__(self):
            return len(clips)

        def __getitem__(self, index):
            return clips[index]

    expected = [classify(clip) for clip in clips]
    assert_same(classify(clips, batch_size=batch_size), expected)
    assert_same(list(classify((clip for clip in clips), batch_size=batch_size)), expected)
    assert_same(list(classify(Clips(), batch_size=batch_size)), expected)


def test_reading_in_other_processes_gives_the_same(classify, clips):
    assert_same(classify(clips[:3], num_workers=1, batch_size=2), classify(clips[:3]))


def test_no_clips_give_no_results(classify):
    assert classify([]) == []


@pytest.mark.parametrize(
    ("inputs", "batch_size", "passes"),
    [
        ([0], None, [1, 1, 1]),  # three windows, one at a time
        ([0], 8, [3]),  # three windows of one clip together
        ([0], 2, [2, 1]),
        ([0, 2, 4], 8, [6]),  # windows of several clips together
        ([0, 2, 4], 3, [3, 3]),
        ([0, 1, 2], 8, [5, 1]),  # the clip without sound apart from the others
    ],
)
def test_windows_of_several_clips_share_forward_passes(
    classify, model, clips, monkeypatch, inputs, batch_size, passes
):
    sizes = []
    forward = model.forward

    def counted(**kwargs):
        sizes.append(len(next(iter(kwargs.values()))))
        return forward(**kwargs)

    monkeypatch.setattr(model, "forward", counted)
    classify([clips[i] for i in inputs], batch_size=batch_size)
    assert sizes == passes
    if len(inputs) == 1:
        sizes.clear()
        classify(clips[inputs[0]], batch_size=batch_size)
        assert sizes == passes


def test_calls_from_several_threads_do_not_disturb_each_other(classify, clips):
    expected = [classify(clip, top_k=3) for clip in clips]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda clip: classify(clip, top_k=3), clips * 3))
    assert_same(results, expected * 3)


# ---- files ----


class Loader:
    """A clip loader which remembers what it was asked for."""

    def __init__(self, frames=30, sound=True, picture=True):
        self.clip = make_clip(frames, sound=sound, picture=picture)
        self.calls = []

    def __call__(self, source, **requirements):
        self.calls.append((source, requirements))
        fields = dict.fromkeys(("frames", "waveform")) | self.clip
        return SimpleNamespace(**fields, face_boxes=None, source=str(source))


REQUIREMENTS = {"frames_per_second": 25, "sampling_rate": 16000, "face_size": SIDE, "modalities": ("audio", "visual")}


@pytest.fixture
def loading(model, processor):
    """A pipeline with a loader of its own, and that loader."""
    loader = Loader()
    return pipeline(TASK, model=model, processor=processor, device="cpu", clip_loader=loader), loader


@pytest.mark.parametrize(
    "source", ["clip.mp4", b"\x00\x00", {"path": "clip.mp4", "bytes": None}, {"bytes": b"\x00"}, io.BytesIO(b"\x00")],
    ids=["path", "bytes", "column", "column of bytes", "file object"],
)  # fmt: skip
def test_files_of_every_kind_go_to_the_loader_with_what_the_processor_needs(loading, classify, source):
    pipe, loader = loading
    result = pipe(source)
    assert loader.calls == [(source, REQUIREMENTS)]
    assert_same([result], [classify(loader.clip)])


def test_a_row_of_a_data_set_is_a_clip(loading):
    pipe, loader = loading
    video, audio = {"path": "a.mp4", "bytes": None}, {"path": "a.wav", "bytes": None}
    pipe({"clip_id": "a", "video": video, "audio": audio, "emotion": 3})
    pipe({"clip_id": "a", "video": video, "audio": None})
    pipe({"video": video})
    assert loader.calls == [
        (video, {**REQUIREMENTS, "audio_source": audio}),
        (video, REQUIREMENTS),
        (video, REQUIREMENTS),
    ]


def test_a_data_set_of_rows_gives_a_result_for_each(loading):
    pipe, loader = loading
    rows = datasets.Dataset.from_dict({"clip_id": ["a", "b"], "video": [{"path": "a.mp4"}, {"path": "b.mp4"}]})
    results = pipe(rows, top_k=1)
    assert loader.calls == []  # nothing is read before it is asked for
    assert len(list(results)) == 2
    assert [source["path"] for source, _ in loader.calls] == ["a.mp4", "b.mp4"]


def test_sound_alone_is_not_searched_for_pictures(loading):
    pipe, loader = loading
    pipe({"audio": "a.wav"})
    assert loader.calls == [("a.wav", {**REQUIREMENTS, "modalities": ("audio",)})]


def test_policies_reach_the_loader_from_call_and_constructor(model, processor):
    loader = Loader()
    pipe = pipeline(
        TASK, model=model, processor=processor, device="cpu", clip_loader=loader, on_missing_face="center", top_k=1
    )
    assert len(pipe("a.mp4", on_silence="keep", clip_loader_options={"start_seconds": 1.0})) == 1
    assert len(pipe("a.mp4", on_missing_face="error", top_k=2)) == 2
    assert [call for _, call in loader.calls] == [
        {**REQUIREMENTS, "on_missing_face": "center", "on_silence": "keep", "start_seconds": 1.0},
        {**REQUIREMENTS, "on_missing_face": "error"},
    ]


def test_a_clip_object_is_a_clip(classify):
    clip = Loader()("somewhere")
    assert classify(clip) == classify(make_clip(30))


def test_an_mp4_gives_what_its_decoded_clip_gives(classify, tmp_path):
    path = tmp_path / "clip.mp4"
    picture = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)
    write_clip(path, picture, 0.1 * np.random.default_rng(1).standard_normal(60 * 640).astype(np.float32))
    result = classify(path, on_missing_face="center")
    assert_same([result], [classify(load_clip(path, face_size=SIDE, on_missing_face="center"))])
    assert classify(path.read_bytes(), on_missing_face="center") == result
    assert classify({"video": str(path)}, on_missing_face="center") == result
    with pytest.raises(ValueError, match="face"):
        classify(path)


# ---- models of one modality ----


@pytest.mark.parametrize(
    ("modality", "field", "other"), [("audio", "waveform", "frames"), ("visual", "frames", "waveform")]
)
def test_models_of_one_modality_look_at_that_alone(modality, field, other):
    model = make_model((modality,), visual_num_frames=50)
    loader = Loader()
    classify = AudioVisualClassificationPipeline(
        model=model,
        processor=VQMAEProcessor.from_model_config(model.config),
        task=TASK,
        device="cpu",
        clip_loader=loader,
    )
    clip = make_clip(130)
    alone = {field: clip[field]}
    assert classify(clip) == classify(alone) == classify({**clip, other: None})
    classify("clip.mp4")
    assert loader.calls[-1][1]["modalities"] == (modality,)
    classify({"video": "a.mp4", "audio": "a.wav"})
    assert ("audio_source" in loader.calls[-1][1]) == (modality == "audio")
    with pytest.raises(ValueError, match=f"the clip has {other}, but this model takes {modality} input"):
        classify({other: clip[other]})


def test_sound_alone_is_refused_by_a_model_that_sees():
    model = make_model(("visual",))
    processor = VQMAEProcessor.from_model_config(model.config)
    classify = pipeline(TASK, model=model, processor=processor, device="cpu", clip_loader=Loader())
    with pytest.raises(ValueError, match=r"sound only \('a.wav'\), but this model takes visual"):
        classify({"audio": "a.wav"})


# ---- loaders by default ----


def test_without_a_loader_files_are_refused_and_arrays_are_not(classify, monkeypatch):
    monkeypatch.setattr(AudioVisualClassificationPipeline, "default_clip_loader", None)
    with pytest.raises(
        ValueError, match=r"found 'clip.mp4'.*pip install vqmae-hf.*import vqmae_hf.*clip_loader=.*arrays"
    ):
        classify("clip.mp4")
    with pytest.raises(ValueError, match="found 3 bytes"):
        classify({"bytes": b"abc"})
    assert len(classify(make_clip(5))) == 5


def test_a_default_loader_serves_pipelines_that_have_none(classify, model, processor, monkeypatch):
    monkeypatch.setattr(AudioVisualClassificationPipeline, "default_clip_loader", None)
    loader = Loader()
    AudioVisualClassificationPipeline.set_default_clip_loader(loader)
    classify("a.mp4")
    own = Loader()
    pipeline(TASK, model=model, processor=processor, device="cpu", clip_loader=own)("b.mp4")
    assert [source for source, _ in loader.calls] == ["a.mp4"]
    assert [source for source, _ in own.calls] == ["b.mp4"]
    AudioVisualClassificationPipeline.set_default_clip_loader(lambda source, **kwargs: loader(source, **kwargs))
    classify("c.mp4")  # a plain function is not turned into a method
    assert loader.calls[-1][0] == "c.mp4"


def test_code_that_came_with_a_checkpoint_uses_the_installed_loader(model, processor, monkeypatch):
    copy = type("Copy", AudioVisualClassificationPipeline.__bases__, dict(vars(AudioVisualClassificationPipeline)))
    copy.__init__ = lambda self, **kwargs: super(copy, self).__init__(**kwargs) or setattr(self, "clip_loader", None)
    copy.__call__ = lambda self, inputs: self.preprocess(inputs)
    copy.default_clip_loader = None
    loader = Loader()
    monkeypatch.setattr(AudioVisualClassificationPipeline, "default_clip_loader", staticmethod(loader))
    copy(model=model, processor=processor, device="cpu")("a.mp4")
    assert [source for source, _ in loader.calls] == ["a.mp4"]


def test_registering_again_is_harmless():
    before = PIPELINE_REGISTRY.supported_tasks[TASK]
    register_pipeline()
    assert PIPELINE_REGISTRY.supported_tasks[TASK] is before
    assert before["impl"] is AudioVisualClassificationPipeline


# ---- refusals ----


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({}, r"found a dict with \[\].*'frames' and 'waveform'"),
        ({"image": 1}, r"found a dict with \['image'\]"),
        ({"video": None, "audio": None}, r"found a dict with \['audio', 'video'\]"),
        ({**make_clip(5), "wavform": 1}, r"'wavform'.*accepted are 'frames'"),
        ({"frames": None, "waveform": None}, "has neither waveform nor frames"),
        (np.zeros((5, 8, 8, 3), np.uint8), "found ndarray, accepted are a file"),
        (("a.mp4", "b.mp4"), "found tuple, accepted are a file.*or a list of these"),
        (7, "found int"),
        ({**make_clip(5), "frames_per_second": 30}, "found 30.*25 only"),
        ({**make_clip(5), "sampling_rate": 8000}, "found 8000 Hz.*16000 Hz"),
        ({"frames": np.zeros((5, 8, 8), np.uint8)}, r"found shape \(5, 8, 8\)"),
        ({"waveform": np.zeros((2, 900), np.float32)}, "one channel"),
    ],
)
def test_refused_clips(classify, clip, message):
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        classify(clip)


def test_a_loader_that_returns_something_else_is_named(model, processor):
    pipe = pipeline(TASK, model=model, processor=processor, device="cpu", clip_loader=lambda source, **kwargs: 7)
    with pytest.raises(ValueError, match=r"the clip loader's result for 'a.mp4': found int"):
        pipe("a.mp4")


@pytest.mark.parametrize("option", [{"top_k": 0}, {"top_k": "all"}, {"function_to_apply": "relu"}])
def test_refused_options(classify, clips, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        classify(clips[0], **option)


def test_misspelt_options_are_not_swallowed(classify, clips):
    with pytest.raises(TypeError, match="topk"):
        classify(clips[0], topk=1)


def test_a_processor_of_another_kind_is_refused(model, processor):
    with pytest.raises(ValueError, match=r"processor: found NoneType.*from_model_config"):
        AudioVisualClassificationPipeline(model=model, task=TASK, device="cpu")


# ---- saving ----


def test_saved_model_and_processor_make_the_same_pipeline(classify, clips, tmp_path):
    classify.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", "model.safetensors", "processor_config.json"}
    loaded = pipeline(TASK, model=str(tmp_path), device="cpu")
    assert isinstance(loaded, AudioVisualClassificationPipeline)
    assert loaded.processor.to_dict() == classify.processor.to_dict()
    assert_same(loaded(clips, batch_size=4), classify(clips))
