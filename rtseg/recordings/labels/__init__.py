"""Readers of frame labels, one file per format; `rtseg.recordings.open` chooses among them.

label_file  LabelReader: the contract of a reader; Track; paint: bouts onto frames, contradictions counted
boris       read_boris: event exports of BORIS
caltech     read_caltech: text of the Caltech Behavior Annotator
csv         read_label_csv: plain CSV, per frame or as bouts; read_calms21_labels: CalMS21's label list
"""
