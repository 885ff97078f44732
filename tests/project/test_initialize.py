"""`rtseg init`: from files to a dataset file and a recipe that can be read, and nothing that was there is lost."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest

from rtseg.config import Recipe, load_settings
from rtseg.errors import RecordingError, SettingError
from rtseg.frames.skeleton import Skeleton
from rtseg.project.initialize import Initialized, initialize_project, wishes_of
from rtseg.project.network import propose_sizes
from rtseg.project.questions import ProposalTaker, Wishes
from rtseg.project.write import network_file
from rtseg.recordings.dataset import load_dataset
from rtseg.recordings.recording import IGNORE
from tests.commands import here
from tests.project.scenes import N_FRAMES, POINTS, regular_bouts, write_boris, write_bouts, write_poses


class Answers(ProposalTaker):
    """Answers questions by the words in them, and remembers what was asked."""

    def __init__(self, answers: Mapping[str, str]) -> None:
        self.answers, self.asked = answers, list[str]()

    def choose(self, question: str, options: Mapping[str, str], default: str) -> str:
        assert default in options
        return self.text(question, default)

    def text(self, question: str, default: str) -> str:
        self.asked.append(question)
        return next((answer for words, answer in self.answers.items() if words in question), default)


def init(
    folder: Path, wishes: Wishes | None = None, ask: ProposalTaker | None = None, out: Path | None = None
) -> Initialized:
    return initialize_project(
        [folder], out or folder, wishes or Wishes(), ask or ProposalTaker(), lambda done, total: None
    )


def videos(folder: Path, n: int) -> Path:
    for i in range(n):
        write_poses(folder / f"m{i}DLC_resnet50_x.csv", seed=i)
        write_boris(folder / f"m{i}_boris.csv", regular_bouts(("sniff", "chase")))
    return folder


def test_videos_become_a_project_that_can_be_read(tmp_path: Path) -> None:
    done = init(videos(tmp_path, 4), Wishes(name="mice"))
    dataset, recipe = load_dataset(done.dataset), load_settings(done.recipe, Recipe)
    assert dataset.skeleton.animals == ("adult", "juvenile")
    assert dataset.skeleton.axis == ("tail_base", "nose")
    assert dataset.fps == 30
    assert [head.classes for head in dataset.heads] == [("other", "sniff", "chase")]
    recordings = [i.partition("-")[0] for i in (*dataset.ids("train"), *dataset.ids("validation"))]
    assert sorted(set(recordings)) == ["m0", "m1", "m2", "m3"]
    for split in ("train", "validation"):
        for item in dataset.items(split):
            assert set(np.unique(item.labels["adult"].frames)) == {0, 1, 2}
    assert recipe.dataset == "mice.dataset.toml"
    assert recipe.model.cells[0].hidden == 64
    assert recipe.arena[0] < 300 < 500 < recipe.arena[2]


def test_one_video_is_cut_into_parts(tmp_path: Path) -> None:
    done = init(videos(tmp_path, 1), Wishes(name="mouse"))
    dataset = load_dataset(done.dataset)
    assert len(dataset.ids("validation")) >= 2
    frames = sum(len(item.recording) for split in ("train", "validation") for item in dataset.items(split))
    assert 0.7 * N_FRAMES < frames < N_FRAMES  # the margins belong to nobody


def test_labels_of_samples_stay_samples(tmp_path: Path) -> None:
    write_poses(tmp_path / "v_tracking.csv")
    names = ("normal", "chase", "bite")
    write_bouts(tmp_path / "v_bouts.csv", [(50 + 40 * i, 89 + 40 * i, names[i % 3]) for i in range(36)])
    done = init(tmp_path, Wishes(name="fish"))
    head = done.project.rules[0]
    assert head.unlabelled is None
    assert done.project.counting.last_included  # bouts follow each other at a distance of one frame
    for split in ("train", "validation"):
        for item in load_dataset(done.dataset).items(split):
            assert (item.labels["behaviour"].frames == IGNORE).any() or len(item.recording) < 900
    asked = Answers({"without a label": "negatives"})
    done = init(tmp_path, Wishes(name="other"), asked)
    assert done.project.rules[0].unlabelled == "normal"
    assert any("'normal' is labelled by itself" in question for question in asked.asked)


def test_one_boris_file_of_all_videos(tmp_path: Path) -> None:
    rows = ["Observation id,Media file name,Time,Subject,Behavior,Behavior type"]
    for i in range(3):
        write_poses(tmp_path / f"cage{i}DLC_x.csv", seed=i)
        for behaviour, start, stop in regular_bouts():
            for time, kind in ((start + i, "START"), (stop + i, "STOP")):
                rows.append(f"monday {i},/videos/cage{i}.mp4,{time:.3f},adult,{behaviour},{kind}")
    (tmp_path / "export.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    write_poses(tmp_path / "cage9DLC_x.csv", 300)  # nobody observed it
    done = init(tmp_path, Wishes(name="a"))
    assert [pair.name for pair in done.project.pairs] == ["cage0", "cage1", "cage2"]
    assert any("cage9DLC_x.csv" in note for note in done.project.notes)
    dataset = load_dataset(done.dataset)
    items = {item.recording.name: item for split in dataset.splits for item in dataset.items(split)}
    for name in set(items) & {"cage0", "cage1", "cage2"}:
        frames = items[name].labels["adult"].frames
        assert int(np.argmax(frames == 1)) == 30 * (1 + int(name[-1]))


def test_one_pose_and_one_label_file_of_any_name(tmp_path: Path) -> None:
    poses, labels = write_poses(tmp_path / "tracks.csv"), write_boris(tmp_path / "monday.csv", regular_bouts())
    done = initialize_project([poses, labels], tmp_path, Wishes(name="a"), ProposalTaker(), lambda done, total: None)
    assert len(list(load_dataset(done.dataset).items("train"))) >= 1


def test_what_files_leave_open_is_asked(tmp_path: Path) -> None:
    write_poses(tmp_path / "v_tracking.csv")
    rows = [(100 * i + 1, 100 * i + 40, "freezing") for i in range(16)]
    write_bouts(tmp_path / "v_bouts.csv", rows, "start_frame,stop_frame,behaviour")
    answers = Answers({"Frames per second": "25", "count frames": "1", "stop frame": "yes", "Name": "mine"})
    done = init(tmp_path, ask=answers)
    assert done.dataset.name == "mine.dataset.toml"
    assert (done.project.fps, done.project.counting.first_frame, done.project.counting.last_included) == (25, 1, True)
    plain = tomllib.loads(done.dataset.read_text(encoding="utf-8"))
    assert plain["recordings"][0]["first_frame"] == 1
    assert plain["recordings"][0]["last_included"] is True


def test_a_behaviour_in_one_place_alone_is_masked_and_said(tmp_path: Path) -> None:
    write_poses(tmp_path / "vDLC_x.csv")
    jumps = [("jump", 19 + i / 10, 19 + i / 10 + 1 / 30) for i in range(5)]  # within half a second
    later = [(name, start + 30, stop + 30) for name, start, stop in regular_bouts(n=6)]
    write_boris(tmp_path / "v.csv", [*regular_bouts(n=3), *later, *jumps])
    done = init(tmp_path, Wishes(name="a"))
    assert done.project.rules[0].ignore == ("jump",)
    assert any("'jump' cannot be on both sides" in note for note in done.project.notes)


def test_the_rate_that_an_annotator_saw_is_proposed(tmp_path: Path) -> None:
    write_poses(tmp_path / "vDLC_x.csv")
    write_boris(tmp_path / "v.csv", regular_bouts(n=10), fps=25.0)
    done = init(tmp_path, Wishes(name="a"))
    assert (done.project.fps, done.project.fps_said) == (25.0, True)


def test_files_that_are_there_are_never_overwritten(tmp_path: Path) -> None:
    folder = videos(tmp_path, 1)
    mine = folder / "mouse.toml"
    mine.write_text("# mine\n", encoding="utf-8")
    with pytest.raises(SettingError, match=r"mouse\.toml: there already; name another"):
        init(folder, Wishes(name="mouse"))
    assert mine.read_text(encoding="utf-8") == "# mine\n"
    assert not (folder / "mouse.dataset.toml").exists()


def test_names_with_every_kind_of_letter(tmp_path: Path) -> None:
    folder = tmp_path / 'Müller "2026" (a)'
    folder.mkdir()
    done = init(videos(folder, 2), out=tmp_path / "out")
    assert len([*load_dataset(done.dataset).items("train")]) >= 1


def test_what_cannot_be_a_project_is_said(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="no file there holds poses"):
        init(tmp_path)
    with pytest.raises(SettingError, match="no such file or folder"):
        init(tmp_path / "nowhere")
    write_poses(tmp_path / "m1DLC_x.csv", 100)
    with pytest.raises(SettingError, match="no label file"):
        init(tmp_path)
    write_poses(tmp_path / "m2DLC_x.csv", 100)
    write_boris(tmp_path / "k7.csv", regular_bouts(n=2))
    with pytest.raises(SettingError, match="no label file is named like a pose file"):
        init(tmp_path)
    write_boris(tmp_path / "m1.csv", regular_bouts(n=12))  # a minute of labels for three seconds of poses
    with pytest.raises(RecordingError, match=r"m1\.csv"):
        init(tmp_path)


def test_options_that_mean_nothing_are_refused() -> None:
    for options, problem in (
        ({"unlabelled": "maybe"}, "--unlabelled"),
        ({"axis": "nose"}, "--axis"),
        ({"share": 1.5}, "--held-out"),
        ({"fps": float("inf")}, "--fps"),
    ):
        empty: dict[str, object] = dict.fromkeys(
            ("name", "fps", "tracks", "unlabelled", "first_frame", "last_included", "axis", "share")
        )
        with pytest.raises(SettingError, match=problem):
            wishes_of(**{**empty, **options})  # type: ignore[arg-type]


def test_the_command(tmp_path: Path) -> None:
    folder = videos(tmp_path, 1)
    done = here(
        "init", "--name", "mouse", "--axis", "left_ear,nose", "--track", "adult", "--held-out", "0.4", cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "rtseg train mouse.toml --out mouse-model" in done.stdout
    assert load_dataset(folder / "mouse.dataset.toml").skeleton.axis == ("left_ear", "nose")
    again = here("init", "--name", "mouse", cwd=folder)
    assert again.returncode == 1
    assert again.stderr.startswith("rtseg: ")
    assert here("init", "--axis", "nose,none", "--name", "b", cwd=folder).returncode == 1


def folder_of_one_video(folder: Path, animals: tuple[str, ...]) -> Path:
    """A new folder with poses of these animals and the first one's bouts."""
    folder.mkdir()
    write_poses(folder / "video.csv", animals=animals)
    write_boris(folder / "video_events.csv", regular_bouts(), subject=animals[0])
    return folder


def test_few_labels_get_trees_and_how_to_compare_them_with_a_network(tmp_path: Path) -> None:
    for name, animals in (("one", ("mouse",)), ("two", ("adult", "juvenile"))):
        folder = folder_of_one_video(tmp_path / name, animals)
        done = here("init", "--name", name, "--yes", cwd=folder)
        # Four parts, so that four folds are what there can be.
        network = folder / f"{name}-network.toml"
        command = f"rtseg crossvalidate {name}.toml --against {network.name} --folds 4 --out {name}-trees-or-network"
        assert (command in done.stdout) == network.exists() == (name == "one"), done.stdout
        trees = load_settings(folder / f"{name}.toml", Recipe)
        assert (trees.model.kind == "gradient-boosting") == (name == "one")
        if name == "one":
            recipe = load_settings(network, Recipe)
            assert recipe.model.becomes_bundle
            assert (recipe.name, recipe.dataset) == ("one-network", "one.dataset.toml")
            (folder / "one.toml").unlink()
            (folder / "one.dataset.toml").unlink()
            again = here("init", "--name", name, "--yes", cwd=folder)
            assert "one-network.toml: there already" in again.stderr


def test_one_animal_of_a_few_minutes_begins_with_its_motion() -> None:
    one, two = (Skeleton(animals, POINTS) for animals in (("mouse",), ("adult", "juvenile")))
    short, long = (propose_sizes(one, round(seconds * 30.0), 1.0, 30.0) for seconds in (599, 601))
    assert short.motion == long.motion == "roots"
    assert not short.has_shape
    assert long.has_shape
    assert set(short.groups) < set(long.groups)
    assert "averages" not in short.groups
    assert (short.windows_s, long.windows_s) == ((0.5,), ())
    assert (short.class_weight_power, long.class_weight_power) == (0.0, 0.25)
    assert (short.crop_frames, short.batch, long.crop_frames, long.batch) == (225, 16, 450, 8)
    pair = propose_sizes(two, 599 * 30, 1.0, 30.0)
    assert pair.has_shape
    assert (pair.motion, pair.windows_s) == ("linear", ())
    fish = propose_sizes(Skeleton(("a", "b"), ("center",)), 599 * 30, 1.0, 30.0)
    assert fish.needs_arena
    assert (fish.motion, fish.windows_s) == ("linear", ())


def test_the_recipe_says_what_to_add(tmp_path: Path) -> None:
    for name, animals in (("one", ("mouse",)), ("two", ("adult", "juvenile"))):
        folder = folder_of_one_video(tmp_path / name, animals)
        done = init(folder, Wishes(name=name))
        of_network = network_file(done.recipe) if name == "one" else done.recipe
        recipe, text = load_settings(of_network, Recipe), of_network.read_text(encoding="utf-8")
        assert recipe.features.motion == ("roots" if name == "one" else "linear")
        assert recipe.features.windows_s == ((0.5,) if name == "one" else ())
        assert recipe.train.class_weight_power == (0.0 if name == "one" else 0.25)
        assert ('"within_distance", "egocentric_self"' in text) == (name == "one")
        assert '# scale = "body"' in text


def test_links_stand_for_their_files(tmp_path: Path) -> None:
    """Under the names that the lab gave the links, wherever the files lie."""
    raw, links = tmp_path / "raw", tmp_path / "links"
    raw.mkdir()
    links.mkdir()
    videos(raw, 2)
    for path in raw.iterdir():
        (links / path.name.replace("m", "v", 1)).symlink_to(path)
    dataset = load_dataset(init(links, Wishes(name="mice")).dataset)
    assert dataset.root == links / "."
    assert {i.partition("-")[0] for split in dataset.splits for i in dataset.ids(split)} == {"v0", "v1"}


def test_names_that_some_files_spell_otherwise_are_one(tmp_path: Path) -> None:
    videos(tmp_path, 3)
    other = tmp_path / "m1_boris.csv"
    other.write_text(other.read_text().replace(",adult,", ",Adult,").replace("sniff", "Sniff "))
    done = init(tmp_path, Wishes(name="mice"))
    dataset = load_dataset(done.dataset)
    assert [head.classes for head in dataset.heads] == [("other", "sniff", "chase")]
    items = {item.recording.name: item for split in dataset.splits for item in dataset.items(split)}
    for name, item in items.items():
        assert set(np.unique(item.labels["adult"].frames)) == {0, 1, 2}, name
    assert any("'Sniff' is taken for 'sniff'" in note for note in done.project.notes)


def test_labels_in_workbooks_become_recordings(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book, shared = openpyxl.Workbook(), openpyxl.Workbook()
    shared.remove(shared.active)
    for name, sheet in (("m1", book.active), ("m2", shared.create_sheet("m2")), ("m3", shared.create_sheet("m3"))):
        write_poses(tmp_path / f"{name}DLC_a.csv")
        at = int(name[1])  # every video has bouts of its own
        for row in (
            ("start", "stop", "behaviour"),
            (0, 99 + at, "rest"),
            (99 + at, 249 + at, "run"),
            (400, 450, "run"),
        ):
            sheet.append(row)
    book.save(tmp_path / "m1.xlsx")
    shared.save(tmp_path / "second day.xlsx")
    (tmp_path / "~$m1.xlsx").write_bytes(b"Excel has it open")
    (tmp_path / "weights.xlsx").write_bytes(b"PK\3\4")
    done = init(tmp_path, Wishes(name="mice"))
    assert any("weights.xlsx: cannot be read as a workbook" in note for note in done.project.notes)
    assert not any("~$" in note for note in done.project.notes)
    dataset = load_dataset(done.dataset)
    n_running = dict.fromkeys(("m1", "m2", "m3"), 0)
    for item in (item for split in dataset.splits for item in dataset.items(split)):
        (labels,) = item.labels.values()
        n_running[item.recording.name[:2]] += np.count_nonzero(labels.frames == labels.classes.index("run"))
    # The first one is cut into parts, with a margin between them.
    assert n_running["m1"] > 100
    assert n_running["m2"] == n_running["m3"] == 200


def test_two_cameras_of_one_session_are_never_parted(tmp_path: Path) -> None:
    """The score of one view would be of the moments that the other was learnt from."""
    rows = ["video,subject,behaviour,start_s,stop_s"]
    for i in range(3):
        write_poses(tmp_path / f"m{i}DLC_x.csv", seed=i)
        rows += [f"m{i}.avi,adult,{name},{start + i},{stop + i}" for name, start, stop in regular_bouts()]
    write_poses(tmp_path / "m1_cam2DLC_x.csv", seed=9)
    (tmp_path / "bouts.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    done = init(tmp_path, Wishes(name="mice", fps=30))
    assert [pair.name for pair in done.project.pairs] == ["m0", "m1", "m1_cam2", "m2"]
    assert [note for note in done.project.notes if note.startswith("m1, m1_cam2: the same bouts")]
    dataset = load_dataset(done.dataset)
    sides = [{name.partition("-")[0] for name in dataset.ids(split)} for split in dataset.splits]
    assert not any(len(side & {"m1", "m1_cam2"}) == 1 for side in sides), sides


def test_tracks_of_one_file_that_differ_in_case_are_told(tmp_path: Path) -> None:
    write_poses(tmp_path / "v_tracking.csv")

    def write_tracks(second: Collection[int]) -> None:
        rows = [f"{'Adult' if i in second else 'adult'},sniff,{2.5 * i},{2.5 * i + 1}" for i in range(20)]
        (tmp_path / "v_bouts.csv").write_text("\n".join(["subject,behaviour,start_s,stop_s", *rows]), encoding="utf-8")

    write_tracks(range(1, 20, 2))
    notes = init(tmp_path, Wishes(name="v", fps=30)).project.notes
    assert [note for note in notes if note.startswith("tracks 'adult' and 'Adult' stand in one label file")]
    # Once alone it is a slip, whose frames would be negatives of the other.
    write_tracks([3])
    with pytest.raises(RecordingError, match=r"has the tracks 'adult' and 'Adult', .*; correct the spelling there"):
        init(tmp_path, Wishes(name="w", fps=30))


def test_tables_that_count_from_1_to_the_last_frame_are_read_so(tmp_path: Path) -> None:
    write_poses(tmp_path / "v_tracking.csv")
    names = ("rest", "run", "dig")
    rows = [(100 * i + 1, 100 * (i + 1), names[i % 3]) for i in range(N_FRAMES // 100)]
    write_bouts(tmp_path / "v_bouts.csv", rows, "first frame,end frame,behaviour")
    counting = init(tmp_path, Wishes(name="v")).project.counting
    assert (counting.first_frame, counting.last_included) == (1, True)


def test_a_folder_in_another_language_gives_a_name_that_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "Größe ä"
    folder.mkdir()
    write_poses(folder / "v_tracking.csv", 600)
    write_bouts(folder / "v_bouts.csv", [(100 * i, 100 * i + 50, "dig") for i in range(6)])
    assert init(folder).project.name == "Grosse-a"


def test_too_few_bouts_are_refused_with_how_many_it_takes(tmp_path: Path) -> None:
    write_poses(tmp_path / "v_tracking.csv")
    write_bouts(tmp_path / "v_bouts.csv", [(100, 150, "dig"), (300, 350, "dig")])
    words = r"'dig' is labelled in 2 bouts, and needs 4 to be learnt and tested: .*\. Label more bouts of it, or videos"
    with pytest.raises(SettingError, match=words):
        init(tmp_path, Wishes(name="v"))


def test_a_rate_that_nobody_said_is_told(tmp_path: Path) -> None:
    write_poses(tmp_path / "v_tracking.csv")
    write_bouts(tmp_path / "v_bouts.csv", [(100 * i, 100 * i + 50, "dig") for i in range(12)])
    for fps, said in (
        (None, "30 per second (assumed, since no file says it: --fps says another)"),
        ("25", "25 per second"),
    ):
        command = ["init", str(tmp_path), "--out", str(tmp_path), "--name", f"at{fps}", "--yes"]
        done = here(*command, *([] if fps is None else ["--fps", fps]))
        assert f"frame rate: {said}\n" in done.stdout
