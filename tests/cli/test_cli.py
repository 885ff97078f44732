"""The commands as a user meets them: child processes, exit codes, one line for every reason, the whole small way."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from rtseg.cli import app
from rtseg.client import Subscriber
from rtseg.recordings.calms21 import write_calms21
from rtseg.simulate.tasks import simulate_sequence
from rtseg.wire.messages import StreamEvent
from tests.commands import Done, here
from tests.evaluation.test_evaluate import DATASET
from tests.live import REPO, TIMEOUT_S, Child, daemon

SEQUENCE = "simulated/task1/test/sequence001"
N_FRAMES = 360
RECIPE = """
name = "tiny-sim"
dataset = "sim/dataset.toml"
arena = [0.0, 0.0, 1024.0, 570.0]

[features]
groups = ["egocentric_other", "approach", "speed"]

[model]
channels = 8
layers = 3
head_channels = 4
head_layers = 2

[train]
epochs = 1
batch = 4
crop_frames = 200
warmup_frames = 50
evaluate_every = 1
threads = 1
bfloat16 = false
"""
STRANGERS = "frame,a.nose.x,a.nose.y,b.nose.x,b.nose.y\n0,1,2,3,4\n1,1,2,3,4\n"


def start(*words: object, cwd: Path = REPO) -> subprocess.Popen[str]:
    """`rtseg WORDS` in a process of its own; 80 columns, no colours; ^C stops it whatever started the tests."""
    environment = os.environ | {"PYTHONPATH": str(REPO), "OMP_NUM_THREADS": "1", "COLUMNS": "80", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "rtseg", *map(str, words)]
    pipe = subprocess.PIPE
    # A child inherits that SIGINT is ignored (as in the background of a shell), but not a handler: with one set here
    # while it is started, it has the default.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)
    finally:
        signal.signal(signal.SIGINT, before)


def finish(process: subprocess.Popen[str]) -> Done:
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def rtseg(*words: object, cwd: Path = REPO) -> Done:
    return finish(start(*words, cwd=cwd))


@dataclass
class Way:
    """A folder in which recordings were simulated and a bundle was trained; and what the two commands said."""

    folder: Path
    simulated: Done
    trained: Done
    recording: str = "sim/calms21_task1_test.json"

    def rtseg(self, *words: object) -> Done:
        return rtseg(*words, cwd=self.folder)

    def here(self, *words: object) -> Done:
        return here(*words, cwd=self.folder)


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Way:
    folder = tmp_path_factory.mktemp("way")
    (folder / "tiny.toml").write_text(RECIPE)
    (folder / "strangers.csv").write_text(STRANGERS)
    simulated = rtseg("simulate", "--out", "sim", "--sequences", "1,5,7", "--minutes", "0.2", cwd=folder)
    assert simulated.returncode == 0, simulated.stderr
    trained = rtseg("train", "tiny.toml", "--out", "tiny", cwd=folder)
    assert trained.returncode == 0, trained.stderr
    return Way(folder, simulated, trained)


@pytest.fixture(scope="module")
def annotated(way: Way) -> Done:
    return way.rtseg("annotate", "tiny", way.recording, "--out", "answers")


@pytest.fixture(scope="module")
def child(way: Way) -> Iterator[Child]:
    with daemon(way.folder / "tiny") as child:
        yield child


def answers(folder: Path) -> Path:
    return folder / "answers" / f"{SEQUENCE.replace('/', '_')}.predictions.csv"


def test_every_command_has_its_help() -> None:
    everything = rtseg("--help")
    assert (everything.returncode, everything.stderr) == (0, "")
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        assert f"│ {name} " in everything.stdout
        for inner in ([], *([word] for word in getattr(command, "commands", ()))):
            done = here(name, *inner, "--help")
            words = " ".join(["rtseg", name, *inner])
            assert (done.returncode, done.stderr) == (0, ""), words
            assert f"{words} " in done.stdout
            assert "…" not in done.stdout, f"{words} --help is cut at 80 columns"


def test_simulate_says_one_line_on_stdout(way: Way) -> None:
    assert way.simulated.stdout == "simulated recordings, described by sim/dataset.toml\n"
    assert way.simulated.stderr == ""
    assert len(list((way.folder / "sim").glob("calms21_task[123]_*.json"))) == 9


def test_train_writes_a_bundle_and_says_how_good_it_is(way: Way) -> None:
    manifest = json.loads((way.folder / "tiny" / "manifest.json").read_text())
    assert manifest["simulated"] is True
    assert manifest["name"] == "tiny-sim"
    lines = way.trained.stdout.splitlines()
    assert "tiny-sim, validation recordings (simulated)" in lines[0]
    assert lines[-1] == "bundle written to tiny"
    assert max(map(len, lines)) <= 80 or lines[-2].startswith("These recordings or labels are simulated")
    assert "epoch 1: loss" in way.trained.stderr
    assert (way.folder / "tiny.run" / "checkpoint.safetensors").is_file()


def test_evaluate_gives_the_scores_that_training_wrote_down(way: Way) -> None:
    done = way.rtseg("evaluate", "tiny", "sim/dataset.toml", "--json", "scores/validation.json")
    assert done.returncode == 0, done.stderr
    scores = json.loads((way.folder / "scores" / "validation.json").read_text())
    kept = json.loads((way.folder / "tiny" / "manifest.json").read_text())["scores"]["validation"]
    assert scores["heads"] == kept["heads"]
    assert scores["groups"] == kept["groups"]
    assert scores["simulated"] is True
    assert "simulated" in done.stdout
    # What a subscriber gets is shown first, beside argmax, and each is named.
    assert done.stdout.index("decoded labels: what a subscriber gets") < done.stdout.index(
        "argmax of the probabilities"
    )
    assert scores["decoded"]["task1"]["f1"].keys() == scores["heads"]["task1"]["classes"].keys()
    assert "Intervals are over one video: of fewer than 5 they say little about new animals." in scores["notes"]
    assert "Intervals are over one video" in done.stdout
    # What is going on stands on stderr: a line for each video.
    assert sorted(done.stderr.splitlines()) == sorted(scores["videos"])


def test_replay_writes_the_very_file_that_annotate_writes(way: Way, annotated: Done, child: Child) -> None:
    assert annotated.returncode == 0, annotated.stderr
    assert annotated.stdout.startswith(f"{SEQUENCE}: {N_FRAMES} frames -> ")
    assert annotated.stderr == ""
    with Subscriber(child.predictions, SEQUENCE) as subscriber:
        listener = start("listen", SEQUENCE, "--from", child.predictions)
        heard = subscriber.receive(TIMEOUT_S)
        assert isinstance(heard, StreamEvent)
        assert heard.type == "subscribed"  # the listener is there
        done = way.rtseg("replay", way.recording, "--to", child.frames, "--speed", "max", "--out", "live/answers.csv")
        listened = finish(listener)  # ends with the stream
    assert done.returncode == 0, done.stderr
    assert (way.folder / "live" / "answers.csv").read_bytes() == answers(way.folder).read_bytes()
    assert f"{N_FRAMES} frames answered" in done.stdout
    assert f"frames {N_FRAMES}, duplicates 0" in done.stdout
    assert all(line.startswith(f"{SEQUENCE}, frame ") for line in done.stderr.splitlines())
    assert listened.returncode == 0, listened.stderr
    lines = [json.loads(line) for line in listened.stdout.splitlines()]
    assert [line["seq"] for line in lines] == list(range(N_FRAMES))
    keys = {"stream", "seq", "t_source_ns", "label", "probs", "event", "unsure", "quality", "quality_words"}
    assert set(lines[0]) == keys
    assert set(lines[0]["probs"]["task1"]) == {"attack", "investigation", "mount", "other"}


def test_quiet_replay_says_nothing_beside_the_result(way: Way, child: Child) -> None:
    done = way.rtseg("replay", way.recording, "--to", child.frames, "--speed", "50", "--stream", "cage 9", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert "inside the daemon" in done.stdout


def test_a_terminal_shows_the_answers_as_they_come(way: Way, child: Child) -> None:
    screen, terminal = os.openpty()
    words = ["replay", way.recording, "--to", child.frames, "--speed", "20", "--stream", "cage 7"]
    environment = os.environ | {"PYTHONPATH": str(REPO), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    command = [sys.executable, "-m", "rtseg", *words]
    with subprocess.Popen(
        command, cwd=way.folder, env=environment, stdout=subprocess.DEVNULL, stderr=terminal
    ) as process:
        os.close(terminal)
        shown = b""
        # A terminal whose other side is gone cannot be read: that is the end.
        with contextlib.suppress(OSError):
            while part := os.read(screen, 65536):
                shown += part
        os.close(screen)
    assert process.returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"cage 7, frame \d+", text)
    assert re.search(r"task1 +(attack|investigation|mount|other) +[━╸╺ ]+ +0\.\d\d", text)


def test_training_without_torch_says_what_is_missing(way: Way) -> None:
    code = "import sys; sys.modules['torch'] = None; from rtseg.cli import main; sys.argv[0] = 'rtseg'; main()"
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    command = [sys.executable, "-c", code, "train", "tiny.toml", "--out", "x"]
    done = subprocess.run(command, cwd=way.folder, env=environment, capture_output=True, text=True, check=False)
    assert_one_line(done, 1, "training needs the package 'torch': pip install 'rtseg[train]'")


def test_listen_ends_on_sigint_without_a_traceback(child: Child) -> None:
    with Subscriber(child.predictions, "nobody") as subscriber:
        listener = start("listen", "nobody", "--from", child.predictions)
        event = None
        while not (isinstance(event, StreamEvent) and event.type == "subscribed"):  # a heartbeat may come before
            event = subscriber.receive(TIMEOUT_S)
            assert event is not None
    listener.send_signal(signal.SIGINT)
    done = finish(listener)
    assert done.returncode == 130
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_annotate_replaces_nothing_unless_told_to(way: Way, annotated: Done) -> None:
    before = answers(way.folder).read_bytes()
    answers(way.folder).write_text("mine")
    again = way.here("annotate", "tiny", way.recording, "--out", "answers")
    assert_one_line(again, 1, "exists already; name another folder with --out, or add --overwrite")
    assert answers(way.folder).read_text() == "mine"
    forced = way.here("annotate", "tiny", way.recording, "--out", "answers", "--overwrite")
    assert forced.returncode == 0, forced.stderr
    assert answers(way.folder).read_bytes() == before


def test_a_bundle_is_calibrated_compared_and_described(way: Way) -> None:
    before = way.folder / "before"
    shutil.copytree(way.folder / "tiny", before)
    pairs = [simulate_sequence(seed, 400, name=f"validation/{seed}") for seed in (1, 2)]
    write_calms21(way.folder / "validation.json", {"annotator-id_0": pairs})
    (way.folder / "two.toml").write_text(DATASET)
    done = way.rtseg("calibrate", "before", "two.toml", "--abstain", "task1=0.5")
    assert done.returncode == 0, done.stderr
    assert "out of fold (simulated)" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    report = json.loads((way.folder / "calibration" / "before" / "calibration.json").read_text())
    assert report["command"] == (
        "rtseg calibrate before two.toml --split validation --method temperature --abstain task1=0.5"
    )
    assert report["heads"]["task1"]["videos"] == 2
    compared = way.here("compare", "before", "tiny", "two.toml", "--json", "apart.json")
    assert compared.returncode == 0, compared.stderr
    assert max(map(len, compared.stdout.splitlines())) <= 80
    # A temperature changes no argmax.
    apart = json.loads((way.folder / "apart.json").read_text())
    assert apart["heads"]["task1"]["f1"] == {"difference": 0.0, "low": 0.0, "high": 0.0}
    card = way.here("card", "before")
    assert card.stdout == "before/MODEL_CARD.md\n"
    text = (before / "MODEL_CARD.md").read_text()
    assert "SIMULATED" in text
    assert "Calibrated (temperature scaling)" in text
    assert "features (" in text  # ranges, stored by train
    assert (way.folder / "tiny" / "MODEL_CARD.md").is_file()


FAILED = [
    ("train wrong.toml --out x", "wrong.toml: model: unknown key chanels; accepted: kind, causal, channels, "),
    ("train tiny.toml --out x --set model.chanels=3", "unknown key chanels"),
    ("evaluate tiny sim/dataset.toml --split tests", "has the splits train, validation, test, not 'tests'"),
    ("evaluate tiny tiny.toml", "tiny.toml: "),
    ("calibrate tiny sim/dataset.toml --split train", "was trained on this recording"),
    ("calibrate tiny sim/dataset.toml --method platt", "must be one of temperature, vector; got 'platt'"),
    ("calibrate tiny sim/dataset.toml --abstain task9=0.5", "not task9"),
    ("annotate tiny nothing.csv --out x", "nothing.csv: cannot be read"),
    ("annotate tiny sim/calms21_task1_test.json --out tiny.toml", "tiny.toml"),
    ("simulate --out x --sequences 1,1,1", "at least 1, 5, 7"),
]
NOT_STARTED = [
    ("annotate nothing strangers.csv --out x", "nothing: no bundle here: expected a folder with manifest.json"),
    ("annotate foreign strangers.csv --out x", "not the manifest of a bundle"),
    ("annotate tiny strangers.csv --out x", "without a counterpart"),
    ("annotate tiny strangers.csv --out x --engine gpu", "unknown engine 'gpu'; there are: auto, numba"),
    ("evaluate nothing sim/dataset.toml", "no bundle here"),
    ("card nothing", "no bundle here"),
    ("bench nothing --only engine", "no bundle here"),
    ("serve tiny --set prot=5757", "unknown key prot; accepted: frames, predictions"),
    ("serve tiny --set engine=gpu", "unknown engine 'gpu'"),
    ("serve tiny --config serve.toml", "serve.toml: unknown key prot"),
]


@pytest.fixture(scope="module")
def wrong(way: Way) -> Way:
    """The same folder with files that are wrong."""
    (way.folder / "wrong.toml").write_text(RECIPE.replace("channels = 8", "chanels = 8", 1))
    (way.folder / "serve.toml").write_text("prot = 5757\n")
    (way.folder / "foreign").mkdir()
    (way.folder / "foreign" / "manifest.json").write_text("[]")
    return way


@pytest.mark.parametrize(("code", "cases"), [(1, FAILED), (3, NOT_STARTED)], ids=["failed", "could not start"])
def test_every_reason_is_one_line_and_its_exit_code(wrong: Way, code: int, cases: list[tuple[str, str]]) -> None:
    """The first in a child; the others in this process, but for daemons, which take its signals and its log."""
    for number, (command, reason) in enumerate(cases):
        run = rtseg if number == 0 or command.startswith("serve") else here
        assert_one_line(run(*command.split(), cwd=wrong.folder), code, reason)
    assert not (wrong.folder / "x" / "manifest.json").exists()


def test_a_running_daemons_refusals_are_one_line(way: Way, child: Child) -> None:
    taken = start("serve", "tiny", "--frames", child.frames, cwd=way.folder)
    foreign = start("replay", "strangers.csv", "--to", child.frames, cwd=way.folder)
    rate = start("replay", "strangers.csv", "--to", child.frames, "--fps", 25, cwd=way.folder)
    assert_one_line(finish(taken), 3, f"address {child.frames} is in use")
    assert_one_line(finish(foreign), 3, "without a counterpart")
    assert_one_line(finish(rate), 3, "25 frames per second; the model was trained at 30")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("replay some.csv --speed 0", "expected a number above 0 or 'max', got '0'"),
        ("simulate --out x --sequences 1,2", "expected three numbers like 20,10,7"),
        ("annotate tiny some.csv", "--out"),
        ("calibrate tiny some.toml --abstain 0.5", "expected HEAD=PROBABILITY, got '0.5'"),
        ("serve tiny --port 5757", "--port"),
        ("observe", "observe"),
    ],
)
def test_wrong_usage_has_its_own_exit_code(command: str, reason: str, tmp_path: Path) -> None:
    done = here(*command.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def assert_one_line(done: Done, code: int, reason: str) -> None:
    assert done.returncode == code, (done.args, done.stderr)
    assert done.stdout == ""
    assert done.stderr.startswith("rtseg: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert reason in done.stderr
