"""
`pipeline("audiovisual-classification")`: a talking face in, labels with scores out.

Letters: W windows of one clip, C classes.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import AutoModelForAudioClassification, AutoModelForVideoClassification, Pipeline
from transformers.dynamic_module_utils import custom_object_save, get_class_from_dynamic_module
from transformers.pipelines import PIPELINE_REGISTRY

TASK = "audiovisual-classification"
CLIP_FIELDS = ("frames", "waveform", "frames_per_second", "sampling_rate")
SCORE_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": lambda logits: logits.softmax(-1),
    "sigmoid": torch.sigmoid,
    "none": lambda logits: logits,
}
# What opens media files where the package is not installed: code that classifiers on the Hub carry besides their own.
CARRIED_CLIP_LOADER = "clips.load_clip"
CARRIED_MODULES = "transformers_modules"
UNSET = object()  # `top_k=None` means "all labels"


class AudioVisualClassificationPipeline(Pipeline):
    r"""
    Labels for talking-face clips, from sound and picture together or from either alone.

    ```python
    import vqmae_hf
    from transformers import pipeline

    classify = pipeline("audiovisual-classification", model="path/or/id")
    classify("clip.mp4", top_k=3)          # [{"score": 0.91, "label": "happy"}, ...]
    classify(["a.mp4", "b.mp4"], batch_size=8)
    classify({"frames": frames, "waveform": waveform, "frames_per_second": 25, "sampling_rate": 16000})
    ```

    A clip is one of

    - a file: path, bytes, file object or `{"path": ..., "bytes": ...}`, opened by the clip loader;
    - `{"video": file, "audio": file}`, further entries (of a data set's row) being ignored; without `"audio"`, or where it
      is None, the sound is that of the video; `"audio"` alone is sound without picture;
    - arrays: `{"frames": (T, H, W, 3), "waveform": (N,)}` or only one of them, face crops and mono samples at the
      processor's rates, which `"frames_per_second"` and `"sampling_rate"` may state; or an object with these attributes,
      such as `vqmae_hf.data.clips.Clip`.

    A list of clips gives a list of results; a generator or a data set (of torch or `datasets`) an iterator over them. What
    the model has no modality for is not looked at; a modality that the clip lacks is simply not there.

    A clip longer than the model's window is cut into windows which cover every frame, and the scores are the mean over
    them. `batch_size` counts clips that are read together, and windows that pass the model together.

    Args:
        model: a classification head that takes `audio_values` and `pixel_values_videos` and returns `logits`.
        processor: the [`VQMAEProcessor`] saved with it.
        clip_loader: callable `(file, frames_per_second=, sampling_rate=, face_size=, modalities=, **policies)`, also with
            `audio_source=` where the sound has a file of its own, that returns a clip as arrays;
            `vqmae_hf.data.clips.load_clip` once `vqmae_hf` is imported.

    Also in the constructor, or with each call:
        top_k (`int` or `None`): how many labels, best first; 5 by default, all with None.
        function_to_apply (`"softmax"`, `"sigmoid"`, `"none"`): from logits to scores, for each window. By default as the
            model's `problem_type` says, softmax if it says nothing.
        on_missing_face, on_missing_audio, on_missing_video, on_silence, face_detector: handed to the clip loader.
        clip_loader_options (`dict`): further arguments of the clip loader, before those that the processor asks for
            (`clip_options`).
    """

    _load_processor: Any = True
    _load_image_processor: Any = False
    _load_video_processor: Any = False
    _load_feature_extractor: Any = False
    _load_tokenizer: Any = False

    processor: Any
    default_clip_loader: ClassVar[Callable[..., Any] | None] = None

    def __init__(self, *args: Any, clip_loader: Callable[..., Any] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not hasattr(self.processor, "cut_windows"):
            raise ValueError(
                f"processor: found {type(self.processor).__name__}, accepted is the processor of the model, for instance "
                "VQMAEProcessor.from_pretrained(model_folder) or VQMAEProcessor.from_model_config(model.config)."
            )
        self.clip_loader = clip_loader

    @classmethod
    def set_default_clip_loader(cls, clip_loader: Callable[..., Any] | None) -> None:
        """What opens files in pipelines that were given no `clip_loader` of their own."""
        cls.default_clip_loader = None if clip_loader is None else staticmethod(clip_loader)

    def _sanitize_parameters(  # type: ignore[override]
        self,
        top_k: Any = UNSET,
        function_to_apply: str | None = None,
        window_batch_size: int | None = None,
        clip_loader_options: Mapping[str, Any] | None = None,
        on_missing_face: str | None = None,
        on_missing_audio: str | None = None,
        on_missing_video: str | None = None,
        on_silence: str | None = None,
        face_detector: Any = None,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        policies = {
            "on_missing_face": on_missing_face,
            "on_missing_audio": on_missing_audio,
            "on_missing_video": on_missing_video,
            "on_silence": on_silence,
            "face_detector": face_detector,
        }
        options = {name: value for name, value in policies.items() if value is not None}
        if clip_loader_options is not None and not isinstance(clip_loader_options, Mapping):
            raise ValueError(
                f"clip_loader_options={clip_loader_options!r}: accepted is a dict of the clip loader's arguments."
            )
        options.update(clip_loader_options or {})
        forward = {} if window_batch_size is None else {"window_batch_size": window_batch_size}
        postprocess: dict[str, Any] = {}
        if top_k is not UNSET:
            if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
                raise ValueError(f"top_k={top_k!r}: accepted is a positive whole number, or None for all labels.")
            postprocess["top_k"] = top_k
        if function_to_apply is not None:
            if not isinstance(function_to_apply, str) or function_to_apply not in SCORE_FUNCTIONS:
                raise ValueError(
                    f"function_to_apply={function_to_apply!r}: accepted are {', '.join(SCORE_FUNCTIONS)}."
                )
            postprocess["function_to_apply"] = function_to_apply
        return options, forward, postprocess

    def __call__(self, inputs: Any, *args: Any, batch_size: int | None = None, **kwargs: Any) -> Any:
        """
        Labels of one clip, or of each of several.

        Returns:
            `[{"score": float, "label": str}, ...]`, best first; a list of such lists for a list of clips; an iterator
            over them for a generator or data set.

        Raises:
            ValueError: no clip, or one that the loader or the processor refuses; the message names the remedy.
        """
        if batch_size is not None and (
            not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1
        ):
            raise ValueError(f"batch_size={batch_size!r}: accepted is a positive whole number.")
        if isinstance(inputs, list) and not inputs:
            return []
        if hasattr(inputs, "column_names"):  # a data set of `datasets`, which transformers does not take for one
            inputs = (row for row in inputs)
        kwargs["window_batch_size"] = batch_size or self._batch_size or 1
        return super().__call__(inputs, *args, batch_size=batch_size, **kwargs)

    def preprocess(self, clip: Any, **loader_options: Any) -> dict[str, Any]:  # type: ignore[override]
        """One clip of any accepted kind -> its windows, as model inputs (W, ...)."""
        arrays = self._read(clip, loader_options)
        heard, seen = (m in self._modalities for m in ("audio", "visual"))
        waveform = arrays["waveform"] if heard else None
        frames = arrays["frames"] if seen else None
        if waveform is None and frames is None:
            found = [name for name in ("waveform", "frames") if arrays[name] is not None]
            raise ValueError(
                f"the clip has {' and '.join(found) or 'neither waveform nor frames'}, but this model takes "
                f"{' and '.join(self._modalities)} input; give it a clip with that."
            )
        rates = {name: arrays[name] for name in ("sampling_rate", "frames_per_second") if arrays[name] is not None}
        windows = self.processor.cut_windows(self.processor(audio=waveform, videos=frames, **rates))
        windows.pop("window_clip_index")
        # Nested, so that the collation of transformers keeps the clips of a batch apart.
        return {"windows": dict(windows)}

    def _forward(self, model_inputs: dict[str, Any], window_batch_size: int = 1) -> dict[str, Any]:  # type: ignore[override]
        """Logits (W, C) of each clip in a batch; windows of clips with the same modalities share forward passes."""
        clips = model_inputs["windows"]
        clips = [clips] if isinstance(clips, Mapping) else clips
        groups: dict[tuple[str, ...], list[int]] = {}
        for position, clip in enumerate(clips):
            groups.setdefault(tuple(sorted(clip)), []).append(position)
        logits: list[Any] = [None] * len(clips)
        for names, members in groups.items():
            windows = {name: torch.cat([clips[i][name] for i in members]) for name in names}
            pieces = zip(*(windows[name].split(window_batch_size) for name in names), strict=True)
            outputs = torch.cat([self.model(**dict(zip(names, piece, strict=True))).logits for piece in pieces])
            counts = [len(clips[i][names[0]]) for i in members]
            for i, clip_logits in zip(members, outputs.split(counts), strict=True):
                logits[i] = clip_logits
        return {"logits": logits}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], top_k: int | None = 5, function_to_apply: str | None = None
    ) -> list[dict[str, Any]]:
        """Logits (W, C) of one clip -> its best labels, by the mean score over the windows."""
        config: Any = self.model.config
        if function_to_apply is None:
            function_to_apply = score_function_of(config)
        logits = model_outputs["logits"][0].float()  # a list of one clip, or (1, W, C) out of a batch
        scores = SCORE_FUNCTIONS[function_to_apply](logits).mean(0)
        best = scores.topk(len(scores) if top_k is None else min(top_k, len(scores)))
        return [
            {"score": score, "label": config.id2label[index]}
            for score, index in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:
        """
        Save model and processor, so that `pipeline(task, model=save_directory)` finds both.

        The pipeline's code goes along when the model's does (`register_for_auto_class`); transformers then asks for
        `trust_remote_code=True` even where this package is installed.
        """
        if getattr(self.model, "_auto_class", None) is not None:
            super().save_pretrained(save_directory, **kwargs)
            custom_object_save(
                self, save_directory
            )  # which transformers leaves out where this class came with a checkpoint
        else:
            self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)

    @property
    def _modalities(self) -> tuple[str, ...]:
        """What the model takes: `"audio"`, `"visual"` or both."""
        return tuple(getattr(self.model.config, "modalities", ("audio", "visual")))

    def _read(self, clip: Any, options: dict[str, Any]) -> dict[str, Any]:
        """A clip of any accepted kind as arrays: the four `CLIP_FIELDS`, None where there is nothing."""
        if isinstance(clip, (str, bytes, os.PathLike)) or hasattr(clip, "read"):
            return self._load(clip, options)
        if isinstance(clip, Mapping) and not {"frames", "waveform"} & set(clip):
            if {"path", "bytes"} & set(clip):
                return self._load(clip, options)
            if clip.get("video") is not None or clip.get("audio") is not None:
                return self._load_parts(clip.get("video"), clip.get("audio"), options)
        return clip_fields(clip, "the clip")

    def _load_parts(self, video: Any, audio: Any, options: dict[str, Any]) -> dict[str, Any]:
        """Picture and sound of separate files; the sound of the video where there is no audio file."""
        if video is None and "audio" in self._modalities:
            return self._load(audio, {**options, "modalities": ("audio",)})
        if video is None:
            raise ValueError(
                f"the clip has sound only ({describe(audio)}), but this model takes {' and '.join(self._modalities)} "
                "input; give it a clip with that."
            )
        if audio is not None and "audio" in self._modalities:
            options = {**options, "audio_source": audio}
        return self._load(video, options)

    def _load(self, source: Any, options: dict[str, Any]) -> dict[str, Any]:
        """A media file as arrays, by the clip loader, at the rates and the size that the processor accepts."""
        loader = self.clip_loader or self._default_loader()
        if loader is None:
            raise ValueError(
                f"found {describe(source)}, but nothing here can open media files. Run `pip install vqmae-hf` and `import "
                "vqmae_hf`, which brings a loader; or pass `clip_loader=`; or pass arrays: {'frames': (T, H, W, 3) face "
                "crops, 'waveform': (N,) samples}."
            )
        modalities = options.get("modalities", self._modalities)
        loaded = loader(source, **{**self.processor.clip_options(modalities), **options})
        return clip_fields(loaded, f"the clip loader's result for {describe(source)}")

    def _default_loader(self) -> Callable[..., Any] | None:
        """The default of this class, or of the installed package's where this class came with a checkpoint's code, or else
        the one that the checkpoint carries."""
        registered = PIPELINE_REGISTRY.supported_tasks.get(TASK, {}).get("impl")
        installed = self.default_clip_loader or getattr(registered, "default_clip_loader", None)
        if installed is None and type(self).__module__.partition(".")[0] == CARRIED_MODULES:
            config: Any = self.model.config
            revision = getattr(config, "_commit_hash", None)
            # A checkpoint that was saved again carries the code of its classes alone.
            with suppress(OSError):
                self.clip_loader = get_class_from_dynamic_module(
                    CARRIED_CLIP_LOADER, config.name_or_path, revision=revision
                )
        return self.clip_loader or installed


def score_function_of(config: Any) -> str:
    """Which of `SCORE_FUNCTIONS` a classifier's logits are made for."""
    by_problem = {"regression": "none", "multi_label_classification": "sigmoid"}
    return by_problem.get(config.problem_type or "", "softmax")


def clip_fields(clip: Any, name: str) -> dict[str, Any]:
    """The `CLIP_FIELDS` of a dict of arrays, or of an object with these attributes."""
    if isinstance(clip, Mapping):
        unknown = [key for key in clip if key not in CLIP_FIELDS]
        if unknown or not {"frames", "waveform"} & set(clip):
            raise ValueError(
                f"{name}: found a dict with {sorted(map(str, clip))}, accepted are 'frames' and 'waveform' (arrays) with "
                "'frames_per_second' and 'sampling_rate', or 'video' and 'audio' (files), or 'path' or 'bytes' (a file)."
            )
        return {field: clip.get(field) for field in CLIP_FIELDS}
    if not hasattr(clip, "frames") and not hasattr(clip, "waveform"):
        raise ValueError(
            f"{name}: found {type(clip).__name__}, accepted are a file (path, bytes, file object), a dict of files "
            "{'video', 'audio'} or of arrays {'frames', 'waveform'}, or a list of these."
        )
    return {field: getattr(clip, field, None) for field in CLIP_FIELDS}


def describe(source: Any) -> str:
    """A media source in a few words, for messages."""
    if isinstance(source, Mapping):
        source = source.get("path") or source.get("bytes")
    return f"{len(source)} bytes" if isinstance(source, bytes) else repr(source)


def register_pipeline() -> None:
    """Make `pipeline("audiovisual-classification")` known to transformers; again is harmless."""
    registered = PIPELINE_REGISTRY.supported_tasks.get(TASK, {}).get("impl")
    heads: Any = (AutoModelForVideoClassification, AutoModelForAudioClassification)
    if registered is not AudioVisualClassificationPipeline:
        PIPELINE_REGISTRY.register_pipeline(
            TASK,
            pipeline_class=AudioVisualClassificationPipeline,
            pt_model=heads,
            type="multimodal",
        )
