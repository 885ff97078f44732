"""Readers of frame labels, one file per format; `rtseg.recordings.open` chooses among them.

label_file     LabelReader: the contract of a reader; Video, Track, Tracks; paint: bouts onto frames; rate_kind
caltech        read_caltech: text of the Caltech Behavior Annotator
bento          read_bento: .annot of MARS and BENTO
boris          read_boris: event tables that BORIS exported
boris_project  read_boris_project: BORIS' own .boris
boris_events   choose_observation, pair_marks: what both have in common
noldus         read_noldus: event logs of The Observer XT and EthoVision XT
elan           read_elan: ELAN's .eaf
jaaba          read_jaaba: JAABA's scores and labels in MATLAB's .mat
csv            read_label_csv: plain CSV of any kind; read_calms21_labels: CalMS21's label list
bout_table     tracks_of_bout_table: a row per bout
workbook       read_label_workbook: such tables in Excel's workbooks
frame_tables   tables with a row per frame or per step of time
"""
