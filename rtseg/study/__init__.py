"""Studies: questions about a model that one training does not answer, each with a table, a plot and all its numbers.

ablation       Which features matter
candidates     Ways of decoding one head's probabilities, every setting of each tried on every video, and the
compare        Scores of systems trained with several seeds, and of two of them paired over the same videos
crossvalidate  Grouped k-fold cross-validation by video
decoding       How to decode a bundle's probabilities into bouts
faults         Faults of cameras and trackers, put into a recording on purpose and in a known amount
lookahead      What a delay is worth
missing        How a bundle stands faults
plots          How the studies draw
results        What a study leaves behind
trials         One trial
variants       Variants of one recipe, trained with the same seeds and compared on the validation recordings,
"""
