"""What the commands share: the app, the options that several take, exit codes and logging.

The commands are in the files beside this one.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 could not start: no such bundle, engine, daemon or address, keypoints
that do not match, and whatever keeps `serve` from starting. Logging is set up here and nowhere else.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import rtseg
from rtseg.compiled.cache_folder import ensure_cache_folder
from rtseg.errors import BundleError, EngineError, RtsegError, ServeError, SettingError, SkeletonError, needs_extra

if TYPE_CHECKING:
    from rtseg.recordings.files.reading_warnings import ReadingWarning
    from rtseg.recordings.naming import NameMap

NOT_STARTED = (ServeError, BundleError, EngineError, SkeletonError)
"""Exit code 3: a supervisor need not start again what cannot start; work that failed has code 1."""
LARGEST_NUMBER = 1e6
"""Of an option's seconds, minutes or frames per second: eleven days, and faster than any camera."""

app = typer.Typer(
    name="rtseg",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rtseg {rtseg.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Tells live, from tracked keypoints, what animals are doing."""


def above_zero(value: float | None) -> float | None:
    """For options with a number: refuse, as wrong usage, what is not above 0 or beyond any use."""
    if value is not None and not 0 < value <= LARGEST_NUMBER:
        raise typer.BadParameter(f"expected a number above 0, up to {LARGEST_NUMBER:g}, got {value:g}")
    return value


BundlePath = Annotated[Path, typer.Argument(help="Folder of a bundle, e.g. engines/rats58.", show_default=False)]
DatasetFile = Annotated[Path, typer.Argument(help="Dataset file (TOML).", show_default=False)]
RecipeFile = Annotated[Path, typer.Argument(help="Recipe (TOML).", show_default=False)]
Split = Annotated[str, typer.Option("--split", help="Which recordings of the dataset.")]
SplitOrFolds = Annotated[
    str | None, typer.Option("--split", help="Which recordings of the dataset.", show_default="validation")
]
OutOfFold = Annotated[
    Path | None,
    typer.Option(
        "--out-of-fold", help="Instead: crossvalidate's answers to the recordings that the bundle learnt from."
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change a setting: section.key=value (repeatable).", metavar="KEY=VALUE"),
]
EngineName = Annotated[str, typer.Option("--engine", help="auto, numba, cuda, tensorrt, onnx or torch.")]
Root = Annotated[
    Path | None, typer.Option("--root", help="Folder of the recordings, instead of the dataset file's own.")
]
Fps = Annotated[
    float | None,
    typer.Option("--fps", help="Frames per second, for files that carry none (default 30).", callback=above_zero),
]
KeypointNames = Annotated[
    list[str] | None,
    typer.Option("--keypoint", help="The file's name of a point, and the model's (repeatable).", metavar="FILE=MODEL"),
]
AnimalNames = Annotated[
    list[str] | None,
    typer.Option(
        "--animal", help="The same of an animal; FILE alone chooses those that take part.", metavar="FILE[=MODEL]"
    ),
]
NamesFile = Annotated[
    Path | None, typer.Option("--names", help="Instead: a TOML file with keypoints and animals, as in a dataset.")
]
PxPerMm = Annotated[
    float | None, typer.Option("--px-per-mm", help="How many px are a mm, for models that know their training's.")
]
Out = Annotated[Path, typer.Option("--out", help="Folder to write to.")]
HeadNames = Annotated[list[str] | None, typer.Option("--head", help="Answer this head only (repeatable).")]
KeyFile = Annotated[Path | None, typer.Option("--key", help="Your key file, where the daemon asks for one.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but the result.")]


@contextmanager
def training_packages() -> Iterator[None]:
    """Within this, a package that is missing is named together with the extra `train` that brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise needs_extra(str(error.name), "train", "training") from None


def split_of(split: str | None, out_of_fold: Path | None) -> str:
    """The split that --split names; with --out-of-fold the bundle says which recordings these are."""
    if split is not None and out_of_fold is not None:
        raise typer.BadParameter("--out-of-fold is about all recordings that the bundle learnt from: give no --split")
    return split or "validation"


def make_folder_of(file: Path | None) -> None:
    """Make the folder of a file that is to be written, before the work of hours begins; None = no file."""
    if file:
        file.parent.mkdir(parents=True, exist_ok=True)


def write_json(file: Path | None, value: object) -> None:
    """Write a result to the file that --json names, which may be a device as well; None = no file."""
    if file:
        file.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def name_map(file: Path | None, keypoints: list[str] | None, animals: list[str] | None) -> NameMap:
    """The names that --names, --keypoint and --animal give; SettingError where both the file and others are given."""
    from rtseg.recordings.naming import NameMap

    if file is None:
        return NameMap.from_options(tuple(keypoints or ()), tuple(animals or ()))
    if keypoints or animals:
        raise typer.BadParameter("--names is a file with all names; give no --keypoint and no --animal besides")
    return NameMap.from_file(file)


def print_progress(text: str) -> None:
    """To stderr, so that stdout holds a command's result alone. Whoever reads it may go, or a terminal be closed: what
    is done, as a session with an animal, goes on all the same.
    """
    try:
        typer.echo(text, err=True)
    except OSError:
        # What it has kept would be tried again with every line.
        with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stderr.fileno())


def refuse_options(given: Mapping[str, object], why: str) -> None:
    """Raise SettingError for options that somebody gave and that would do nothing here. given: their values by name,
    None or False where they were left out.
    """
    if named := [name for name, value in given.items() if value not in (None, False, [])]:
        raise SettingError(f"{', '.join(named)}: of no use here: {why}")


def print_warnings(warnings: Iterable[ReadingWarning]) -> None:
    """What a reader tolerated, one line for each kind."""
    from rtseg.recordings.files.reading_warnings import WarningLog

    log = WarningLog()
    log.add_warnings(warnings)
    log.tell(print_progress)


def _words_of(error: OSError) -> str:
    """The file, what the system says of it, and what to do."""
    if error.filename is None:
        return str(error)
    mends = {
        **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "; name a file or folder that you may use (--out)"),
        errno.ENOSPC: "; make room there, or name a folder on another disk (--out)",
    }
    return f"{error.filename}: {error.strerror}{mends.get(error.errno or 0, '')}"


def main() -> None:
    """Run a command; a known error becomes one line and an exit code."""
    # Plain for the short commands; `serve` logs by a thread of its own (`rtseg.system.log_setup`).
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("rtseg").setLevel(logging.INFO)
    ensure_cache_folder()
    # A user can mend these errors: one line says what is wrong. Any other exception is a bug and shows its traceback.
    try:
        app()
    except RtsegError as error:
        typer.echo(f"rtseg: {error}", err=True)
        sys.exit(3 if isinstance(error, NOT_STARTED) else 1)
    except OSError as error:
        typer.echo(f"rtseg: {_words_of(error)}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
