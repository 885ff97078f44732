"""Two simulated mice in CalMS21's arena: for the demo, for tests, for load; every output says *simulated*.

`behaviour` draws Task 1 bouts by a semi-Markov process; `plan` fills them with actions; `body` moves the two bodies;
`tracker` spoils the points as a pose estimator would; `annotators` label what was done; `tasks` makes sequences in
memory (`simulate_sequence`); `files` writes CalMS21's JSON (`simulate_dataset`). This file imports none of them.
"""
