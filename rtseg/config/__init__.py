"""All settings, in frozen dataclasses; TOML files and `--set section.key=value` fill them; docs/settings.md lists them.

checks     How settings check their values: `require`, `check_abstain`
experiment  A session from its beginning to its end: `ExperimentSettings`, `CameraSettings`
inference  What happens around the network: `DecodingSettings`, `GapSettings`, `RangeSettings`, `BodySettings`
model      A network and its inputs: `FeatureSettings`, `ScalerSettings`, `CellSettings`, `ModelSettings`, `KINDS`
reading    From TOML and overrides to dataclasses, every key and type checked: `load_settings`, `from_plain`, `to_plain`
recipes    Whole files, and settings of commands: `Recipe`, `PaperSettings`, `CrossValidationSettings` ...
serving    The daemon and its workers: `ServeSettings`, `WorkerPlace`, `IDENTITY`
sinks      Where a trigger's line goes: `SinkSettings` and its kinds, `SINK_KINDS`
toml_text  Settings as a TOML file: `toml_text`
training   Augmentation, the training loop, gradient boosting: `AugmentSettings`, `TrainSettings`, `BoostingSettings`
triggers   Behaviour triggers: `TriggerFile`, `TriggerSettings`, `ConditionSettings`, `ArmSettings`, `QUALITY_FLAGS`
"""

from rtseg.config.checks import check_abstain
from rtseg.config.experiment import CameraSettings, ExperimentSettings
from rtseg.config.inference import BodySettings, DecodingSettings, GapSettings, RangeSettings
from rtseg.config.model import (
    KINDS,
    MAX_LOOKAHEAD_FRAMES,
    NO_BUNDLE,
    CellSettings,
    FeatureSettings,
    ModelSettings,
    ScalerSettings,
)
from rtseg.config.reading import from_plain, load_settings, to_plain
from rtseg.config.recipes import CrossValidationSettings, OnnxSettings, PaperSettings, PrecisionSettings, Recipe
from rtseg.config.serving import IDENTITY, ServeSettings, WorkerPlace
from rtseg.config.sinks import (
    SINK_KINDS,
    LslSinkSettings,
    OpenEphysSinkSettings,
    OscSinkSettings,
    SerialSinkSettings,
    SinkSettings,
    ZmqSinkSettings,
)
from rtseg.config.training import SELECTIONS, TASK_WEIGHTINGS, AugmentSettings, BoostingSettings, TrainSettings
from rtseg.config.triggers import QUALITY_FLAGS, ArmSettings, ConditionSettings, TriggerFile, TriggerSettings

__all__ = [
    "IDENTITY",
    "KINDS",
    "MAX_LOOKAHEAD_FRAMES",
    "NO_BUNDLE",
    "QUALITY_FLAGS",
    "SELECTIONS",
    "SINK_KINDS",
    "TASK_WEIGHTINGS",
    "ArmSettings",
    "AugmentSettings",
    "BodySettings",
    "BoostingSettings",
    "CameraSettings",
    "CellSettings",
    "ConditionSettings",
    "CrossValidationSettings",
    "DecodingSettings",
    "ExperimentSettings",
    "FeatureSettings",
    "GapSettings",
    "LslSinkSettings",
    "ModelSettings",
    "OnnxSettings",
    "OpenEphysSinkSettings",
    "OscSinkSettings",
    "PaperSettings",
    "PrecisionSettings",
    "RangeSettings",
    "Recipe",
    "ScalerSettings",
    "SerialSinkSettings",
    "ServeSettings",
    "SinkSettings",
    "TrainSettings",
    "TriggerFile",
    "TriggerSettings",
    "WorkerPlace",
    "ZmqSinkSettings",
    "check_abstain",
    "from_plain",
    "load_settings",
    "to_plain",
]
