"""The dataset file: rats58 as it is shipped, CalMS21's three tasks, and every way to write it wrongly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rtseg.errors import RecordingError, SettingError, SkeletonError
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.recording import IGNORE

RATS58 = Path(__file__).parents[2] / "engines" / "rats58.dataset.toml"
WITHOUT_S2 = {"04", "09", "15", "17", "19", "21", "32", "49"}

PAIRS = """
name = "lab"
fps = 30
[skeleton]
animals = ["a"]
keypoints = ["nose", "tail"]
[[recordings]]
poses = "{id}.poses.csv"
labels = "{id}.labels.csv"
[heads.act]
classes = ["rest", "run"]
[split]
train = "rest"
validation = ["v"]
"""

CALMS21 = """
name = "sim"
fps = 30
simulated = true
[skeleton]
animals = ["resident", "intruder"]
keypoints = ["nose", "left_ear", "right_ear", "neck", "left_hip", "right_hip", "tail_base"]
[heads.task1]
classes = ["attack", "other"]
scored = ["attack"]
[heads.task2]
each = ["annotator-id_1", "annotator-id_2"]
classes = ["attack", "other"]
scored = ["attack"]
[heads.task3]
each = ["approach", "groom"]
classes = ["other", "{each}"]
scored = ["{each}"]
[[calms21]]
file = "task1.json"
split = "train"
heads = "task1"
without = ["*mouse2"]
[[calms21]]
file = "task1.json"
split = "validation"
heads = "task1"
only = ["*mouse2"]
[[calms21]]
file = "task2.json"
split = "train"
heads = "per-group"
[[calms21]]
file = "task3.json"
split = "train"
heads = "per-group"
"""


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A dataset file beside the poses and labels of t, u and v."""
    for name in "tuv":
        (tmp_path / f"{name}.poses.csv").write_text("frame,nose.x,nose.y,tail.x,tail.y\n0,1,2,3,4\n1,5,6,7,8\n")
        (tmp_path / f"{name}.labels.csv").write_text("act\nrest\nrun\n")
    path = tmp_path / "lab.dataset.toml"
    path.write_text(PAIRS)
    return path


@pytest.fixture
def calms(tmp_path: Path) -> Path:
    """A dataset file beside three small files in CalMS21's layout."""

    def sequence(vocab: dict[str, int], labels: list[int]) -> dict[str, object]:
        n = len(labels)
        return {
            "keypoints": np.arange(n * 28).reshape(n, 2, 2, 7).tolist(),
            "scores": np.ones((n, 2, 7)).tolist(),
            "annotations": labels,
            "metadata": {"vocab": vocab, "simulated": True},
        }

    acts = {"attack": 0, "other": 1}
    files = {
        "task1": {"annotator-id_0": {f"task1/mouse{i}": sequence(acts, [0, 1]) for i in (1, 2, 3)}},
        "task2": {f"annotator-id_{i}": {f"task2/mouse{i}": sequence(acts, [1, 0])} for i in (1, 2)},
        "task3": {b: {f"task3/{b}": sequence({b: 0, "other": 1}, [0, 1])} for b in ("approach", "groom")},
    }
    for name, groups in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(groups))
    path = tmp_path / "sim.dataset.toml"
    path.write_text(CALMS21)
    return path


def test_rats58_as_shipped() -> None:
    dataset = load_dataset(RATS58)
    assert dataset.splits == ("train", "validation")
    train, validation = dataset.ids("train"), dataset.ids("validation")
    assert (len(train), len(validation)) == (34, 12)
    assert set(validation) == {f"{n:02d}" for n in range(1, 59) if n % 5 == 1}
    assert not set(train) & set(validation)
    assert not {f"{n:02d}" for n in range(3, 59, 5)} & {*train, *validation}  # the sealed videos
    assert dataset.head("S1").scored == ("social", "nonsocial", "aggression")
    assert dataset.head("S2").scored == ("lateralthreat", "keepdown", "clinch", "uprightposture")
    assert not dataset.simulated


def test_all_46_pairs_of_rats58(data_root: Path) -> None:
    dataset = load_dataset(RATS58, root=data_root / "rats58")
    s1, s2 = dataset.heads
    names, counts = set(), np.zeros(3, np.int64)
    for split in dataset.splits:
        for item in dataset.items(split):
            name = item.recording.name
            names.add(name)
            assert item.recording.skeleton == dataset.skeleton
            assert 12_000 < len(item.recording) < 16_000
            first, second = item.labels["S1"].frames, item.labels["S2"].frames
            assert first.shape == second.shape == (len(item.recording),)
            assert (second[first == IGNORE] == IGNORE).all()  # base lies outside the trial
            calm = (first == s1.classes.index("social")) | (first == s1.classes.index("nonsocial"))
            if name in WITHOUT_S2:
                assert (second[calm] == s2.classes.index("other")).all()
                assert (second[~calm] == IGNORE).all()
            else:
                assert set(np.unique(second)) >= {IGNORE, 0}
            counts += np.bincount(first[first != IGNORE], minlength=3)
    assert len(names) == 46
    assert counts.tolist() == [195_274 + 67_244, 174_258 + 63_666, 39_471 + 13_090]


def test_pairs_are_read_when_asked_for_and_only_those_of_the_split(lab: Path) -> None:
    dataset = load_dataset(lab)
    assert dataset.ids("train") == ("t", "u")
    (lab.parent / "v.poses.csv").write_text("damaged")
    (lab.parent / "u.poses.csv").write_text("damaged")
    items = dataset.items("train")
    first = next(items)
    assert (first.recording.name, first.labels["act"].frames.tolist()) == ("t", [0, 1])
    assert first.recording.keypoints[1, 0].tolist() == [[5, 6], [7, 8]]
    with pytest.raises(RecordingError, match=r"u\.poses\.csv"):
        next(items)


def test_all_missing_files_are_listed_before_any_is_read(lab: Path) -> None:
    dataset = load_dataset(lab)
    for name in ("t.labels.csv", "u.poses.csv", "v.labels.csv"):
        (lab.parent / name).unlink()
    with pytest.raises(RecordingError, match="2 files are missing; name their folder with --root") as error:
        dataset.items("train")
    assert "t.labels.csv" in str(error.value)
    assert "u.poses.csv" in str(error.value)
    assert "v.labels.csv" not in str(error.value)


def test_the_root_can_be_replaced(lab: Path, tmp_path: Path) -> None:
    away = tmp_path / "elsewhere" / "lab.dataset.toml"
    away.parent.mkdir()
    away.write_text(PAIRS)
    with pytest.raises(
        SettingError, match=r"no file under .*elsewhere matches '\{id\}\.poses\.csv'; correct the pattern or the root"
    ):
        load_dataset(away)
    assert load_dataset(away, root=tmp_path).ids("train") == ("t", "u")
    away.write_text('root = ".."\n' + PAIRS)
    assert len(list(load_dataset(away).items("validation"))) == 1


def test_names_are_mapped_where_the_file_says_so(lab: Path) -> None:
    lab.write_text(PAIRS.replace('"tail"]', '"tail_base"]'))
    with pytest.raises(SkeletonError, match="without a counterpart: tail_base"):
        next(load_dataset(lab).items("train"))
    mapped = lab.read_text().replace("[heads", 'keypoints = { tail = "tail_base" }\n[heads')
    lab.write_text(mapped)
    assert next(load_dataset(lab).items("train")).recording.skeleton.keypoints == ("nose", "tail_base")


def test_a_pattern_that_fits_two_files_is_refused(lab: Path) -> None:
    lab.write_text(PAIRS.replace("{id}.poses.csv", "{id}*.csv").replace("[heads", 'ids = ["t", "u", "v"]\n[heads'))
    with pytest.raises(RecordingError, match=r"found t\.labels\.csv, t\.poses\.csv; make the pattern stricter"):
        next(load_dataset(lab).items("train"))


def test_calms21s_three_tasks(calms: Path) -> None:
    dataset = load_dataset(calms)
    assert [(h.name, h.group, h.scored) for h in dataset.heads] == [
        ("task1", "task1", ("attack",)),
        ("annotator-id_1", "task2", ("attack",)),
        ("annotator-id_2", "task2", ("attack",)),
        ("approach", "task3", ("approach",)),
        ("groom", "task3", ("groom",)),
    ]
    items = {item.recording.name: item for item in dataset.items("train")}
    assert tuple(items) == dataset.ids("train")
    labelled = {
        name: {head: one.frames.tolist() for head, one in item.labels.items() if (one.frames != IGNORE).any()}
        for name, item in items.items()
    }
    assert labelled == {
        "task1/mouse1": {"task1": [0, 1]},
        "task1/mouse3": {"task1": [0, 1]},
        "task2/mouse1": {"annotator-id_1": [1, 0]},
        "task2/mouse2": {"annotator-id_2": [1, 0]},
        "task3/approach": {"approach": [1, 0]},
        "task3/groom": {"groom": [1, 0]},
    }
    assert all(set(item.labels) == {h.name for h in dataset.heads} for item in items.values())
    assert [item.recording.name for item in dataset.items("validation")] == ["task1/mouse2"]
    assert dataset.simulated
    assert all(item.recording.simulated for item in items.values())


def test_calms21_files_of_another_split_are_not_needed(calms: Path) -> None:
    for name in ("task2.json", "task3.json"):
        (calms.parent / name).unlink()
    dataset = load_dataset(calms)
    assert len(list(dataset.items("validation"))) == 1
    with pytest.raises(RecordingError, match="2 files are missing"):
        dataset.items("train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("simulated = true\n", ""), "is simulated and dataset 'sim' does not say so"),
        (('only = ["*mouse2"]', 'only = ["*mouse9"]'), "no sequence matches only = ['*mouse9']"),
        (('"approach", "groom"', '"approach"'), "group 'groom' has no head of its name"),
        (('["attack", "other"]', '["mount", "attack"]'), "behaviour 'other' is no class of head"),
    ],
)
def test_calms21_files_that_do_not_fit_the_dataset(calms: Path, change: tuple[str, str], words: str) -> None:
    calms.write_text(CALMS21.replace(*change))
    dataset = load_dataset(calms)
    with pytest.raises(RecordingError) as error:
        [list(dataset.items(split)) for split in dataset.splits]
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("fps = 30", "fps = 30\nfsp = 30"), "unknown key fsp; accepted here: name, root, fps"),
        (("[split]", 'color = "red"\n[split]'), "unknown key heads.act.color; accepted here: track, classes"),
        (("labels =", 'lables = "x"\nlabels ='), "unknown key recordings.lables"),
        (("[skeleton]", '[skeleton]\nbones = "x"'), "[skeleton]: unknown skeleton field: bones"),
        (('name = "lab"', ""), "name is missing: expected a text in quotes"),
        (("fps = 30", ""), "fps is missing: expected a number above 0"),
        (("fps = 30", "fps = 0"), "fps: expected a number above 0, got 0"),
        (("fps = 30", "fps = true"), "fps: expected a number above 0, got True"),
        (("fps = 30", 'fps = "30"'), "fps: expected a number above 0, got '30'"),
        (("{id}.poses.csv", "poses.csv"), "recordings.poses: expected {id} once"),
        (("{id}.poses.csv", "../{id}.csv"), "recordings.poses: expected a path under the root"),
        (("{id}.poses.csv", "[{id}].csv"), "recordings.poses: only {id} and single *"),
        (('["rest", "run"]', '["rest", "rest"]'), "heads.act.classes: a name comes twice"),
        (('["rest", "run"]', '"rest"'), "heads.act.classes: expected a list of texts"),
        (('["rest", "run"]', '["rest", "run"]\nmissing = "skip"'), "heads.act.missing: expected 'error' or 'mask'"),
        (('["rest", "run"]', '["rest", "run"]\nscored = ["jump"]'), "heads.act.scored: 'jump' is none of rest, run"),
        (("[heads.act]", "[heads]"), "heads.classes: expected a table"),
        (('["v"]', '["w"]'), "split.validation: no recording has the id w; there are: t, u, v"),
        (('["v"]', '"rest"'), "[split]: only one can be 'rest', got train, validation"),
        (('["v"]', '["v"]\ntest = ["v"]'), "'v' is in both 'validation' and 'test'"),
        (("[split]", "[other]"), "unknown key other"),
        (
            ('[[recordings]]\nposes = "{id}.poses.csv"\nlabels = "{id}.labels.csv"', ""),
            "[split] and [[parts]] divide [[recordings]] and there are none",
        ),
        (("[skeleton]", "[skeleton"), "is no TOML"),
    ],
)
def test_mistakes_name_the_file_and_the_key(lab: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in PAIRS
    lab.write_text(PAIRS.replace(*change))
    with pytest.raises(SettingError) as error:
        load_dataset(lab)
    assert words in str(error.value)
    assert str(lab) in str(error.value)


def test_unknown_splits_heads_and_files(lab: Path) -> None:
    dataset = load_dataset(lab)
    for ask in (dataset.items, dataset.ids):
        with pytest.raises(SettingError, match="has the splits train, validation, not 'test'"):
            ask("test")
    with pytest.raises(SettingError, match="has the heads act, not 'S1'"):
        dataset.head("S1")
    with pytest.raises(SettingError, match="cannot be read"):
        load_dataset(lab.parent / "absent.toml")


def test_a_byte_order_mark_is_no_mistake(lab: Path) -> None:
    lab.write_bytes(b"\xef\xbb\xbf" + lab.read_bytes())
    assert load_dataset(lab).name == "lab"


def test_ids_beside_a_star_come_from_the_labels(lab: Path) -> None:
    for name in ("v1", "v10"):
        (lab.parent / "p").mkdir(exist_ok=True)
        text = f"frame,nose.x,nose.y,tail.x,tail.y\n0,1,2,3,4\n1,{name[1:]},6,7,8\n"
        (lab.parent / "p" / f"{name}DLC_resnet50_1000.csv").write_text(text)
        (lab.parent / f"{name}.labels.csv").write_text("act\nrest\nrun\n")
    for name in "tuv":
        (lab.parent / f"{name}.labels.csv").unlink()
    text = PAIRS.replace("{id}.poses.csv", "p/{id}*.csv").replace('["v"]', '["v1"]')
    lab.write_text(text)
    dataset = load_dataset(lab)
    assert dataset.ids("train") == ("v10",)
    for split, x in (("train", 10), ("validation", 1)):
        (item,) = dataset.items(split)
        assert item.recording.keypoints[1, 0, 0, 0] == x
    lab.write_text(text.replace("{id}.labels.csv", "{id}*.labels.csv"))
    with pytest.raises(SettingError, match="nothing says where an id ends; list the ids"):
        load_dataset(lab)


BORIS = "Observation id,Subject,Behavior,Behavior type,Time\n"


def test_a_subject_without_events_has_negatives_where_the_head_has_a_class_for_them(lab: Path) -> None:
    for name, text in (("t", ""), ("u", "u,b,run,POINT,0\n"), ("v", "v,a,run,POINT,0\n")):
        (lab.parent / f"{name}.labels.csv").write_text(BORIS + text)
    head = '[heads.act]\ntrack = "a"\nunlabelled = "rest"\n'
    for missing in ("", 'missing = "mask"\n'):
        lab.write_text(PAIRS.replace("[heads.act]\n", head + missing))
        dataset = load_dataset(lab)
        assert [item.labels["act"].frames.tolist() for item in dataset.items("train")] == [[0, 0], [0, 0]]
        (item,) = dataset.items("validation")
        assert item.labels["act"].frames.tolist() == [1, 0]
        kind = "the file has no event of a head's track: taken as a video in which nothing of it happened"
        assert any(line.startswith(f"{kind} (2 track in 2 files") for line in dataset.warnings.summary())
    lab.write_text(PAIRS.replace("[heads.act]\n", '[heads.act]\ntrack = "a"\n'))
    with pytest.raises(RecordingError, match="needs the track 'a'"):
        next(load_dataset(lab).items("train"))


def test_the_observation_of_a_recording_is_found_by_name_or_named(lab: Path) -> None:
    rows = "".join(f"{name},a,{'run' if name == 'v' else 'rest'},POINT,0\n" for name in "tuv")
    for name in "tuv":
        (lab.parent / f"{name}.labels.csv").write_text(BORIS + rows)
    text = PAIRS.replace("[heads.act]\n", '[heads.act]\ntrack = "a"\n')
    lab.write_text(text)
    (item,) = load_dataset(lab).items("validation")
    assert item.labels["act"].frames.tolist() == [1, IGNORE]
    lab.write_text(text.replace("[heads", 'observation = "t"\n[heads'))
    (item,) = load_dataset(lab).items("validation")
    assert item.labels["act"].frames.tolist() == [0, IGNORE]


def test_how_a_labs_tables_count_is_said_in_the_dataset(lab: Path) -> None:
    for name in "tuv":
        (lab.parent / f"{name}.labels.csv").write_text("start,end,label\n1,1,rest\n2,2,run\n")
    keys = 'first_frame = 1\nlast_included = true\n[heads.act]\ntrack = "labels"\n'
    lab.write_text(PAIRS.replace("[heads.act]\n", keys))
    assert next(load_dataset(lab).items("train")).labels["act"].frames.tolist() == [0, 1]
    for wrong in ("first_frame = -1", "first_frame = true", 'last_included = "yes"'):
        lab.write_text(PAIRS.replace("[heads", f"{wrong}\n[heads"))
        with pytest.raises(SettingError, match=r"recordings\.(first_frame|last_included)"):
            load_dataset(lab)


def test_warnings_of_all_files_are_one_line_for_each_kind(lab: Path) -> None:
    for name in "tu":
        (lab.parent / f"{name}.labels.csv").write_text("frame,act\n0,rest\n")
    dataset = load_dataset(lab)
    for _ in range(2):
        list(dataset.items("train"))
    assert dataset.warnings.summary() == ["frames without a label (2 frames in 2 files: t.labels.csv, u.labels.csv)"]
