"""The code that a repository carries, so that it loads with `trust_remote_code=True` where this package is not installed.

Two closed sets of flat files. The first is `modeling/`: every file that the checkpoint's classes need, copied as it is. The
second, for classifiers, is what opens media files: from `data/`, with imports of one another made relative. It is fetched
when a file is first opened, and needs PyAV, OpenCV and scipy.
"""

import ast
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.dynamic_module_utils import get_relative_import_files

from vqmae_hf.data import clips
from vqmae_hf.modeling.pipeline_audiovisual_classification import (
    CARRIED_CLIP_LOADER,
    TASK,
    AudioVisualClassificationPipeline,
)
from vqmae_hf.registration import AUTO_CLASSES

DATA_PACKAGE = "vqmae_hf.data"


def code_reference(class_: type) -> str:
    """`file.Class`, as repositories refer to code in their root."""
    return f"{class_.__module__.rpartition('.')[2]}.{class_.__name__}"


def auto_map_of_model(config_class: type[PreTrainedConfig]) -> dict[str, str]:
    """Every Auto class of models that finds one for this configuration, with the class it finds."""
    references = {"AutoConfig": code_reference(config_class)}
    for auto_class, registered_config, model_class in AUTO_CLASSES:
        if registered_config is config_class and auto_class.__name__.startswith("AutoModel"):
            references[auto_class.__name__] = code_reference(model_class)
    return references


def auto_map_of_processor(processor_class: type) -> dict[str, str]:
    """The Auto class of a processor or of one of its parts, with its class."""
    names = {auto_class.__name__ for auto_class, _, registered in AUTO_CLASSES if registered is processor_class}
    return {name: code_reference(processor_class) for name in names}


def custom_pipelines() -> dict[str, Any]:
    """The pipeline's registration, as a configuration holds it."""
    info = AudioVisualClassificationPipeline._registered_impl[TASK]
    return {
        TASK: {
            "impl": code_reference(AudioVisualClassificationPipeline),
            "pt": [auto_class.__name__ for auto_class in info["pt"]],
            "type": info["type"],
        }
    }


def copy_modeling_code(classes: Iterable[type], folder: Path) -> None:
    """Copy the files that define these classes, and every sibling that they import, to the root of `folder`."""
    for class_ in classes:
        file = str(sys.modules[class_.__module__].__file__)
        for needed in [file, *get_relative_import_files(file)]:
            shutil.copyfile(needed, folder / Path(needed).name)


def copy_clip_loader(folder: Path) -> None:
    """Write the files of `data/` that open a clip to the root of `folder`.

    Raises:
        ValueError: two files of one name, which a flat folder cannot hold.
    """
    source = Path(clips.__file__).parent
    pending, written = [CARRIED_CLIP_LOADER.partition(".")[0]], set()
    while pending:
        name = pending.pop()
        if name in written:
            continue
        written.add(name)
        target = folder / f"{name}.py"
        if target.exists():
            raise ValueError(f"{target.name} is in modeling/ and in data/; files that repositories carry need names.")
        code = (source / target.name).read_text(encoding="utf-8")
        target.write_text(re.sub(rf"^from {re.escape(DATA_PACKAGE)}\.", "from .", code, flags=re.M), encoding="utf-8")
        pending += _data_imports(code)


def _data_imports(code: str) -> list[str]:
    """Names of the modules of `data/` that a file of it imports."""
    modules = [node.module or "" for node in ast.walk(ast.parse(code)) if isinstance(node, ast.ImportFrom)]
    return [module.removeprefix(f"{DATA_PACKAGE}.") for module in modules if module.startswith(f"{DATA_PACKAGE}.")]
