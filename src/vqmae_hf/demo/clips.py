"""The clips that visitors bring: their limits, and what is kept of them, for each visitor apart."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqmae_hf.data.clips import (
    Clip,
    ClipTooLongError,
    EmptyClipError,
    MissingFaceError,
    UnreadableMediaError,
    load_clip,
)
from vqmae_hf.data.media import MediaInfo, probe_media

# One visitor's results, and visitors: clips of 15 s with all that is made of them take some 30 MB.
MOST_RESULTS, MOST_VISITORS = 24, 32
MEGABYTE = 2**20  # as Gradio counts, whose own message says the same
EXPIRED = "This clip is no longer on the server: clips are deleted after {minutes:g} minutes. Please choose it again."
NO_FACE = (
    "No face was found in this clip. Choose one that shows a face from the front, or tick “Use the middle of the picture” "
    "below the clip."
)
UNREADABLE = (
    "This file cannot be read as a video or as sound. Accepted are mp4, webm, mov, avi, wav, mp3 and most others; if it "
    "plays elsewhere, save it as mp4 (H.264) first."
)


@dataclass(frozen=True)
class DemoLimits:
    """
    Args:
        max_seconds: longest clip.
        max_megabytes: largest file, in 2^20 bytes.
        keep_minutes: after which uploaded files are deleted; those of a visitor who leaves are deleted at once.
    """

    max_seconds: float = 15.0
    max_megabytes: float = 50.0
    keep_minutes: float = 30.0

    def __post_init__(self) -> None:
        wrong = [name for name, value in vars(self).items() if not 0 < value < float("inf")]
        if wrong:
            raise ValueError(f"{', '.join(f'{n}={getattr(self, n)}' for n in wrong)}: accepted are numbers above 0.")


def examine(path: str | None, limits: DemoLimits) -> MediaInfo:
    """
    What a file is, if it is one that the demo takes.

    Raises:
        ValueError: there is no clip, it has expired, is too large, too long, or no media file; in words for a visitor.
    """
    if path is None:
        raise ValueError("Please choose a clip first.")
    if not Path(path).is_file():
        raise ValueError(EXPIRED.format(minutes=limits.keep_minutes))
    megabytes = Path(path).stat().st_size / MEGABYTE
    if megabytes > limits.max_megabytes:
        raise ValueError(f"This file has {megabytes:.0f} MB; accepted are up to {limits.max_megabytes:g} MB here.")
    try:
        info = probe_media(path)
    except UnreadableMediaError as error:
        raise ValueError(UNREADABLE) from error
    check_seconds(info.duration_seconds, limits)
    return info


def check_seconds(seconds: float | None, limits: DemoLimits) -> None:
    """Refuses clips that are too long; recordings of a browser do not say how long they are before they are decoded."""
    if seconds is not None and seconds > limits.max_seconds + 0.5:  # encoders round up
        raise ValueError(
            f"This clip lasts {seconds:.0f} seconds; accepted are up to {limits.max_seconds:g} seconds here. Please cut it."
        )


def open_clip(path: str | None, rates: dict[str, Any], limits: DemoLimits, use_centre: bool = False) -> Clip:
    """
    A visitor's file as face crops and a waveform; what is missing or silent is left out.

    Args:
        rates: arguments of `load_clip` that the model asks for.
        use_centre: take the middle of the picture where no face is found.

    Raises:
        ValueError: in words for a visitor.
    """
    info = examine(path, limits)
    # Recordings of a browser do not say how long they are; sound alone would be padded with silence up to an end beyond it.
    unknown = info.duration_seconds is None and info.has_video
    try:
        clip = load_clip(
            path,
            **rates,
            end_seconds=limits.max_seconds + 1 if unknown else None,
            on_missing_face="center" if use_centre else "error",
            on_missing_audio="visual_only",
            on_missing_video="audio_only",
            on_silence="visual_only",
        )
    except MissingFaceError as error:
        raise ValueError(NO_FACE) from error
    except EmptyClipError as error:
        raise ValueError(
            "This clip is empty: it has neither a frame nor a sound. Please choose another one."
        ) from error
    except (UnreadableMediaError, ClipTooLongError) as error:
        raise ValueError(UNREADABLE) from error
    check_seconds(clip.duration_seconds, limits)
    return clip


class VisitorStore:
    """
    Results by visitor, so that an action on the same clip does not start anew, and no visitor sees another's.

    The least recently used are dropped beyond `MOST_RESULTS` of one visitor and `MOST_VISITORS`.
    """

    def __init__(self) -> None:
        self._visitors: OrderedDict[str, OrderedDict[Hashable, Any]] = OrderedDict()
        self._files: dict[str, set[str]] = {}  # file -> visitors who use it: equal files have the same path
        self._lock = threading.Lock()

    def remember(self, visitor: str, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The visitor's result of that key, computed if it is not there."""
        with self._lock:
            results = self._visitors.setdefault(visitor, OrderedDict())
            self._visitors.move_to_end(visitor)
            while len(self._visitors) > MOST_VISITORS:
                self._visitors.popitem(last=False)
            if key in results:
                results.move_to_end(key)
                return results[key]
        value = compute()  # without the lock: others need not wait
        with self._lock:
            results[key] = value
            while len(results) > MOST_RESULTS:
                results.popitem(last=False)
        return value

    def uses(self, visitor: str, path: str) -> None:
        """Note that a visitor uses a file that was uploaded."""
        with self._lock:
            self._files.setdefault(path, set()).add(visitor)

    def forget(self, visitor: str) -> None:
        """Drop a visitor's results, and delete the files that no other visitor uses."""
        with self._lock:
            self._visitors.pop(visitor, None)
            for path, visitors in list(self._files.items()):
                visitors.discard(visitor)
                if not visitors:
                    del self._files[path]
                    Path(path).unlink(missing_ok=True)
