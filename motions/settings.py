"""The base of every configuration model.

Each layer declares its options in a `settings.py` of its own as small groups of fields; a job's configuration
inherits the groups it needs, so one flat model reads presets, flags and Tune's search space, and a function of a
layer that wants `RewardSettings` takes the job's configuration as it is. These modules import neither torch nor ray.
"""

from pydantic import BaseModel, ConfigDict

BUILTIN = "builtin"
"""Value of an option that selects the motions, policy or TMR networks that come with kinetune."""


class Settings(BaseModel):
    """A frozen group of options: unknown names are errors, and the string under a field is its documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True, populate_by_name=True
    )
