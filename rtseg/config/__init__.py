"""All settings, in frozen dataclasses; TOML files and `--set section.key=value` fill them.

answers   What becomes of probabilities, and of frames that are missing or unlike training's
checks    What settings check themselves by
model     A network and what goes into it
reading   Settings out of TOML files and `--set section.key=value`, every key and type checked
recipes   Whole recipes
serving   What a daemon is told
training  How models are trained
"""

from rtseg.config.answers import DecodingSettings, GapSettings, RangeSettings
from rtseg.config.checks import check_abstain
from rtseg.config.model import KINDS, CellSettings, FeatureSettings, ModelSettings, ScalerSettings
from rtseg.config.reading import from_plain, load, to_plain
from rtseg.config.recipes import OnnxSettings, PaperSettings, PrecisionSettings, Recipe
from rtseg.config.serving import IDENTITY, ServeSettings, WorkerPlace
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
    "WorkerPlace",
    "check_abstain",
    "from_plain",
    "load",
    "to_plain",
]
