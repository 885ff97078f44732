"""What the columns of a table of poses are, by their names: points, and of which animal; the rest by what it says.

Names are all that a plain table has. What they do not say is not guessed: it is left out and told, or refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from rtseg.recordings.files.column_names import counts_frames, is_index, plain_name
from rtseg.recordings.poses.layout import Column

_COORD = "x|y|score|scores|confidence|conf|likelihood|prob|probability|certainty"
_POINT = re.compile(rf"^(?P<name>.+)\.(?P<coord>{_COORD})$", re.IGNORECASE)
_POINT_WITH_UNDERSCORE = re.compile(rf"^(?P<name>.+)_(?P<coord>p|{_COORD})$", re.IGNORECASE)
_UNCLEAR = re.compile(
    r"^(?P<name>.+)[._](v|vis|visible|visibility|occluded|occlusion|c|s|[xy](\.\d+|[._]?dup\w*))$", re.IGNORECASE
)
"""What stands behind a point's name and is no place and no likelihood, but bears on it; .1 is pandas' of a double."""
_DEPTH = re.compile(r"^(.+[._])?z$", re.IGNORECASE)
_NO_PLACE = re.compile(
    r"(^|[._\s-])(velocity|velocities|vel|speed|acceleration|acc|displacement|heading|direction|orientation|"
    r"resolution|bbox)([._\s-]|$)",
    re.IGNORECASE,
)
"""Words of pairs x, y that are no point of an animal: how it moves, where it looks, how large the picture is."""
_WHOSE = (
    *("id", "trackid", "animal", "animalid", "individual", "individuals", "identity", "instance", "instanceid"),
    *("mouse", "mouseid", "rat", "ratid", "fish", "fishid", "subject", "subjectid", "object", "objectid", "label"),
    *("video", "videoid", "videoname", "file", "filename", "session", "trial", "camera", "cam", "view", "person"),
)
_PARTS = frozenset(
    {"head", "nose", "snout", "ear", "eye", "mouth", "neck", "body", "back", "spine", "shoulder", "chest", "belly"}
    | {"hip", "tail", "paw", "leg", "foot", "arm", "hand", "elbow", "knee", "ankle", "wrist", "wing", "fin", "thorax"}
    | {"abdomen", "antenna", "center", "centre", "centroid", "base", "tip", "mid", "middle", "raw", "filtered"}
)
"""Words that are part of a body and no animal."""
_SIDES = frozenset({"left", "right", "l", "r", "upper", "lower", "top", "bottom", "front", "back", "rear", "hind"})
"""What stands before or behind a keypoint and is no animal."""
_ONCE_IN_AN_ANIMAL = frozenset({"nose", "snout", "head", "tailbase", "center", "centre", "centroid"})
_ONCE_IN_A_BODY = frozenset({"nose", "snout", "tailbase"})
"""The same of names that begin with a word: head_center and tail_center are points of one animal."""
_ANIMAL_WORDS = frozenset(
    {"black", "white", "brown", "red", "blue", "green", "yellow", "gray", "grey", "resident", "intruder", "male"}
    | {"female", "adult", "juvenile", "pup", "mother", "dam", "observer", "demonstrator", "partner", "stimulus"}
    | {"conspecific", "focal", "target", "self", "other", "mouse", "rat", "fish", "fly", "bird", "a", "b", "c", "d"}
)
"""What labs call animals behind a keypoint's name."""


class _Form(NamedTuple):
    """A way to write several animals' points.

    pattern: of the names. called: the animal's name. once: points of which an animal has one.
    """

    pattern: re.Pattern[str]
    called: str
    once: frozenset[str]


_FORMS = (
    # Nose_1, as SimBA's are; nose1.
    _Form(re.compile(r"^(?P<keypoint>.+)[_.\-\s](?P<animal>\d+)$"), "animal_{}", _ONCE_IN_AN_ANIMAL),
    _Form(re.compile(r"^(?P<keypoint>.*[^\W\d_])(?P<animal>\d+)$"), "animal_{}", _ONCE_IN_A_BODY),
    # mouse_1_nose before mouse1_nose: of the second form the first would be an animal 'mouse' with points 1_nose.
    _Form(re.compile(r"^(?P<animal>[^\W\d_]+[_.\-\s]\d+)[_.\-\s](?P<keypoint>.+)$"), "{}", _ONCE_IN_A_BODY),
    _Form(re.compile(r"^(?P<animal>[^_.\-\s]+)[_.\-\s](?P<keypoint>.+)$"), "{}", _ONCE_IN_A_BODY),
    # nose_m1, nose_black.
    _Form(re.compile(r"^(?P<keypoint>.+)[_.\-\s](?P<animal>[^_.\-\s]+)$"), "{}", _ONCE_IN_A_BODY),
)


class Points(NamedTuple):
    """columns: number of a column -> (animal or '', keypoint, coordinate).

    no_places: names of pairs that are no points. mixed: a point with an animal before its name and one without, where
    a table has both; () where not.
    """

    columns: dict[int, Column]
    no_places: tuple[str, ...] = ()
    mixed: tuple[str, ...] = ()


def frame_column(names: Sequence[str]) -> int | None:
    """The column that counts frames; None where there is none."""
    frame = next((i for i, name in enumerate(names) if counts_frames(name)), None)
    # An index without a name counts frames where all else are points: SimBA's labels have other columns as well.
    points = points_of(names).columns
    is_counted = is_index(names[0]) and len(points) == len(names) - 1
    return 0 if frame is None and is_counted and has_places(points.values()) else frame


def has_places(columns: Iterable[Column]) -> bool:
    """Whether some of the columns are places, and not likelihoods alone, as those of behaviours are."""
    return any(coord == "x" for _, _, coord in columns)


def points_of(names: Sequence[str]) -> Points:
    """The columns that hold points, by all names of a table: see `_points_of`."""
    return _points_of(tuple(names))


# A file that grows asks for every few rows.
@lru_cache(maxsize=16)
def _points_of(names: tuple[str, ...]) -> Points:
    """The columns that hold points.

    With dots (`animal.keypoint.x`, `keypoint.x`) where any name has them, else with underscores. Dots within a point's
    own name (R writes `left.ear.x`) are told from those behind an animal by words of bodies. See `several_animals`.
    """
    found = {i: m for i, name in enumerate(names) if (m := _POINT.match(name)) and m["name"].lower() != "instance"}
    has_dots = bool(found)
    if not has_dots:
        found = {i: m for i, name in enumerate(names) if (m := _POINT_WITH_UNDERSCORE.match(name))}
    no_places = tuple(names[i] for i, m in found.items() if _NO_PLACE.search(m["name"]))
    found = {i: m for i, m in found.items() if names[i] not in no_places}
    # A likelihood without a place is that of a behaviour, or of nothing that is known.
    places = {m["name"] for m in found.values() if m["coord"].lower() in ("x", "y")}
    found = {i: m for i, m in found.items() if m["name"] in places}
    own = dict.fromkeys(m["name"] for m in found.values())
    has_animals = has_dots and any("." in name for name in own) and not _are_parts(own)
    parted = _before_dots(own) if has_animals else several_animals(list(own))
    whole = [name for name in own if name not in parted]
    mixed = (next(iter(parted)), whole[0]) if has_animals and whole else ()
    coords = {i: m["coord"].lower() for i, m in found.items()}
    columns = {
        i: (*parted.get(m["name"], ("", m["name"])), coords[i] if coords[i] in ("x", "y") else "likelihood")
        for i, m in found.items()
    }
    if not has_animals:
        # The order of animals is what a model of other names goes by.
        animals = list(dict.fromkeys(animal for animal, _ in parted.values())) or [""]
        columns = {i: columns[i] for i in sorted(columns, key=lambda i: animals.index(columns[i][0]))}
    return Points(columns, no_places, mixed)


def _before_dots(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Name -> animal and keypoint, of those that have a dot between them."""
    return {name: (animal, point) for name in names for animal, dot, point in [name.partition(".")] if dot}


def _are_parts(names: Iterable[str]) -> bool:
    """Whether what stands before the first dot of names is part of a body or a side of it, and no animal."""
    parted = [name.partition(".") for name in names if "." in name]
    before = {animal.lower() for animal, _, _ in parted}
    is_side = bool(before & _SIDES) and not any(_is_once(point, _ONCE_IN_A_BODY) for _, _, point in parted)
    return bool(before & _PARTS) or is_side


def several_animals(keypoints: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Keypoint -> animal and its keypoint, of names such as Nose_1, Tail_base_1, Nose_2, Tail_base_2, as SimBA's are,
    or mouse1_nose, mouse1_tail, mouse2_nose, mouse2_tail. In the order of numbers, as tracks are, and else of columns.

    Empty unless all are made alike and among them is a point that an animal has once: nobody has two noses, and
    spine_1, spine_2 or left_ear, right_ear are points of one animal.
    """
    for form in _FORMS:
        parts = {name: found for name in keypoints if (found := form.pattern.match(name))}
        if len(parts) < len(keypoints) or not _are_animals(form, list(parts.values())):
            continue
        is_numbered = form.called != "{}"
        in_order = sorted(parts, key=lambda name: int(parts[name]["animal"])) if is_numbered else list(parts)
        return {name: (form.called.format(parts[name]["animal"]), parts[name]["keypoint"]) for name in in_order}
    return {}


def _are_animals(form: _Form, parts: Sequence[re.Match[str]]) -> bool:
    """Whether names that are written so are those of several animals, each with the same points."""
    animals: dict[str, set[str]] = {}
    for found in parts:
        animals.setdefault(found["keypoint"].lower(), set()).add(found["animal"])
    own = {animal.lower() for some in animals.values() for animal in some}
    is_alike = len({frozenset(some) for some in animals.values()}) == 1 and len(own) > 1 and len(animals) > 1
    is_once = any(_is_once(point, form.once) for point in animals)
    # Behind a point's name most words are parts of it (tip, raw): there only what labs call animals.
    is_behind = form is _FORMS[-1]
    is_named = all(map(_is_animal_word, own))
    return is_alike and is_once and not own & (_SIDES | _PARTS) and (is_named or not is_behind)


def _is_animal_word(word: str) -> bool:
    """Whether it is what labs call animals: a word of a list, or a word and a number, such as m1."""
    lower = word.lower()
    known = re.match(r"[^\W\d_]+", lower)
    is_numbered = bool(re.fullmatch(r"[^\W\d_]+[_.\-\s]?\d+", lower))
    return lower in _ANIMAL_WORDS or (is_numbered and known is not None and known[0] not in _PARTS | _SIDES)


def _is_once(point: str, once: frozenset[str]) -> bool:
    return re.sub(r"[^a-z]", "", point.lower()) in once


def is_place(name: str) -> bool:
    """Whether a column is called like a coordinate, with a dot or an underscore."""
    found = _POINT.match(name) or _POINT_WITH_UNDERSCORE.match(name)
    return found is not None and found["coord"].lower() in ("x", "y") and not _NO_PLACE.search(found["name"])


def named_animals(keypoints: Sequence[str]) -> list[str]:
    """The animals after which keypoints may be named, whether or not each has the same points; [] where none is."""
    if several := several_animals(keypoints):
        return list(dict.fromkeys(animal for animal, _ in several.values()))
    for form in _FORMS[2:]:
        parts = [found for name in keypoints if (found := form.pattern.match(name))]
        animals = list(dict.fromkeys(found["animal"] for found in parts))
        shared = len({found["keypoint"] for found in parts}) < len(parts)
        if shared and len(parts) == len(keypoints) and len(animals) > 1 and all(map(_is_animal_word, animals)):
            return animals
    return []


def is_depth(name: str) -> bool:
    """Whether a column is a third coordinate."""
    return bool(_DEPTH.match(name))


def is_unclear(name: str, points: Iterable[str]) -> bool:
    """Whether a column says of one of the points (columns' names) what nobody should pass over: seen? there twice?"""
    found = _UNCLEAR.match(name)
    return found is not None and any(re.match(rf"{re.escape(found['name'])}[._]x$", p, re.IGNORECASE) for p in points)


def is_whose(name: str) -> bool:
    """Whether a column says whose a row is: an animal's, or a video's."""
    return plain_name(name) in _WHOSE
