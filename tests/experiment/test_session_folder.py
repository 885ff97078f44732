"""An experiment's file, and the folder of a session."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rtseg.bundle.bundle import load_bundle
from rtseg.errors import RecordingError, SettingError
from rtseg.experiment.run import check_experiment
from rtseg.experiment.session_folder import SessionFolder, load_experiment
from rtseg.triggers.trial import load_trigger_file
from tests.conftest import REPO
from tests.experiment.examples import TRIGGERS, write_experiment

STARTED = datetime(2026, 11, 30, 14, 5, 9, tzinfo=UTC)
SINK = TRIGGERS + 'sinks = ["box"]\nline = 3\n[sinks.box]\nkind = "serial"\nport = "/dev/none"\n'


def test_a_folder_holds_what_was_asked_for_and_is_never_taken_twice(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path, triggers=SINK))
    bundle = load_bundle(experiment.bundle)
    first, second = (SessionFolder.create(experiment, bundle, STARTED, armed=True) for _ in range(2))
    assert first.path == tmp_path / "sessions" / "2026-11-30T14-05-09_m-12-3_day-3"
    assert second.path.name == f"{first.path.name}_2"
    about = first.about
    assert about["metadata"] == {"subject": "m 12/3", "session": "day 3", "operator": "<b>AB</b>", "cage": "4"}
    assert about["mode"] == "armed"
    assert about["bundle"]["hash"] == bundle.hash
    assert {"rtseg", "python", "numpy", "numba"} <= set(about["versions"])
    assert (first.path / "experiment.toml").read_bytes() == experiment.path.read_bytes()
    assert load_trigger_file(first.path / "triggers.toml") == experiment.triggers


@pytest.mark.parametrize("record", ["t.toml", "t.toml/deeper", "/dev/null", "/proc/none", "a\\u0000b"])
def test_a_place_where_no_folder_can_be_made_is_named(tmp_path: Path, record: str) -> None:
    path = changed(write_experiment(tmp_path), 'record = "sessions"', f'record = "{record}"')
    experiment = load_experiment(path)
    with pytest.raises(SettingError, match=r"experiment\.toml: record = .*: no session's folder can be made there"):
        SessionFolder.create(experiment, load_bundle(experiment.bundle), STARTED, armed=False)


def test_any_subject_makes_a_folder_beside_the_others(tmp_path: Path) -> None:
    path = write_experiment(tmp_path)
    bundle = load_bundle(load_experiment(path).bundle)
    for subject in (
        "../../away",
        "a/b\\n\\t",
        "\N{MOUSE FACE}" * 60,
        "\N{CJK UNIFIED IDEOGRAPH-9F20}" * 60,
        "...",
        "-",
    ):
        experiment = load_experiment(path, [f'metadata.subject="{subject}"', f'metadata.session="{subject}"'])
        folder = SessionFolder.create(experiment, bundle, STARTED, armed=False)
        assert folder.path.parent == tmp_path / "sessions"
        assert folder.about["metadata"]["session"] == experiment.settings.metadata["session"]


def test_armed_needs_a_trigger_with_sinks(tmp_path: Path) -> None:
    path = write_experiment(tmp_path)
    check_experiment(load_experiment(path))
    with pytest.raises(SettingError, match="--armed: no trigger of the experiment names sinks"):
        check_experiment(load_experiment(path), armed=True)
    write_experiment(tmp_path, triggers=SINK)
    check_experiment(load_experiment(path), armed=True)


def test_a_dry_run_has_no_sinks_and_is_otherwise_the_same(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path, triggers=SINK))
    assert experiment.triggers is not None
    folder = SessionFolder.create(experiment, load_bundle(experiment.bundle), STARTED, armed=False)
    dry = load_trigger_file(folder.path / "triggers.toml")
    assert not dry.sinks
    assert dry.triggers["near"].sinks == ()
    assert dry.triggers["near"].arms == experiment.triggers.triggers["near"].arms
    assert dry.triggers["near"].on == experiment.triggers.triggers["near"].on


def test_yoked_events_travel_with_the_session(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        "stream,trigger,seq,decision,arm,last_seq,ended\nother,near,5,fired,real,9,closed\n", encoding="utf-8"
    )
    path = write_experiment(tmp_path, triggers='[triggers.near]\narms = { yoked = "log.csv" }\n')
    experiment = load_experiment(path)
    folder = SessionFolder.create(experiment, load_bundle(experiment.bundle), STARTED, armed=False)
    (tmp_path / "log.csv").unlink()
    assert load_trigger_file(folder.path / "triggers.toml").triggers["near"].arms.yoked_events == ((5, 5),)


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_a_shipped_model_is_found_by_its_name(tmp_path: Path) -> None:
    path = changed(write_experiment(tmp_path), (REPO / "engines" / "mice-sim").as_posix(), "rats58")
    assert load_experiment(path).bundle == "rats58"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('subject = "m 12/3"', 'subject = " "', "metadata: subject must be given"),
        ("[cameras.arena]", "[camera.arena]", "unknown key camera"),
        ('cage = "4"', "cage = 4", "expected str, got 4"),
        ('triggers = "t.toml"', 'triggers = "none.toml"', r"none\.toml: no such file"),
    ],
)
def test_what_is_wrong_with_the_file_is_one_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(SettingError, match=words) as found:
        load_experiment(changed(write_experiment(tmp_path), old, new))
    assert str(tmp_path) in str(found.value)


@pytest.mark.parametrize(
    ("triggers", "words"),
    [
        (TRIGGERS.replace("task1", "task9"), "no head 'task9'"),
        (TRIGGERS + 'streams = ["cage*"]\n', r"its streams \(cage\*\) are no camera of the experiment: arena"),
    ],
)
def test_triggers_that_can_never_fire_are_refused_before_anything_starts(
    tmp_path: Path, triggers: str, words: str
) -> None:
    with pytest.raises(SettingError, match=words):
        check_experiment(load_experiment(write_experiment(tmp_path, triggers=triggers)))


def test_another_folder_is_no_session(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"no session's folder: it has no session\.json"):
        _ = SessionFolder(tmp_path).about
    (tmp_path / "session.json").write_text(json.dumps({"mode": "armed"}), encoding="utf-8")
    with pytest.raises(RecordingError, match="cannot be read: KeyError"):
        _ = SessionFolder(tmp_path).about
