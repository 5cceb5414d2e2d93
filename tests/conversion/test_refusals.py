"""Files that are no checkpoint of the authors are refused with a reason, run no code, and leave nothing behind."""

import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.modeling.small_models import build
from vqmae_hf.conversion import ConversionError, convert_checkpoint
from vqmae_hf.modeling.configuration_audio_vqvae import AudioVQVAEConfig
from vqmae_hf.modeling.modeling_audio_vqvae import AudioVQVAEModel

from .original_weights import CLASSIFIER_NAMES, audio_tokenizer_weights, classifier_model, original_names

FIRST = "_encoder._conv_1.weight"
CODEBOOK = "_vq_vae._embedding.weight"


class RunsCode:
    """What a malicious pickle does: touch a file when it is opened."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def refused(source: Path, match: str, **options) -> None:
    """`source` is refused in these words, and nothing stands where the result would."""
    output = source.parent / "refused"
    with pytest.raises(ConversionError, match=match) as caught:
        convert_checkpoint(source, output, **options)
    assert len(str(caught.value)) < 3000
    assert sorted(p.name for p in source.parent.iterdir()) == [source.name]
    assert not output.exists()


def save(content, folder: Path, name: str = "weights.pt", **options) -> Path:
    torch.save(content, folder / name, **options)
    return folder / name


def changed(**changes) -> dict[str, torch.Tensor]:
    """An audio tokenizer's weights with other tensors, or without those that are None; `.` is written `__`."""
    state = {**audio_tokenizer_weights(), **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in state.items() if value is not None}


# ---- files ----


def test_missing_empty_and_foreign_files(tmp_path):
    with pytest.raises(ConversionError, match=r"is nothing; accepted is a file of torch\.save"):
        convert_checkpoint(tmp_path / "absent.pt", tmp_path / "out")
    with pytest.raises(ConversionError, match="is a folder"):
        convert_checkpoint(tmp_path, tmp_path / "out")
    contents = {
        b"": "is empty",
        b"<!DOCTYPE html><html></html>": "a web page",
        b"version https://git-lfs.github.com/spec/v1\n": "git lfs pull",
        b"\x80\x04garbage": "could not be opened as weights",
        b"plain text": "begins with b'plain text'",
    }
    path = tmp_path / "weights.pt"
    for content, reason in contents.items():
        path.write_bytes(content)
        refused(path, reason)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path, zipped):
    marker = tmp_path / "ran"
    content = {"model": audio_tokenizer_weights(), "surprise": RunsCode(marker)}
    path = save(content, tmp_path, _use_new_zipfile_serialization=zipped)
    refused(path, r"run code when opened are refused")
    assert not marker.exists()


def test_code_in_a_bare_pickle_is_not_run(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(RunsCode(tmp_path / "ran")))
    refused(path, "refused")
    assert not (tmp_path / "ran").exists()


def test_archives_that_unpack_to_too_much(tmp_path):
    path = tmp_path / "weights.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 30_000_000)
    assert path.stat().st_size < 100_000
    refused(path, r"holds 30 MB; up to 10 MB are accepted", largest_bytes=10_000_000)


def test_tensors_that_claim_more_than_the_file_holds(tmp_path):
    huge = torch.zeros(1).expand(10**6, 10**6)
    refused(save({FIRST: huge}, tmp_path), "fewer numbers than its tensors claim")


def test_a_file_larger_than_any_of_theirs(tmp_path):
    path = save(audio_tokenizer_weights(), tmp_path)
    refused(path, r"MB are accepted", largest_bytes=1000)


# ---- what the file holds ----


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.zeros(2)], "holds a list"),
        (torch.zeros(2), "holds a Tensor"),
        ({}, "state dict is empty"),
        ({"model": {}}, "state dict is empty"),
        ({"epoch": 3}, "'epoch' are no tensors"),
        ({7: torch.zeros(2)}, "names are no text: 7"),
        ({FIRST: torch.zeros(2, 2).to_sparse()}, "tensors of another kind: .*sparse"),
        ({FIRST: torch.zeros(2, dtype=torch.complex64)}, "complex64"),
        (
            {"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(1)},
            "no known kind: conv1.weight, fc.bias.*VQ-MAE-AV",
        ),
    ],
)
def test_contents_that_are_no_weights(tmp_path, content, reason):
    refused(save(content, tmp_path), reason)


def test_a_checkpoint_of_this_package_needs_no_conversion(tmp_path):
    model = build(AudioVQVAEModel, AudioVQVAEConfig.from_preset("tiny"))
    refused(save(model.state_dict(), tmp_path), "open it with from_pretrained")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({FIRST: None}, r"missing: encoder.convs.0.weight"),
        ({CODEBOOK: None}, r"it has no 'quantizer.codebook'"),
        ({"_encoder._conv_9.weight": torch.zeros(1)}, r"1 of \d+ parameters are unknown: _encoder._conv_9.weight"),
        ({FIRST: torch.zeros(5, 1, 4)}, r"encoder.convs.0.weight \(5, 1, 4\) instead of \(4, 1, 4\)"),
        ({FIRST: torch.zeros(2, 2, 4)}, r"encoder.convs.0.weight \(2, 2, 4\) instead of \(4, 1, 4\)"),
        ({CODEBOOK: torch.zeros(16)}, "too few axes"),
        ({CODEBOOK: torch.zeros(0, 8)}, "codebook_size=0 must be at least 2"),
        ({FIRST: torch.full((4, 1, 4), torch.nan)}, "NaN or infinite numbers in 1 of"),
        ({FIRST: torch.full((4, 1, 4), 1e300, dtype=torch.float64)}, "NaN or infinite"),
        ({"vq_vae._embedding.weight": torch.zeros(16, 8)}, "several parameters have one meaning"),
        ({"_encoder._residual_stack._layers.99999999._block.1.weight": torch.zeros(1)}, "layers are left out"),
    ],
)
def test_an_audio_tokenizer_with_something_wrong(tmp_path, changes, reason):
    refused(save(changed(**changes), tmp_path), reason)


def test_sizes_out_of_a_file_take_no_memory_before_they_are_checked(tmp_path):
    # A hidden size of 2^20 would ask for 12 TB of convolutions.
    refused(save(changed(**{"_encoder._conv_2.weight": torch.zeros(2**20, 1, 1)}), tmp_path), "of another size")


def test_options_that_do_not_fit(tmp_path):
    path = save(audio_tokenizer_weights(), tmp_path)
    refused(path, "labels were given, but it is no classifier", labels=["a"])
    refused(path, "but it is one itself", audio_tokenizer=path)
    refused(path, "config_overrides names hidden; AudioVQVAEConfig has", config_overrides={"hidden": 3})
    save(original_names(classifier_model(), CLASSIFIER_NAMES), tmp_path)
    refused(path, "accepted are 4 different labels", labels=["a", "b", "b", "c"])


def test_a_classifier_of_one_modality_was_never_recorded(tmp_path):
    state = original_names(classifier_model(), CLASSIFIER_NAMES)
    refused(save({name: value for name, value in state.items() if "_v" not in name}, tmp_path), "never recorded")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    path = save(audio_tokenizer_weights(), tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="is there already"):
        convert_checkpoint(path, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_nothing_half_written_when_the_disk_fails(tmp_path, monkeypatch):
    path = save(audio_tokenizer_weights(), tmp_path)
    monkeypatch.setattr(
        "vqmae_hf.conversion.checkpoints.write_json", lambda *_: (_ for _ in ()).throw(OSError("no space left"))
    )
    with pytest.raises(OSError, match="no space left"):
        convert_checkpoint(path, tmp_path / "new")
    assert [p.name for p in tmp_path.iterdir()] == ["weights.pt"]


# ---- anything at all ----

FUZZ = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def converted_or_refused(source: Path) -> None:
    output = source.parent / "fuzzed"
    try:
        convert_checkpoint(source, output)
    except ConversionError:
        assert sorted(p.name for p in source.parent.iterdir()) == [source.name]
    else:  # the damage did not touch a weight's name or size
        assert (output / "model.safetensors").is_file()
        for path in output.iterdir():
            path.unlink()
        output.rmdir()


@FUZZ
@given(data=st.data(), zipped=st.booleans())
def test_damaged_bytes(tmp_path, data, zipped):
    path = save({"model": audio_tokenizer_weights(hidden_size=2)}, tmp_path, _use_new_zipfile_serialization=zipped)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    for _ in range(data.draw(st.integers(0, 8))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    converted_or_refused(path)


@FUZZ
@given(
    content=st.binary(max_size=200), start=st.sampled_from([b"", b"PK\3\4", b"\x80\2", b"\x80\4\x95", b"\x93NUMPY"])
)
def test_bytes_of_any_kind(tmp_path, content, start):
    path = tmp_path / "weights.pt"
    path.write_bytes(start + content)
    converted_or_refused(path)


@FUZZ
@given(data=st.data())
def test_weights_with_names_and_sizes_of_any_kind(tmp_path, data):
    state = audio_tokenizer_weights(hidden_size=2)
    for _ in range(data.draw(st.integers(1, 4))):
        name = data.draw(st.sampled_from(sorted(state)) | st.text(max_size=40))
        shape = data.draw(st.lists(st.integers(0, 5), max_size=5))
        state[name] = torch.zeros(shape, dtype=data.draw(st.sampled_from([torch.float32, torch.int64, torch.bool])))
    path = save(state, tmp_path)
    converted_or_refused(path)


def test_a_storage_that_says_it_is_larger_than_the_file(tmp_path):
    """The old format writes the number of elements before them; a file of 1 kB may not ask for terabytes."""
    path = save({FIRST: torch.zeros(3)}, tmp_path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    place = content.rindex(struct.pack("<q", 3))
    path.write_bytes(content[:place] + struct.pack("<q", 2**45) + content[place + 8 :])
    refused(path, "could not be opened")
