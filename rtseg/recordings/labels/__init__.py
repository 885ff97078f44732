"""Readers of frame labels.

boris       BORIS event exports (CSV or TSV)
caltech     Caltech Behavior Annotator text
csv         Plain CSV of labels, per frame or as bouts, and CalMS21's label list
label_file  What every label reader does with the bouts it found
"""
