"""What every kind of model has, whatever it computes: features, heads, tensors, and what a step of it costs.

Serving, scores and studies ask for no more than this. What only networks have is asked of `Bundle.network`, which says
so where the bundle holds something else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rtseg.errors import BundleError, SettingError
from rtseg.recordings.heads import Head, output_offsets

LARGEST_SIZE = 16_384
"""What no size of a model exceeds: checked before anything is counted up to it."""


class Architecture(ABC):
    """The form of a bundle's model. n_features: F. heads: in the order of the P outputs."""

    n_features: int
    heads: tuple[Head, ...]

    @property
    def n_outputs(self) -> int:
        """P."""
        return self.offsets[-1]

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each head begins in the outputs, and P at the end. Length H + 1."""
        return output_offsets(self.heads)

    @property
    @abstractmethod
    def looks_back(self) -> str:
        """Of how many frames before the answered one an answer is made, in words."""

    @property
    @abstractmethod
    def receptive_field(self) -> int:
        """Frames of features that one answer depends on, as far as they can be counted."""

    @property
    @abstractmethod
    def multiply_adds(self) -> int:
        """Multiply-adds of one step, for one frame of one stream; 0 for trees, which compare."""

    @property
    @abstractmethod
    def work(self) -> int:
        """What a step costs, in multiply-adds that take as long."""

    @property
    @abstractmethod
    def size(self) -> str:
        """What the model has and computes for a frame, in words."""

    @property
    @abstractmethod
    def state_floats(self) -> int:
        """float32 numbers that a stream's state has."""

    @abstractmethod
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor."""

    def dtype(self, name: str) -> np.dtype[Any]:
        """Of a tensor: 32 bits, whatever it holds."""
        return np.dtype(np.float32)

    def check_tensors(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Raise BundleError unless engines may read these: all there, of their shapes, and nothing that is not finite.

        Engines index what they are given without a check, so a kind whose tensors hold places checks those as well.
        """
        shapes = self.shapes()
        for name, shape in shapes.items():
            found, kind = tensors.get(name), self.dtype(name)
            if found is None or found.shape != shape or found.dtype != kind:
                got = "nothing" if found is None else f"{found.shape} {found.dtype}"
                raise BundleError(f"weight {name!r}: expected {shape} {kind}, got {got}")
            if not np.isfinite(found).all():
                raise BundleError(f"weight {name!r} holds a number that is not finite")
        if set(tensors) - set(shapes):
            unknown = ", ".join(sorted(set(tensors) - set(shapes)))
            raise BundleError(f"weights that the architecture does not know: {unknown}")

    def select_heads(self, names: Sequence[str]) -> Self:
        """The same model without the heads that are not named, which keep their order.

        Every tensor that is left has its name and shape, and no answer of a head that is left changes. Raises
        SettingError for a name that no head has, and for none.
        """
        unknown = [name for name in names if name not in {h.name for h in self.heads}]
        if unknown or not names:
            wrong = f"unknown head {', '.join(map(repr, unknown))}" if unknown else "no head named"
            raise SettingError(f"{wrong}; there are: {', '.join(h.name for h in self.heads)}")
        return self._with_heads([place for place, head in enumerate(self.heads) if head.name in names])

    @abstractmethod
    def _with_heads(self, places: Sequence[int]) -> Self: ...

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a manifest; `kind` names the class that reads them."""


def calibration_shapes(head: Head) -> dict[str, tuple[int, ...]]:
    """The two tensors of a head's calibration: p = softmax(logits * scale + shift)."""
    n = (len(head.classes),)
    return {f"head.{head.name}.calibration.scale": n, f"head.{head.name}.calibration.shift": n}


def heads_to_list(heads: Sequence[Head]) -> list[dict[str, Any]]:
    """Plain values of the heads, for a manifest."""
    return [{"name": h.name, "classes": list(h.classes), "scored": list(h.scored), "group": h.group} for h in heads]


def heads_from_list(plain: Sequence[Mapping[str, Any]]) -> tuple[Head, ...]:
    """The inverse. Raises BundleError for classes that no head can have, KeyError and TypeError for wrong fields."""
    heads = tuple(Head(str(h["name"]), tuple(h["classes"]), tuple(h["scored"]), str(h["group"])) for h in plain)
    for head in heads:
        if len(head.classes) < 2 or len(set(head.classes)) < len(head.classes) or set(head.scored) - set(head.classes):
            raise BundleError(f"head {head.name!r} has the classes {head.classes}, scored {head.scored}")
    return heads


def check_sizes(sizes: Sequence[Any], least: int = 1, most: int = LARGEST_SIZE) -> None:
    """Raise BundleError for a size that is not a whole number in least .. most."""
    for size in sizes:
        # Not isinstance: True is an int.
        if type(size) is not int or not least <= size <= most:
            kind = "positive" if least else "not negative"
            raise BundleError(
                f"sizes and dilations of an architecture are whole and {kind}, got {size!r}; at most {most}"
            )
