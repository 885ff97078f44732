"""docs/dataset.md: every key of a dataset file, and examples that the reader takes."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from rtseg.errors import SettingError
from rtseg.frames.skeleton import Skeleton
from rtseg.recordings.dataset import Dataset, _dataset
from tests.conftest import REPO

PAGE = (REPO / "docs" / "dataset.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| `(.+?)` \| (.+) \|$", re.MULTILINE)
EXAMPLE = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
TABLES = ("skeleton", "recordings", "parts", "calms21", "heads", "split")
"""Keys of the file itself that have a section of their own on the page."""
PLACES = {"The file": "", "[[recordings]]": "recordings", "[[parts]]": "parts", "[[calms21]]": "calms21"}
PLACES |= {"[heads.NAME]": "heads", "[skeleton]": "skeleton"}
ROWS = [(section, *row) for section in PLACES for row in ROW.findall(SECTIONS[section])]
CALMS21 = {"file": "a.json", "split": "more", "heads": "social"}
PART = {"id": "begin", "recording": "m1"}


def example_with(section: str, key: str, value: Any) -> dict[str, Any]:
    """The page's example with one value more, in the table that the section is about."""
    plain = tomllib.loads(EXAMPLE)
    match PLACES[section]:
        case "recordings":
            plain["recordings"][0][key] = value
            plain["px_per_mm"] = 1.0  # which those of some recordings need
        case "parts":
            plain["parts"] = [{**PART, key: value}]
        case "calms21":
            plain["calms21"] = [{**CALMS21, key: value}]
        case "heads":
            plain["heads"]["attack"][key] = value
        case "skeleton":
            plain["skeleton"][key] = value
        case _:
            plain[key] = value
    return plain


def read(plain: dict[str, Any]) -> Dataset:
    return _dataset(Path("mymice.dataset.toml"), plain, None)


def test_the_example_of_the_page_is_read() -> None:
    dataset = read(tomllib.loads(EXAMPLE))
    assert dataset.ids("train") == ("m1", "m2")
    assert dataset.ids("validation") == ("m3",)


@pytest.mark.parametrize("section", PLACES)
def test_the_page_names_every_key_that_is_accepted(section: str) -> None:
    named = [key for own, key, *_ in ROWS if own == section]
    if section == "[skeleton]":
        assert named == [field.name for field in fields(Skeleton)]
        return
    with pytest.raises(SettingError, match="accepted here") as refused:
        read(example_with(section, "no_such_key", 1))
    accepted = str(refused.value).split("accepted here: ")[1].split(", ")
    assert sorted(named) == sorted(set(accepted) - (set(TABLES) if section == "The file" else set()))


@pytest.mark.parametrize(("section", "key", "default", "example", "when"), ROWS, ids=[f"{r[0]} {r[1]}" for r in ROWS])
def test_the_example_is_accepted(section: str, key: str, default: str, example: str, when: str) -> None:
    assert when
    assert default != f"`{example}`"
    read(example_with(section, key, tomllib.loads(f"x = {example}")["x"]))
