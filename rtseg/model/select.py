"""The one place that knows which network a recipe asks for: a kind is a class, and a line here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rtseg.bundle.limits import check_architecture
from rtseg.bundle.network import Cell, NetworkSpec
from rtseg.config import ModelSettings, Recipe
from rtseg.errors import SettingError
from rtseg.model.base import SequenceModel
from rtseg.model.conv1d import Conv1D
from rtseg.model.fully_connected import FullyConnected
from rtseg.model.ms_tcn import MultiStageTCN
from rtseg.model.recurrent import GRU, LSTM
from rtseg.model.self_attention import SelfAttention
from rtseg.model.tcn import MultitaskTCN
from rtseg.model.transformer import Transformer
from rtseg.recordings.heads import Head

NETWORKS: dict[str, Callable[[int, Sequence[Head], ModelSettings], SequenceModel]] = {
    "ms-tcn": MultiStageTCN,
    "fully-connected": FullyConnected,
    "lstm": LSTM,
    "gru": GRU,
    "self-attention": SelfAttention,
    "conv1d": Conv1D,
    "transformer": Transformer,
}
"""Kind -> what makes a network with F features, heads and settings.

multitask-tcn is made from a NetworkSpec, gradient-boosting is no network.
"""


def make_model(
    recipe: Recipe, n_features: int, heads: Sequence[Head], views: tuple[tuple[int, ...], ...] = ()
) -> SequenceModel:
    """A fresh network of the kind `recipe.model.kind`, its weights drawn from torch's generator.

    views: of the features (`FeatureSpec.views`), for a network that forgets the animals' order.
    Raises SettingError for a kind that is no network (`rtseg.training.fit` trains every kind), and for a multitask-tcn
    whose distances in time can't be trained on every `train.frame_stride`-th frame. Raises BundleError for a network
    beyond `bundle.limits`.
    """
    settings, stride = recipe.model, recipe.train.frame_stride
    if settings.kind == "multitask-tcn":
        spec = network_spec(settings, n_features, heads, views if settings.forget_order else ())
        check_architecture(spec)  # before hours of training: no bundle may hold a larger one
        # Every n-th frame is a sequence of its own only if no layer reaches over to the frames between.
        distances = {*spec.dilations, *spec.head_dilations, *(cell.period for cell in spec.cells)}
        if any(frames % stride for frames in distances):
            raise SettingError(
                f"train.frame_stride = {stride} must divide every dilation and period of the network, which are "
                f"{', '.join(map(str, sorted(distances)))}: "
                "raise first_dilation, head_first_dilation or the cells' period"
            )
        return MultitaskTCN(spec, settings.dropout, settings.causal)
    # A kind that is accepted in recipes and missing here is no network: gradient-boosting.
    make = NETWORKS.get(settings.kind)
    if make is None:
        raise SettingError(f"model.kind = {settings.kind!r} is no network; networks are: {', '.join(NETWORKS)}")
    model = make(n_features, heads, settings)
    model.phases = stride
    return model


def network_spec(
    model: ModelSettings, n_features: int, heads: Sequence[Head], views: tuple[tuple[int, ...], ...] = ()
) -> NetworkSpec:
    """The sizes of the multitask network that a recipe asks for."""
    return NetworkSpec(
        n_features=n_features,
        channels=model.channels if model.layers else 0,  # 0: cells alone, no convolutions
        kernel=model.kernel,
        dilations=tuple(model.first_dilation * 2**i for i in range(model.layers)),
        head_channels=model.head_channels,
        head_dilations=tuple(model.head_first_dilation * 2**i for i in range(model.head_layers)),
        heads=tuple(heads),
        cells=tuple(Cell(c.encoder, c.hidden, c.period) for c in model.cells),
        views=views if model.cells else (),
    )
