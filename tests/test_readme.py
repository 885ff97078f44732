"""What the pages promise: examples run, commands parse, links and named files are there."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from rtseg import cli
from tests.live import REPO, daemon

README = (REPO / "README.md").read_text(encoding="utf-8")
PAGES = [REPO / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted(REPO.glob("docs/**/*.md"))
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
PYTHON = [text for language, text in BLOCKS if language == "python"]
# Comments in the shipped recipes say how they are run; the engines' pages belong to the promise too.
SPOKEN = [*PAGES, *sorted(REPO.glob("engines/*.toml"))]
COMMANDS = sorted(
    {
        re.split(r"\s#", line.removeprefix("#").strip())[0].strip()
        for page in SPOKEN
        for line in page.read_text(encoding="utf-8").splitlines()
        if re.match(r"#?\s*rtseg [a-z]+ ", line)
    }
)


def test_there_are_examples_at_all() -> None:
    assert len(PYTHON) == 2
    assert len(COMMANDS) >= 5


def test_in_your_own_loop(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if not (REPO / "engines" / "mice-sim" / "manifest.json").is_file():
        pytest.skip("needs engines/mice-sim, which is not trained yet")
    monkeypatch.chdir(REPO)
    exec(PYTHON[0], {})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line[0].isdigit()] == ["0", "1", "2"]


def test_over_zeromq(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with daemon(tiny_bundle) as child:
        text = PYTHON[1]
        for written, served in (("5757", child.frames), ("5758", child.predictions)):
            assert f'"tcp://127.0.0.1:{written}"' in text
            text = text.replace(f"tcp://127.0.0.1:{written}", served)
        exec(text, {})
    *lines, ended = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    for line in lines:
        label, probability = line.split()[1:]
        assert label in ("attack", "investigation", "mount", "other")
        assert 0 <= float(probability) <= 1
    assert ended == "stream 'cage 1' was closed: bye"


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_parses(line: str) -> None:
    _, name, *words = shlex.split(line)
    command: Any = typer.main.get_command(cli.app)
    words = [name, *words]
    while hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"there is no `rtseg {name}`"
        command = command.commands[name]
    command.make_context(name, words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_command_named_in_the_text_is_there(page: Path) -> None:
    group: Any = typer.main.get_command(cli.app)
    named = set(re.findall(r"`rtseg ([a-z]+)", page.read_text(encoding="utf-8")))
    assert named <= set(group.commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_named_files_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = {link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link}
    for link in links:
        assert (page.parent / link).exists(), f"{page.name} links {link}"
    for named in set(re.findall(r"\bbenchmarks/results/[\w./-]*\w", text)):
        assert (REPO / named).exists(), f"{page.name} names {named}"
    for script in set(re.findall(r"(?<![\w/])scripts/\w+", text)):
        assert os.access(REPO / script, os.X_OK), f"{page.name} names {script}: not there or not executable"


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.findall(r"@@\w+@@", README)


def test_extras_that_are_named_exist() -> None:
    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set(re.findall(r"\.\[(\w+)\]", README))
    assert named
    assert named <= set(extras)
