"""The page: a clip on the left, one tab for each thing to try on the right."""

import filecmp
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from vqmae_hf.data.clips import Clip
from vqmae_hf.demo.clips import DemoLimits, VisitorStore, examine, open_clip
from vqmae_hf.demo.emotion import emotion_panel, read_emotion
from vqmae_hf.demo.factors import FACTOR_NAMES, encode_loaded, factors_panel, mix_clips
from vqmae_hf.demo.masking import masking_panel
from vqmae_hf.demo.models import DemoModels
from vqmae_hf.demo.pieces import card, error_card, missing_card
from vqmae_hf.demo.tokens import TokenView, tokens_panel, view_tokens
from vqmae_hf.inference.coded_clips import tokenize_clip
from vqmae_hf.inference.masked_reconstruction import MASK_STRATEGIES, complete_masked_clip
from vqmae_hf.inference.talking_faces import EncodedClip, GeneratedClip, decode_clip
from vqmae_hf.modeling.mdvae_latent_mixing import FACTORS
from vqmae_hf.training.assembly import inner_tokenizers

logger = logging.getLogger(__name__)

TITLE = "Talking faces: emotion, masks, factors, tokens"
INTRODUCTION = (
    '<div class="vq-head"><h1>Talking faces</h1><p>Emotion from face and voice together, and a look at what the models '
    "learned. Choose a clip, then press a button.</p></div>"
)
STRATEGY_NAMES = {"random": "Single pieces", "frame": "Whole moments", "block": "One block"}
NO_CLIP = card("hint", "No result yet", "Choose a clip, then press the button.")
UNFORESEEN = "Something went wrong on the server; its log says what. Please try again, or try another clip."
# One after the other: on a CPU, two at once would each take twice as long.
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "models", "show_progress": "minimal"}
WAITING_VISITORS = 32


class DemoActions:
    """What the buttons do. Every action answers with HTML, also where it cannot be done."""

    def __init__(self, models: DemoModels, limits: DemoLimits, examples: Sequence[Path] = ()):
        self.models, self.limits, self.examples = models, limits, examples
        self.store = VisitorStore()

    def forget(self, request: gr.Request) -> None:
        """A visitor leaves."""
        self.store.forget(request.session_hash or "")

    def describe(self, path: str | None, request: gr.Request) -> str:
        """What was chosen, or why it cannot be used."""
        if path is None:
            return ""
        if not self._is_example(path):  # examples stay when their visitor leaves
            self.store.uses(request.session_hash or "", path)
        try:
            info = examine(path, self.limits)
        except ValueError as error:
            return error_card(str(error))
        parts = [f"{info.duration_seconds:.1f} s"] if info.duration_seconds else []
        parts += [f"{info.width} × {info.height}"] if info.has_video else ["no picture"]
        parts += ["with sound" if info.has_audio else "no sound"]
        return f'<div class="vq-status">{" · ".join(parts)}</div>'

    def emotion(self, path: str | None, use_centre: bool, request: gr.Request) -> str:
        """Tab *Emotion*."""
        classify = self.models.classify
        assert classify is not None

        def compute() -> str:
            clip = self._clip(request, path, classify.processor, classify.model.config.modalities, use_centre)
            return emotion_panel(read_emotion(classify, clip))

        return self._answer(request, ("emotion", path, use_centre), compute)

    def mask(
        self,
        path: str | None,
        use_centre: bool,
        visual_percent: float,
        audio_percent: float,
        strategy: str,
        seed: float,
        request: gr.Request,
    ) -> str:
        """Tab *Mask and reconstruct*."""
        masked = self.models.masked
        assert masked is not None
        model, processor = masked.model, masked.processor
        ratios = (visual_percent / 100, audio_percent / 100)

        def compute() -> str:
            clip = self._clip(request, path, processor, model.config.modalities, use_centre)
            coded = self._remember(
                request,
                ("coded", path, use_centre),
                lambda: tokenize_clip(clip, processor, inner_tokenizers(model)),
            )
            return masking_panel(
                complete_masked_clip(
                    coded, model=model, processor=processor, mask_ratio=ratios, strategy=strategy, seed=int(seed)
                )
            )

        return self._answer(request, ("mask", path, use_centre, ratios, strategy, int(seed)), compute)

    def mix(
        self,
        first: str | None,
        second: str | None,
        use_centre: bool,
        w: float,
        z_av: float,
        z_a: float,
        z_v: float,
        request: gr.Request,
    ) -> str:
        """Tab *Factors*: how much of the second clip, in %, for each factor; those the model lacks count for nothing."""
        talker = self.models.talker
        assert talker is not None
        percents = dict(zip(FACTORS, (w, z_av, z_a, z_v), strict=True))
        weights = {name: percents[name] / 100 for name in self.factor_names()}

        def encode(path: str | None) -> tuple[EncodedClip, GeneratedClip]:
            clip = self._clip(request, path, talker.processor, talker.model.config.modalities, use_centre)
            encoded = encode_loaded(talker, clip)
            return encoded, decode_clip(talker, encoded.latents)

        def compute() -> str:
            (latents_a, clip_a), (latents_b, clip_b) = (
                self._remember(request, ("latents", path, use_centre), partial(encode, path))
                for path in (first, second)
            )
            return factors_panel(mix_clips(talker, latents_a, latents_b, weights), clip_a, clip_b, weights)

        if first is not None and second is None:
            return error_card("Please choose clip B as well.")
        return self._answer(request, ("mix", first, second, use_centre, *weights.values()), compute)

    def factor_names(self) -> tuple[str, ...]:
        """The factors of the model."""
        assert self.models.talker is not None
        return ("w", *self.models.talker.model.config.dynamic_latents)

    def tokens(self, path: str | None, use_centre: bool, percent: float, request: gr.Request) -> str:
        """Tab *Tokens*: the codes at a part of the clip's length."""
        tokenizing = self.models.tokenizing
        assert tokenizing is not None
        model, processor = tokenizing

        def view() -> TokenView:
            return view_tokens(
                model, processor, self._clip(request, path, processor, model.config.modalities, use_centre)
            )

        def compute() -> str:
            shown = self._remember(request, ("tokens", path, use_centre), view)
            return tokens_panel(shown, round(percent / 100 * shown.last_frame))

        return self._answer(request, ("token page", path, use_centre, percent), compute)

    def _is_example(self, path: str) -> bool:
        """Whether a file is an example, or an upload that Gradio, which goes by name and content, takes for the same."""
        same_name = [example for example in self.examples if example.name == Path(path).name]
        return Path(path).is_file() and any(filecmp.cmp(path, example, shallow=False) for example in same_name)

    def _clip(
        self, request: gr.Request, path: str | None, processor: Any, modalities: Sequence[str], use_centre: bool
    ) -> Clip:
        """The visitor's clip at the rates of a model."""
        rates = processor.clip_options(modalities)
        key = ("clip", path, use_centre, *rates.values())
        return self._remember(request, key, lambda: open_clip(path, rates, self.limits, use_centre))

    def _remember(self, request: gr.Request, key: Any, compute: Callable[[], Any]) -> Any:
        return self.store.remember(request.session_hash or "", key, compute)

    def _answer(self, request: gr.Request, key: Any, compute: Callable[[], str]) -> str:
        """The remembered or computed panel; refusals are shown and not remembered."""
        try:
            return self._remember(request, key, compute)
        except ValueError as error:
            return error_card(str(error))
        except Exception:  # the border to the visitor: the trace is for the log
            logger.exception("an action of the demo failed")
            return error_card(UNFORESEEN)


def build_page(models: DemoModels, limits: DemoLimits, examples: Sequence[Path]) -> gr.Blocks:
    """The page, not yet served."""
    actions = DemoActions(models, limits, examples)
    seconds = limits.keep_minutes * 60
    with gr.Blocks(
        title=TITLE,
        fill_width=True,
        analytics_enabled=False,
        delete_cache=(min(60, int(seconds) or 1), int(seconds) or 1),
    ) as page:
        gr.HTML(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=4, min_width=300):
                path, use_centre = _clip_chooser(actions, limits, examples)
            with gr.Column(scale=9, min_width=320), gr.Tabs():
                with gr.Tab("Emotion", id="emotion"):
                    _emotion_tab(actions, path, use_centre)
                with gr.Tab("Mask and reconstruct", id="mask"):
                    _mask_tab(actions, path, use_centre)
                with gr.Tab("Factors", id="factors"):
                    _factors_tab(actions, path, use_centre, examples)
                with gr.Tab("Tokens", id="tokens"):
                    _tokens_tab(actions, path, use_centre)
        page.unload(actions.forget)
    return page.queue(max_size=WAITING_VISITORS)


def _clip_chooser(actions: DemoActions, limits: DemoLimits, examples: Sequence[Path]) -> tuple[gr.State, gr.Checkbox]:
    """Upload, camera, microphone, examples; the path of what was chosen last."""
    path = gr.State(None)
    video = gr.Video(label="Clip", sources=["upload", "webcam"], include_audio=True, elem_id="clip", buttons=[])
    status = gr.HTML(elem_id="clip-status", padding=False)
    if examples:
        gr.Examples([[str(example)] for example in examples], video, label="Examples", cache_examples=False)
    with gr.Accordion("A voice alone", open=False):
        audio = gr.Audio(label="Voice", sources=["upload", "microphone"], type="filepath", elem_id="voice", buttons=[])
    use_centre = gr.Checkbox(label="Use the middle of the picture where no face is found", value=False)
    gr.HTML(
        f'<p class="vq-note">Up to {limits.max_seconds:g} seconds and {limits.max_megabytes:g} MB. Clips stay on this '
        f"server's disk for at most {limits.keep_minutes:g} minutes, and are deleted when you leave.</p>"
    )
    for source in (video, audio):
        source.change(lambda chosen: chosen, source, path, show_progress="hidden", api_visibility="private").then(
            actions.describe, path, status, show_progress="hidden", api_visibility="private"
        )
    return path, use_centre


def _emotion_tab(actions: DemoActions, path: gr.State, use_centre: gr.Checkbox) -> None:
    if actions.models.classify is None:
        gr.HTML(missing_card("a classifier", "--checkpoint"))
        return
    button = gr.Button("Read the emotion", variant="primary", elem_id="emotion-button")
    result = gr.HTML(NO_CLIP, elem_id="emotion-result")
    button.click(actions.emotion, [path, use_centre], result, api_visibility="private", **ONE_AT_A_TIME)


def _mask_tab(actions: DemoActions, path: gr.State, use_centre: gr.Checkbox) -> None:
    masked = actions.models.masked
    if masked is None:
        gr.HTML(missing_card("a pre-trained masked autoencoder", "--pretraining"))
        return
    seen, heard = (modality in masked.model.config.modalities for modality in ("visual", "audio"))
    with gr.Row():
        visual = gr.Slider(
            0, 100, 50, step=5, label="Face hidden, in %", visible=seen, elem_id="visual-mask", buttons=[]
        )
        audio = gr.Slider(
            0, 100, 50, step=5, label="Voice hidden, in %", visible=heard, elem_id="audio-mask", buttons=[]
        )
    with gr.Row(equal_height=True):
        strategy = gr.Radio(
            [(STRATEGY_NAMES[name], name) for name in MASK_STRATEGIES], value="random", label="What is hidden", scale=3
        )
        seed = gr.Number(0, label="Draw", precision=0, minimum=0, maximum=10**6, min_width=90, scale=1)
    button = gr.Button("Mask and reconstruct", variant="primary", elem_id="mask-button")
    result = gr.HTML(NO_CLIP, elem_id="mask-result")
    inputs = [path, use_centre, visual, audio, strategy, seed]
    button.click(actions.mask, inputs, result, api_visibility="private", **ONE_AT_A_TIME)


def _factors_tab(actions: DemoActions, path: gr.State, use_centre: gr.Checkbox, examples: Sequence[Path]) -> None:
    if actions.models.talker is None:
        gr.HTML(missing_card("an MDVAE", "--mdvae"))
        return
    with gr.Row():
        with gr.Column(scale=2, min_width=240):
            second = gr.Video(
                label="Clip B",
                sources=["upload", "webcam"],
                include_audio=True,
                elem_id="second-clip",
                buttons=[],
            )
            if examples:
                gr.Examples([[str(example)] for example in examples], second, label="Examples", cache_examples=False)
            status = gr.HTML()
            second.change(actions.describe, second, status, show_progress="hidden", api_visibility="private")
        with gr.Column(scale=3, min_width=260):
            sliders = [
                gr.Slider(
                    0,
                    100,
                    100 if name == "w" else 0,
                    step=5,
                    label=FACTOR_NAMES[name],
                    visible=name in actions.factor_names(),
                    elem_id=f"factor-{name}",
                    buttons=[],
                )
                for name in FACTORS
            ]
            gr.HTML('<p class="vq-note">0 % is clip A, the one on the left; 100 % is clip B.</p>')
    button = gr.Button("Mix", variant="primary", elem_id="mix-button")
    result = gr.HTML(NO_CLIP, elem_id="mix-result")
    button.click(actions.mix, [path, second, use_centre, *sliders], result, api_visibility="private", **ONE_AT_A_TIME)


def _tokens_tab(actions: DemoActions, path: gr.State, use_centre: gr.Checkbox) -> None:
    if actions.models.tokenizing is None:
        gr.HTML(missing_card("a model with tokenizers", "--checkpoint or --pretraining"))
        return
    with gr.Row(equal_height=True):
        moment = gr.Slider(0, 100, 50, step=1, label="Moment, in % of the clip", scale=3, elem_id="moment", buttons=[])
        button = gr.Button("Show the tokens", variant="primary", elem_id="tokens-button", scale=1, min_width=160)
    result = gr.HTML(NO_CLIP, elem_id="tokens-result")
    inputs = [path, use_centre, moment]
    button.click(actions.tokens, inputs, result, api_visibility="private", **ONE_AT_A_TIME)
    moment.release(actions.tokens, inputs, result, api_visibility="private", **ONE_AT_A_TIME)
