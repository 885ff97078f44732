"""All settings, in frozen dataclasses; TOML files and `--set section.key=value` fill them.

Each part of the program gets its own section only. Unknown keys and wrong types are errors. No default stands anywhere
else.
"""

from rtseg.config.answers import DecodingSettings, GapSettings, RangeSettings
from rtseg.config.checks import check_abstain
from rtseg.config.model import KINDS, CellSettings, FeatureSettings, ModelSettings, ScalerSettings
from rtseg.config.reading import from_plain, load, to_plain
from rtseg.config.recipes import OnnxSettings, PaperSettings, PrecisionSettings, Recipe
from rtseg.config.serving import IDENTITY, ServeSettings
from rtseg.config.training import SELECTIONS, TASK_WEIGHTINGS, AugmentSettings, BoostingSettings, TrainSettings

__all__ = [
    "IDENTITY",
    "KINDS",
    "SELECTIONS",
    "TASK_WEIGHTINGS",
    "AugmentSettings",
    "BoostingSettings",
    "CellSettings",
    "DecodingSettings",
    "FeatureSettings",
    "GapSettings",
    "ModelSettings",
    "OnnxSettings",
    "PaperSettings",
    "PrecisionSettings",
    "RangeSettings",
    "Recipe",
    "ScalerSettings",
    "ServeSettings",
    "TrainSettings",
    "check_abstain",
    "from_plain",
    "load",
    "to_plain",
]
