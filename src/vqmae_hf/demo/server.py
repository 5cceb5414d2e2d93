"""The web server of the demo: where it listens, what it lets in, and what it leaves behind (nothing)."""

import atexit
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vqmae_hf.demo.clips import MEGABYTE, DemoLimits
from vqmae_hf.demo.models import Folder, load_demo_models
from vqmae_hf.evaluation.sounds import retrieve_phases

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
EXAMPLE_SUFFIXES = (".mp4", ".webm", ".mov", ".m4v")
MOST_EXAMPLES = 8
# No page of ours asks for anything elsewhere; said to the browser too, so that nothing in Gradio can.
CONTENT_SECURITY_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:; object-src 'none'"
)


def launch_demo(
    checkpoint: Folder | None = None,
    *,
    pretraining: Folder | None = None,
    mdvae: Folder | None = None,
    examples: Folder | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    max_seconds: float = 15.0,
    max_megabytes: float = 50.0,
    keep_minutes: float = 30.0,
    open_browser: bool = False,
    block: bool = True,
) -> Any:
    """
    Serve the demo.

    Nothing is fetched from or sent to other machines, apart from checkpoints that are named by a Hub id. Uploaded clips lie
    in a folder of this process, from which they are deleted when their visitor leaves or after `keep_minutes`; the folder
    goes with the process.

    Args:
        checkpoint, pretraining, mdvae: see [`~vqmae_hf.demo.models.load_demo_models`]; at least one.
        examples: folder of clips that visitors may take instead of their own; the first 8 by name. Two synthetic talking
            faces if None.
        host: address to listen on; "0.0.0.0" lets other machines in.
        port: None for the first free one from 7860 on.
        max_seconds, max_megabytes, keep_minutes: see [`~vqmae_hf.demo.clips.DemoLimits`].
        open_browser: show the page in the default browser.
        block: wait until the server is stopped; otherwise return at once.

    Returns:
        The served `gradio.Blocks`: `.local_url` is its address, `.close()` stops it.

    Raises:
        ValueError: what `load_demo_models` raises, limits that are no positive numbers, a folder without clips.
        OSError: the port is taken.
    """
    limits = DemoLimits(max_seconds, max_megabytes, keep_minutes)
    models = load_demo_models(checkpoint, pretraining, mdvae)
    folder = Path(tempfile.mkdtemp(prefix="vqmae-demo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    clips = find_examples(examples) if examples is not None else make_examples(folder / "examples")
    with private_gradio(folder / "uploads"):
        import gradio as gr
        from starlette.middleware import Middleware

        from vqmae_hf.demo.page import build_page

        page = build_page(models, limits, clips)
        threading.Thread(target=warm_up, daemon=True).start()
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            inbrowser=open_browser,
            prevent_thread_lock=not block,
            max_file_size=int(limits.max_megabytes * MEGABYTE),
            allowed_paths=[str(clips[0].parent)] if clips else [],
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            ssr_mode=False,
            theme=gr.themes.Base(
                primary_hue=gr.themes.colors.blue,
                neutral_hue=gr.themes.colors.gray,
                font=["system-ui", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"],
                font_mono=["ui-monospace", "Consolas", "monospace"],
            ).set(body_text_color_subdued="*neutral_500"),
            css_paths=[STATIC / "demo.css"],
            head=f"<script>{(STATIC / 'demo.js').read_text(encoding='utf-8')}</script>",
            app_kwargs={"middleware": [Middleware(PolicyHeader)]},
        )
    return page


class PolicyHeader:
    """Adds the content security policy to every answer."""

    def __init__(self, app: Any):
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", CONTENT_SECURITY_POLICY.encode("ascii"))
                message = {**message, "headers": [*message.get("headers", []), policy]}
            await send(message)

        await self.app(scope, receive, send_with_policy)


@contextmanager
def private_gradio(uploads: Path) -> Iterator[None]:
    """Gradio without telemetry, whose uploads lie in a folder of ours; it reads both from the environment."""
    wanted = {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(uploads)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def find_examples(folder: Folder) -> list[Path]:
    """
    The first clips of a folder, by name.

    Raises:
        ValueError: there are none.
    """
    clips = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in EXAMPLE_SUFFIXES)
    if not clips:
        raise ValueError(
            f"examples: found no clips in {folder}; accepted is a folder of {', '.join(EXAMPLE_SUFFIXES)}."
        )
    return clips[:MOST_EXAMPLES]


def make_examples(folder: Path) -> list[Path]:
    """Two short clips of synthetic talking faces, in which there is nobody to be recognised."""
    from vqmae_hf.data.media import write_clip
    from vqmae_hf.data.synthetic.clip_maker import make_clip
    from vqmae_hf.data.synthetic.factors import ClipKey

    paths = []
    for key in (ClipKey(3, "happy", 0), ClipKey(5, "angry", 0)):
        clip = make_clip(key)
        paths.append(write_clip(folder / f"synthetic_{key.emotion}.mp4", clip.frames, clip.waveform))
    return paths


def warm_up() -> None:
    """Phase retrieval compiles on its first call, which takes seconds; nobody shall wait for it."""
    retrieve_phases(np.ones((8, 513), np.float32), num_iterations=2)
