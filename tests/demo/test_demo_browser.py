"""
The demo as its visitors have it: a server of its own, and a headless Chromium.

Chromium is found as `chromium`, `chromium-browser` or `google-chrome` on the path, or named by CHROMIUM; Debian and Ubuntu
have it as a package (`make browser`). Without one, these tests skip.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

pytest.importorskip("gradio", reason="NOT TRIED IN A BROWSER: gradio is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="NOT TRIED IN A BROWSER: playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = os.environ.get("CHROMIUM") or next((found for name in NAMES if (found := shutil.which(name))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason=f"NOT TRIED IN A BROWSER: none of {', '.join(NAMES)} is installed"),
    pytest.mark.slow,
    pytest.mark.timeout(900),
]

PATIENCE = 120  # seconds for anything to appear: tests share their processor
STATUS = "#clip-status .vq-status"


class Demo(NamedTuple):
    address: str
    temporary: Path  # the folder of everything that the server writes
    process: subprocess.Popen


@pytest.fixture(scope="module")
def demo(checkpoints, tmp_path_factory):
    """The demo with all models and tight limits, as a program of its own."""
    folder = tmp_path_factory.mktemp("demo")
    log, temporary = folder / "demo.log", folder / "temporary"
    temporary.mkdir()
    options = [f"--{name}={path}" for name, path in checkpoints.items()]
    command = [sys.executable, "-m", "vqmae_hf.demo", "--max_seconds=5", "--max_megabytes=2", *options]
    environment = {**os.environ, "TMPDIR": str(temporary), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
    with open(log, "w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
    try:
        yield Demo(wait_for_address(process, log), temporary, process)
        process.terminate()
        process.wait(60)
        assert not list(temporary.iterdir()), "the server leaves files behind"
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()


def wait_for_address(process, log):
    for _ in range(4 * PATIENCE):
        found = re.search(r"http://[\d.]+:\d+", log.read_text())
        if found:
            return found.group()
        assert process.poll() is None, log.read_text()
        time.sleep(0.25)
    raise AssertionError(f"the demo did not start in {PATIENCE} s: {log.read_text()}")


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def visit(demo, chromium):
    """Opens the page for a new visitor, who shares nothing with others; no request may leave this machine."""
    contexts, requests, errors = [], [], []

    def open_page():
        contexts.append(chromium.new_context(permissions=["camera", "microphone"]))
        page = contexts[-1].new_page()
        page.set_default_timeout(1000 * PATIENCE)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(demo.address)
        page.wait_for_selector("#emotion-button")
        return page

    yield open_page
    for context in contexts:
        context.close()
    foreign = [url for url in requests if not url.startswith((demo.address, "data:", "blob:"))]
    assert requests
    assert not foreign
    assert not errors


def videos(page, place):
    return page.eval_on_selector_all(f"{place} video", "all => all.map(each => each.src)")


def upload(page, path, chooser="#clip"):
    page.set_input_files(f"{chooser} input[type=file]", str(path))


def choose(page, path):
    """Upload a clip in place of the one that is there."""
    if page.locator(STATUS).count():
        page.click("#clip button[aria-label=Clear]")
        page.wait_for_selector(STATUS, state="detached")
    upload(page, path)
    page.wait_for_selector(STATUS)


def press(page, name, then):
    """Press a button, wait for a result that was not there before, and return its words."""
    place = f"#{name}-result :is(.vq-result, .vq-card)"  # not the clock that Gradio shows meanwhile
    before = page.eval_on_selector(place, "element => element.outerHTML")
    page.click(f"#{name}-button")
    page.wait_for_function(
        "([place, before, wanted]) => { const element = document.querySelector(place);"
        " return element && element.matches(wanted) && element.outerHTML !== before; }",
        arg=[place, before, then],
    )
    return page.inner_text(place)


def move_slider(page, name, value):
    field = page.locator(f"#{name} input[type=number]")
    field.fill(str(value))
    field.press("Tab")


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def pictures(page, place):
    return page.eval_on_selector_all(f"{place} img, {place} video", "all => all.map(each => each.src)")


def test_the_emotion_of_an_uploaded_clip(visit, clips, models):
    page = visit()
    press_without_clip = press(page, "emotion", ".vq-error")
    assert "choose a clip first" in press_without_clip
    choose(page, clips["happy"])
    assert "1.6 s · 96 × 96 · with sound" in page.inner_text("#clip-status")
    first = press(page, "emotion", ".vq-emotion")
    answer = models.classify(str(clips["happy"]))
    assert page.get_attribute("#emotion-result .vq-best", "data-label") == answer[0]["label"]
    for item in answer:
        assert re.search(rf"{item['label']}\s+{100 * item['score']:.0f} %", first)
    shown = pictures(page, "#emotion-result")
    choose(page, clips["sad"])
    second = press(page, "emotion", ".vq-emotion")
    assert first != second
    assert not set(shown) & set(pictures(page, "#emotion-result"))


def test_the_cursor_and_the_attention_follow_the_clip(visit, clips):
    page = visit()
    choose(page, clips["happy"])
    press(page, "emotion", ".vq-emotion")
    assert not page.is_visible("#emotion-result .vq-heat")
    page.check("#emotion-result .vq-attention")
    assert page.is_visible("#emotion-result .vq-heat")
    place = "() => document.querySelector('.vq-heat').style.backgroundPositionY"
    page.fill("#emotion-result .vq-seek", "500")
    page.wait_for_function("() => document.querySelector('.vq-cursor').style.left.startsWith('50')")
    middle = page.evaluate(place)
    page.fill("#emotion-result .vq-seek", "0")
    page.wait_for_function("() => document.querySelector('.vq-cursor').style.left.startsWith('0')")
    assert page.evaluate(place) != middle
    page.click("#emotion-result .vq-play")
    page.wait_for_function("() => document.querySelector('.vq-emotion video').currentTime > 0.3")


def test_sliders_change_what_is_hidden(visit, clips):
    page = visit()
    choose(page, clips["happy"])
    open_tab(page, "Mask and reconstruct")
    move_slider(page, "visual-mask", 25)
    few = press(page, "mask", ".vq-masking")
    seen = pictures(page, "#mask-result")
    move_slider(page, "visual-mask", 100)
    move_slider(page, "audio-mask", 0)
    page.get_by_label("One block").check()
    all_of_it = press(page, "mask", ".vq-masking")
    assert not re.search(r"100 %\s+face hidden", few)
    assert re.search(r"100 %\s+face hidden", all_of_it)
    assert re.search(r"\b0 %\s+voice hidden", all_of_it)
    changed = pictures(page, "#mask-result")
    assert len(changed) == len(seen) == 6  # three clips, three spectrograms
    assert changed[0] == seen[0], "the original is the same"
    assert changed[2] != seen[2]
    page.click("#mask-result .vq-play >> nth=0")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.vq-masking video')].every((video) => video.currentTime > 0.2)"
    )


def test_factors_of_two_clips(visit, clips):
    page = visit()
    choose(page, clips["happy"])
    open_tab(page, "Factors")
    assert "choose clip B" in press(page, "mix", ".vq-error")
    upload(page, clips["sad"], "#second-clip")
    page.wait_for_selector("#second-clip video")
    swapped = press(page, "mix", ".vq-factors")
    assert "of B: w 100 %" in swapped
    before = pictures(page, "#mix-result")
    move_slider(page, "factor-w", 0)
    move_slider(page, "factor-z_v", 60)
    assert "of B: z_v 60 %" in press(page, "mix", ".vq-factors")
    after = pictures(page, "#mix-result")
    assert (before[0], before[4]) == (after[0], after[4]), "clips A and B are the same"
    assert before[2] != after[2], "the mixed clip is another"


def test_pointing_at_a_code_shows_its_patch(visit, clips):
    page = visit()
    choose(page, clips["happy"])
    open_tab(page, "Tokens")
    press(page, "tokens", ".vq-tokens")
    patch = "() => document.querySelector('.vq-patch').style.backgroundPosition"
    page.hover(".vq-decoded .vq-code[data-row='0'][data-column='0']")
    first = page.evaluate(patch)
    page.hover(".vq-decoded .vq-code[data-row='7'][data-column='3']")
    assert page.evaluate(patch) != first
    assert re.search(r"code \d+: row 8, column 4", page.inner_text(".vq-face-codes .vq-said"))
    page.hover(".vq-strip .vq-code >> nth=32")
    assert "4000 to 4125 Hz" in page.inner_text(".vq-voice-codes .vq-said")
    middle = page.inner_html("#tokens-result")
    move_slider(page, "moment", 0)
    page.click("#tokens-button")
    page.wait_for_selector("#tokens-result .vq-tokens[data-frame='0']")
    assert page.inner_html("#tokens-result") != middle


def test_visitors_do_not_mix(visit, clips, demo):
    """Two visitors work in turns; each goes on with the clip of his own, and leaves nothing behind."""
    anna, bert = visit(), visit()
    choose(anna, clips["happy"])
    choose(bert, clips["sad"])
    answers = {page: press(page, "emotion", ".vq-emotion") for page in (anna, bert)}
    assert answers[anna] != answers[bert]
    seen = pictures(anna, "#emotion-result")
    assert not set(seen) & set(pictures(bert, "#emotion-result"))
    for page in (anna, bert):
        open_tab(page, "Mask and reconstruct")
        press(page, "mask", ".vq-masking")
    assert not set(videos(anna, "#mask-result")) & set(videos(bert, "#mask-result"))
    uploaded = list(demo.temporary.rglob("happy.mp4"))
    assert uploaded
    anna.context.close()
    bert.context.close()
    for _ in range(4 * PATIENCE):
        if not any(path.exists() for path in uploaded):
            return
        time.sleep(0.25)
    raise AssertionError("the clip of a visitor who left is still there")


def test_what_is_too_much_is_refused_with_a_reason(visit, clips):
    page = visit()
    upload(page, clips["large"])
    page.get_by_text("exceed the maximum allowed size of 2").first.wait_for()
    page.reload()
    page.wait_for_selector("#emotion-button")
    upload(page, clips["long"])
    page.wait_for_selector("#clip-status .vq-error")
    assert "lasts 8 seconds; accepted are up to 5 seconds" in page.inner_text("#clip-status")
    assert "lasts 8 seconds" in press(page, "emotion", ".vq-error")


def test_a_clip_without_a_face_and_the_remedy(visit, clips):
    page = visit()
    choose(page, clips["faceless"])
    assert "No face was found" in press(page, "emotion", ".vq-error")
    page.get_by_label("Use the middle of the picture").check()
    press(page, "emotion", ".vq-emotion")


def test_a_recording_of_camera_and_microphone_is_taken(visit):
    """Chromium's own test camera and microphone: a green picture without a face, a beep."""
    page = visit()
    page.click("#clip button[aria-label='Capture from camera']")
    page.click("#clip button:has-text('Click to Access Webcam')")
    page.click("#clip .capture-button:has-text('Record')")
    page.wait_for_timeout(2500)
    page.click("#clip .capture-button:has-text('Stop')")
    page.wait_for_selector(STATUS)
    assert "with sound" in page.inner_text("#clip-status")
    page.get_by_label("Use the middle of the picture").check()
    press(page, "emotion", ".vq-emotion")


def test_an_example_is_there_for_the_next_visitor_too(visit):
    for _ in range(2):
        page = visit()
        page.locator(".gallery-item").first.click()
        page.wait_for_selector(STATUS)
        press(page, "emotion", ".vq-emotion")
        page.context.close()
        time.sleep(1)


def test_on_a_narrow_window_nothing_sticks_out(visit, clips):
    page = visit()
    page.set_viewport_size({"width": 390, "height": 844})
    choose(page, clips["happy"])
    press(page, "emotion", ".vq-emotion")
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth + 1")
