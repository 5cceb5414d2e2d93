"""Models as ONNX files and `torch.export` programs, checked against the model when they are made."""

from vqmae_hf.export.programs import ExportedModel, ExportError, export_onnx, export_program

__all__ = ["ExportError", "ExportedModel", "export_onnx", "export_program"]
