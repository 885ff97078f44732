"""Studies: questions about a model that one training does not answer, each with a table, a plot and all its numbers.

ablation       Which feature groups matter: `study_ablation`
candidates     Decoder settings tried on every video, and the choice among them: `candidate_table`, `choose_setting`
compare        Scores over several seeds, and differences paired over videos: `score_system`, `paired_differences`
crossvalidate  Grouped k-fold cross-validation by video: `crossvalidate`, `out_of_fold_answers`
decoding       Which decoder settings a bundle should have: `study_decoding`
faults         Faults of cameras and trackers, put into recordings on purpose: `drop_points`, `jitter` ...
lookahead      What a delay is worth: `study_lookahead`
missing        How a bundle's scores fall under faults: `study_missing`
plots          How the studies draw: `panels`, `curve`, `differences`
results        A study's JSON, Markdown and PNG: `preamble`, `write_study`, `table`
trials         One training whose predictions stay on disk: `run_trial`, `Trial`
variants       Variants of one recipe, trained with the same seeds and compared: `compare_variants`
"""
