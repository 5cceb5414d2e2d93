"""What every configuration of this package does with the code that came along with a checkpoint."""

from typing import Any

from transformers import PreTrainedConfig

# Modules that transformers makes of the files in a checkpoint's folder or repository.
CARRIED_MODULES = "transformers_modules"
CODE_REFERENCES = ("auto_map", "custom_pipelines")


class CheckpointConfig(PreTrainedConfig):
    """
    A configuration for which installed classes come first.

    A published checkpoint names the code that it carries, in `auto_map` and `custom_pipelines`. Where this package is
    installed, its own classes are used and these names say nothing: they are dropped. Otherwise transformers would ask for
    `trust_remote_code=True` for the pipeline, and a checkpoint saved again would point at files that do not lie beside it.

    What a configuration refuses, it refuses as those of transformers do, by an error of `huggingface_hub.errors`:
    `StrictDataclassFieldValidationError` for a field of another type, `StrictDataclassClassValidationError` for values that
    make no sense, whose cause is the `ValueError` that names them. Both are a `StrictDataclassError`, and no `ValueError`.
    """

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """See [`~transformers.PreTrainedConfig.from_dict`]."""
        if cls.__module__.partition(".")[0] != CARRIED_MODULES:
            config_dict = {name: value for name, value in config_dict.items() if name not in CODE_REFERENCES}
        return super().from_dict(config_dict, **kwargs)
