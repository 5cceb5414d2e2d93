"""Tokenizers and classifiers as programs that run without this package: ONNX, and `torch.export`."""

import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, PreTrainedModel

from vqmae_hf.data.shards import atomic_folder, write_json
from vqmae_hf.export.graphs import TIME, Graph, graphs_of

INFO_NAME = "export.json"
OPSET = 20
# Sizes that no program is traced with, for the comparison with the model.
TRACED, COMPARED = (2, 3), (5, 7)
LARGEST_DIFFERENCE = 1e-4
# Where two codes are equally near, rounding decides.
MOST_OTHER_CODES = 1e-3


class ExportError(RuntimeError):
    """A program that could not be made, or whose answers are not the model's; nothing was written."""


@dataclass(frozen=True)
class ExportedModel:
    """
    A folder of programs.

    Attributes:
        folder: with the programs, the model's `config.json`, its processor's settings, and `export.json`.
        programs: name (`encode`, `decode`, `codes`, `values`) -> file.
        differences: name -> largest difference to the model's answer at sizes it was not traced with, relative to its
            largest number; for `encode`, the share of codes that differ. Empty where nothing was compared.
    """

    folder: Path
    programs: dict[str, Path]
    differences: dict[str, float]


def export_onnx(
    model: PreTrainedModel | str | os.PathLike,
    folder: str | os.PathLike,
    *,
    parts: tuple[str, ...] | None = None,
    processor: Any = None,
    check: bool = True,
) -> ExportedModel:
    """
    Write `<part>.onnx` for each part of a model, with a free number of clips, and of spectra or frames for tokenizers.

    A classifier's programs take windows of the model's length (as the processor's `cut_windows` makes them) and a mask for
    each modality; a mask of zeros says that the modality is missing.

    Args:
        model: a tokenizer or a classifier, or a folder or name that `from_pretrained` opens.
        folder: new or empty.
        parts: `"encode"`, `"decode"` of a tokenizer; `"codes"`, `"values"` of a classifier; all that it has by default.
        processor: whose settings are put beside the programs; by default that of the checkpoint, where it has one.
        check: compare each program with the model in onnxruntime, at sizes other than those it was traced with.

    Raises:
        ImportError: the packages for ONNX are missing.
        ExportError: a program's answers differ from the model's by more than 1e-4.
        TypeError, ValueError: a model or part that cannot be exported.
        FileExistsError: `folder` is not empty.
    """
    needed = ["onnxscript", *(["onnxruntime"] if check else [])]
    if missing := [name for name in needed if find_spec(name) is None]:
        raise ImportError(f"export to ONNX needs {' and '.join(missing)}: pip install 'vqmae-hf[onnx]'")
    return _export(model, folder, parts, processor, check, ".onnx")


def export_program(
    model: PreTrainedModel | str | os.PathLike,
    folder: str | os.PathLike,
    *,
    parts: tuple[str, ...] | None = None,
    processor: Any = None,
    check: bool = True,
) -> ExportedModel:
    """Write `<part>.pt2` for each part of a model, for `torch.export.load(path).module()`; otherwise as `export_onnx`."""
    return _export(model, folder, parts, processor, check, ".pt2")


def trace(graph: Graph) -> ExportedProgram:
    """One function of a model as an `ExportedProgram`."""
    axes = {axis: Dim(name, min=1) for axis, name in enumerate(graph.free_axes)}
    inputs = graph.make_inputs(*TRACED)
    shapes: Any = tuple(dict(axes) for _ in inputs)
    if len(inputs) > 1:  # `Classify` takes them as one variadic argument
        shapes = (shapes,)
    with torch.no_grad():
        return torch.export.export(graph.module, inputs, dynamic_shapes=shapes)


def write_onnx(graph: Graph, program: ExportedProgram, path: Path) -> None:
    """A traced function as one ONNX file, its weights inside."""
    torch.onnx.export(
        program,
        (),
        path,
        dynamo=True,
        input_names=list(graph.input_names),
        output_names=[graph.output_name],
        opset_version=OPSET,
        external_data=False,
        verbose=False,
    )


def run_file(path: Path, graph: Graph, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """The answer of a written program."""
    if path.suffix == ".pt2":
        with torch.no_grad():
            return torch.export.load(path).module()(*inputs)
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feeds = {name: tensor.numpy() for name, tensor in zip(graph.input_names, inputs, strict=True)}
    return torch.from_numpy(session.run([graph.output_name], feeds)[0])


def difference(graph: Graph, path: Path) -> float:
    """How far a written program is from the model, see `ExportedModel.differences`."""
    inputs = graph.make_inputs(*COMPARED)
    with torch.no_grad():
        expected = graph.module(*inputs)
    found = run_file(path, graph, inputs)
    if found.shape != expected.shape:
        raise ExportError(f"{path.name} answers with shape {tuple(found.shape)} instead of {tuple(expected.shape)}.")
    if not expected.is_floating_point():
        return float((found != expected).float().mean())
    return float((found - expected).abs().max() / expected.abs().max())


def _export(
    source: Any, folder: str | os.PathLike, parts: tuple[str, ...] | None, processor: Any, check: bool, suffix: str
) -> ExportedModel:
    model = load_model(source)
    graphs = graphs_of(model)
    chosen = tuple(graphs) if parts is None else parts
    if not chosen or set(chosen) - set(graphs):
        raise ValueError(
            f"parts={chosen}: this {type(model).__name__} has {tuple(graphs)}. A classifier has 'values' where it carries "
            "the tokenizers of its modalities."
        )
    processor = processor if processor is not None else _processor_of(source)
    differences: dict[str, float] = {}
    with atomic_folder(Path(folder)) as unfinished:
        for name in chosen:
            path, graph = unfinished / f"{name}{suffix}", graphs[name]
            program = trace(graph)
            if suffix == ".onnx":
                write_onnx(graph, program, path)
            else:
                torch.export.save(program, path)
            if check:
                differences[name] = difference(graph, path)
                _require_equal(name, graph, differences[name])
        model.config.save_pretrained(unfinished)
        if processor is not None:
            processor.save_pretrained(unfinished)
        write_json(unfinished / INFO_NAME, describe(model, {name: graphs[name] for name in chosen}, differences))
    return ExportedModel(Path(folder), {name: Path(folder) / f"{name}{suffix}" for name in chosen}, differences)


def _require_equal(name: str, graph: Graph, found: float) -> None:
    most = MOST_OTHER_CODES if graph.output_name.endswith("_codes") else LARGEST_DIFFERENCE
    if not found <= most:  # NaN is not equal either
        raise ExportError(
            f"the program {name!r} differs from the model by {found:.1e}, more than {most:.0e}; nothing was written. Please "
            "report it with the versions of torch and onnxruntime."
        )


def describe(model: PreTrainedModel, graphs: dict[str, Graph], differences: dict[str, float]) -> dict[str, Any]:
    """What somebody who has the folder alone needs to know: inputs with shapes, free axes, labels."""
    programs = {}
    for name, graph in graphs.items():
        free = dict(enumerate(graph.free_axes))
        inputs = graph.make_inputs(*TRACED)
        programs[name] = {
            "inputs": {
                input_name: {
                    "shape": [free.get(axis, size) for axis, size in enumerate(tensor.shape)],
                    "dtype": str(tensor.dtype).removeprefix("torch."),
                }
                for input_name, tensor in zip(graph.input_names, inputs, strict=True)
            },
            "output": graph.output_name,
            "time_is_free": TIME in graph.free_axes,
            "difference_to_the_model": differences.get(name),
        }
    labels = list(model.config.id2label.values()) if hasattr(model, "classifier") else None
    return {"model": type(model).__name__, "torch": torch.__version__, "labels": labels, "programs": programs}


def load_model(source: PreTrainedModel | str | os.PathLike) -> PreTrainedModel:
    """A model, or the tokenizer or classifier of a folder or name."""
    if isinstance(source, PreTrainedModel):
        return source
    config = AutoConfig.from_pretrained(source)
    architectures = config.architectures or []
    is_classifier = any(name.endswith("ForAudioVisualClassification") for name in architectures)
    return (AutoModelForVideoClassification if is_classifier else AutoModel).from_pretrained(source)


def _processor_of(source: Any) -> Any:
    """The processor beside a checkpoint; None for a model that came as an object, or where there is none."""
    if isinstance(source, PreTrainedModel):
        return None
    try:
        return AutoProcessor.from_pretrained(source)
    except (OSError, ValueError):
        return None
