"""The probabilities of one head's classes: an array that is also asked by a class's name.

In-process answers and those from the wire hold the same, so that a loop reads them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


class ClassProbabilities(np.ndarray[Any, np.dtype[np.float32]]):
    """(classes,) float32: `probs["attack"]`, `probs[0]`, `probs.items()`, `probs.max()`.

    classes: their names in the order of the array, none where they are not known (a daemon changed its model and has
    not said so yet). Raises KeyError for a name that is none of them.
    """

    classes: tuple[str, ...]

    @classmethod
    def of(cls, values: NDArray[np.float32], classes: Sequence[str]) -> Self:
        """A view of an array (classes,). AssertionError for another number of names than 0 or its length."""
        assert not classes or len(classes) == len(values)
        view = values.view(cls)
        view.classes = tuple(classes)
        return view

    def __array_finalize__(self, _: object) -> None:
        # What is computed from it, or cut out of it, has other numbers at other places.
        self.classes = ()

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """What is computed from it is a plain array, or a number."""
        plain = np.asarray(array)
        return plain[()] if plain.ndim == 0 else plain

    def __getitem__(self, key: Any) -> Any:
        if type(key) is not str:
            return super().__getitem__(key)
        try:
            return float(super().__getitem__(self.classes.index(key)))
        except ValueError:
            raise KeyError(
                f"no class {key!r}; there are: {', '.join(self.classes) or 'names that are not known'}"
            ) from None

    def items(self) -> list[tuple[str, float]]:
        """Each class with its probability."""
        return list(zip(self.classes, self.tolist(), strict=True))

    def __repr__(self) -> str:
        """As a person reads it."""
        if not self.classes:
            return repr(self.view(np.ndarray))
        return "{" + ", ".join(f"{name!r}: {p:.3g}" for name, p in self.items()) + "}"

    __str__ = __repr__
