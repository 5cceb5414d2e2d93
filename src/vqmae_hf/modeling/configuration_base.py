"""What every configuration does with code that came along with a checkpoint, and with configurations inside it."""

from typing import Any

from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassError
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

    def build_sub_configs(self) -> None:
        """
        Make configurations of the fields that hold dictionaries of them.

        Raises:
            StrictDataclassClassValidationError: what one of them refuses, in the name of its field.
        """
        for name, config_class in self.sub_configs.items():
            given = getattr(self, name)
            if not isinstance(given, dict):
                continue
            try:
                setattr(self, name, config_class(**given))
            except StrictDataclassError as error:
                problem = ValueError(f"{name}: {error.__cause__ or error}")
                raise StrictDataclassClassValidationError("build_sub_configs", problem) from problem
