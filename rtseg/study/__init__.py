"""Studies: questions about a model that one training does not answer, each with a table, a plot and all its numbers.

crossvalidate, ablation, lookahead train (through `trials`, which resumes); missing and decoding ask a finished bundle,
through the Session that serves, and import no torch. results: what each writes, NAME.json, NAME.md and NAME.png.
"""
