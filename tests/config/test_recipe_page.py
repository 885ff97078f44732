"""docs/recipe.md: every key of a recipe, its default, and an example that is read and differs from the default."""

from __future__ import annotations

import re
import tomllib
from typing import Any, get_type_hints

import pytest

from rtseg import config
from rtseg.errors import SettingError
from tests.config.test_settings_page import HEADINGS, defaults_of
from tests.conftest import REPO

PAGE = (REPO / "docs" / "recipe.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(*[iter(re.split(r"^## (.*)\n", PAGE, flags=re.MULTILINE)[1:])] * 2, strict=True))
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| `(.+)` \| (.+) \|$", re.MULTILINE)
KINDS = {config.Recipe, config.CellSettings, *get_type_hints(config.Recipe).values()}
RECIPE_PARTS = {name: kind for name, kind in HEADINGS.items() if kind in KINDS}
REQUIRED = 'name = "a"\ndataset = "a.toml"\narena = [0.0, 0.0, 1.0, 1.0]\n'
CELLS = "[model]\nlayers = 0\nhead_layers = 0\nhead_channels = 0\ncells = [{}]\n"
EXAMPLES = [(part, *row) for part in RECIPE_PARTS for row in ROW.findall(SECTIONS.get(part, ""))]


@pytest.mark.parametrize("part", RECIPE_PARTS)
def test_every_key_stands_on_the_page_with_its_default(part: str) -> None:
    assert part in SECTIONS, f"docs/recipe.md has no section {part!r}"
    rows = ROW.findall(SECTIONS[part])
    assert {key: default for key, default, _, _ in rows} == defaults_of(RECIPE_PARTS[part])
    assert [key for key, *_ in rows] == list(defaults_of(RECIPE_PARTS[part]))


@pytest.mark.parametrize(
    ("part", "key", "default", "example", "when"), EXAMPLES, ids=[f"{e[0]} {e[1]}" for e in EXAMPLES]
)
def test_the_example_is_read_and_is_not_the_default(part: str, key: str, default: str, example: str, when: str) -> None:
    assert when
    assert f"`{example}`" != default
    value = tomllib.loads(f"x = {example}")["x"]
    # Some settings go with cells alone, others with convolutions alone.
    problems = [problem for base in (REQUIRED, REQUIRED + CELLS) if (problem := problem_of(base, part, key, value))]
    assert len(problems) < 2, problems[0]


def problem_of(base: str, part: str, key: str, value: Any) -> str:
    """Why a recipe with that value is refused; '' where it is read."""
    plain = tomllib.loads(base)
    if part == "model.cells":
        plain.setdefault("model", {})["cells"] = [{key: value}]
    else:
        section = plain if part == "A recipe" else plain.setdefault(part.strip("[]"), {})
        section[key] = value
    try:
        config.from_plain(plain, config.Recipe)
    except SettingError as error:
        return str(error)
    return ""


def test_a_wrong_example_would_be_noticed() -> None:
    assert "threads" in problem_of(REQUIRED, "[train]", "threads", 0)
    assert "accepted" in problem_of(REQUIRED, "[train]", "no_such_key", 1)
