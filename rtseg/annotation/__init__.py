"""Many recordings annotated: over several processes, going on behind a file that cannot be read.

many  annotate_files: what became of each file, as they are done; Outcome
"""
