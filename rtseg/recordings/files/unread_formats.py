"""Files of other programs that laboratories have and that are not read: what they are, and what to bring instead.

Asked where no reader recognizes a file; a name and a way out say more than a list of what is read.
"""

from __future__ import annotations

_TABLE = "write labels as a table with the columns start_s, stop_s, behaviour, and poses as plain CSV (docs/formats.md)"
PLAIN_POSES = "write the points as plain CSV (frame,animal.nose.x,animal.nose.y,animal.nose.score; docs/formats.md)"
"""The way out for poses of any program that is not read."""
_BY_SUFFIX = {
    **dict.fromkeys((".xls", ".xlsb", ".ods"), "is a workbook of a kind that is not read; save it as .xlsx or CSV"),
    ".mat": f"is MATLAB's (MoTr, DANNCE, ...), of which JAABA's scores and labels are read, as labels; {_TABLE}",
    ".jab": "is JAABA's project, which is not read; save its classifier's scores (scores_*.mat) from JAABA",
    ".trk": f"is APT's, which is not read; {PLAIN_POSES}",
    ".npz": f"is NumPy's (TRex, idtracker.ai, ...), which is not read; {PLAIN_POSES}",
    **dict.fromkeys((".c3d", ".trc", ".bvh"), f"is of motion capture, in three dimensions; {PLAIN_POSES}"),
    **dict.fromkeys((".gz", ".zip", ".7z", ".bz2", ".xz"), "is packed; unpack it, and bring what is inside"),
    **dict.fromkeys((".rds", ".rdata"), f"is R's, which is not read; {PLAIN_POSES}"),
    ".bag": f"is ROS', which is not read; {PLAIN_POSES}",
    ".res": f"is JWatcher's, which is not read; {_TABLE}",
    ".textgrid": f"is Praat's TextGrid, which is not read; {_TABLE}",
    ".anvil": f"is ANVIL's, which is not read; {_TABLE}",
    ".sds": "is in SDIS, which is not read; export tabular or aggregated events from BORIS",
    ".opf": f"is Datavyu's, which is not read; {_TABLE}",
    ".odx": "is The Observer's, which is not read; export the event data there as text or Excel",
    ".npy": f"is NumPy's, which does not say what its numbers are; {_TABLE}",
    ".parquet": "is a Parquet file, which is not read; write it as CSV: pandas.read_parquet(FILE).to_csv(NEW)",
    ".feather": "is a Feather file, which is not read; write it as CSV: pandas.read_feather(FILE).to_csv(NEW)",
    **dict.fromkeys((".pkl", ".pickle"), "is a pickle, which can run any code and is never opened; write it as CSV"),
    **dict.fromkeys(
        (".mp4", ".avi", ".mov", ".mkv"), "is a video; rtseg reads the keypoints that a tracker made of it"
    ),
}
LABEL_SUFFIXES = (".xls", ".xlsb", ".ods", ".jab", ".res", ".opf", ".odx", ".textgrid", ".anvil", ".sds")
"""Ends of names of files that laboratories keep labels in, which would be passed over without a word."""
_ETHOVISION = (
    "is EthoVision's track or another export, of which poses are read from raw data with X and Y of each point, and "
    "labels from the manual scoring log; export these"
)
_BY_BEGINNING = (
    ("number of header lines", _ETHOVISION),
    ("# csv_header = metadata_id", f"is VIA's list of a video's segments, which is not read; {_TABLE}"),
    ("# exported using vgg image annotator", f"is VIA's, which is not read; {_TABLE}"),
    ("filename,file_size,file_attributes,region_count", "is VIA's list of regions in pictures; bring a tracker's file"),
    ("version https://git-lfs", "is a pointer of Git LFS, not the file itself; fetch that with git lfs pull"),
    ("firstlineofdata", f"is JWatcher's, which is not read; {_TABLE}"),
    ("<?xml", f"is XML of a program that is not read (of labels, ELAN's .eaf is); {_TABLE}"),
    ("{_via_settings", f"is VIA's project, which is not read; {_TABLE}"),
)


def why_unread_kind(suffix: str) -> str:
    """What files with such an end of the name, in lower case, are and what to bring instead; '' of any other."""
    return _BY_SUFFIX.get(suffix, "")


def why_unread_text(first_line: str) -> str:
    """The same of a text file or a sheet by its first line, cells apart by anything."""
    first = first_line.replace('"', "").strip().lower()
    return next((why for begin, why in _BY_BEGINNING if first.startswith(begin)), "")
