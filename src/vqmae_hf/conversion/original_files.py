"""Foreign weight files, opened without running what is in them and without believing what they say of their size."""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from vqmae_hf.conversion.renaming import ConversionError, some

# The largest of the papers' models has 30 M parameters: with the state of Adam, 360 MB.
LARGEST_FILE_BYTES = 2 * 1024**3
ACCEPTED = (
    "accepted is a file of torch.save that holds a state dict, or a dict with one under 'model' or 'state_dict', made of "
    "ordinary tensors"
)
WRAPPERS = ("model", "state_dict")
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool)
BEGINNINGS = (
    (b"<!DOCTYPE", "a web page, which is what a failed download leaves"),
    (b"<html", "a web page, which is what a failed download leaves"),
    (b"version https://git-lfs", "the pointer of Git LFS instead of the file; run `git lfs pull`"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"Rar!", "a RAR archive; unpack it first"),
)


def read_original_checkpoint(path: str | Path, *, largest_bytes: int = LARGEST_FILE_BYTES) -> dict[str, torch.Tensor]:
    """
    The weights of an authors' checkpoint, opened with `weights_only=True`: floating-point tensors as float32 on the CPU.

    Args:
        path: a pickle of a state dict, or of a dict that holds one under "model" (as the published files do) or
            "state_dict". The prefix "module." that `DataParallel` leaves is taken off.
        largest_bytes: of the file, of what it unpacks to, and of its tensors.

    Raises:
        ConversionError: no such file, or one that is empty, damaged or too large, that torch cannot open without running
            code from it, or that holds no weights; weights that are no ordinary tensors, or not finite.
    """
    path = Path(path)
    check_file(path, largest_bytes)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about its own file formats
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason given"
        raise ConversionError(
            f"{path} could not be opened as weights: {describe_beginning(path)} ({type(error).__name__}: {reason}); "
            f"{ACCEPTED}. Files that need to run code when opened are refused: ask their author for a state dict."
        ) from error
    state = find_state_dict(content, path)
    check_tensors(state, path, largest_bytes)
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return {
        name: value.detach().float() if value.is_floating_point() else value.detach() for name, value in state.items()
    }


def check_file(path: Path, largest_bytes: int) -> None:
    """Refuses what is no file, empty, too large, or an archive that unpacks to too much."""
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise ConversionError(f"{path} is {found}; {ACCEPTED}.")
    size = path.stat().st_size
    if size == 0:
        raise ConversionError(f"{path} is empty; {ACCEPTED}. Was a download interrupted?")
    if zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                size = max(size, sum(entry.file_size for entry in archive.infolist()))
        except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError) as error:
            raise ConversionError(f"{path} is a damaged archive ({error}); {ACCEPTED}.") from error
    if size > largest_bytes:
        raise ConversionError(
            f"{path} holds {size / 1e6:.0f} MB; up to {largest_bytes / 1e6:.0f} MB are accepted, several times what the "
            "papers' largest model and its optimizer need. Is it another checkpoint?"
        )


def describe_beginning(path: Path) -> str:
    """What a file seems to be, by its first bytes."""
    with path.open("rb") as file:
        beginning = file.read(64)
    for start, description in BEGINNINGS:
        if beginning.lower().startswith(start.lower()):
            return f"found {description}"
    if beginning[8:9] == b"{" and path.suffix == ".safetensors":
        return "found safetensors, which is not what the authors published"
    if zipfile.is_zipfile(path):
        return "found an archive"
    return f"it begins with {beginning[:16]!r}"


def find_state_dict(content: Any, path: Path) -> dict[str, torch.Tensor]:
    """The dict of tensors in what a file holds."""
    state = content
    if isinstance(content, dict):
        state = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), content)
    if not isinstance(state, dict):
        raise ConversionError(f"{path} holds a {type(state).__name__} and no weights; {ACCEPTED}.")
    if not state:
        raise ConversionError(f"{path} holds no weights, its state dict is empty; {ACCEPTED}.")
    others = [repr(key) for key, value in state.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise ConversionError(f"{path} holds no weights: its entries {some(others)} are no tensors; {ACCEPTED}.")
    unnamed = [repr(key) for key in state if not isinstance(key, str)]
    if unnamed:
        raise ConversionError(f"{path} holds tensors whose names are no text: {some(unnamed)}; {ACCEPTED}.")
    return dict(state)


def check_tensors(state: dict[str, torch.Tensor], path: Path, largest_bytes: int) -> None:
    """Refuses tensors that are not plain, that claim more numbers than the file holds, or that are not finite."""
    odd = [
        f"{name} ({value.layout}, {value.dtype})"
        for name, value in state.items()
        if value.layout != torch.strided or value.dtype not in DTYPES or value.device.type != "cpu"
    ]
    if odd:
        raise ConversionError(f"{path} holds tensors of another kind: {some(odd)}; {ACCEPTED}.")
    expanded = [
        f"{name} {tuple(value.shape)}"
        for name, value in state.items()
        if value.numel() * value.element_size() > value.untyped_storage().nbytes()
    ]
    if expanded:
        raise ConversionError(f"{path} holds fewer numbers than its tensors claim: {some(expanded)}.")
    total = sum(value.numel() * max(4, value.element_size()) for value in state.values())
    if total > largest_bytes:
        raise ConversionError(
            f"{path} holds tensors of {total / 1e6:.0f} MB; up to {largest_bytes / 1e6:.0f} MB are accepted."
        )
    infinite = [name for name, value in state.items() if not value.float().isfinite().all()]
    if infinite:
        raise ConversionError(
            f"{path} holds NaN or infinite numbers in {len(infinite)} of {len(state)} tensors: {some(infinite)}. A model "
            "with them gives no answers; get the file anew, or an earlier checkpoint."
        )
