"""Two simulated mice in CalMS21's arena: for the demo, for tests, for load; every output says *simulated*.

annotators  People who label what was done
behaviour   Which behaviour when
body        Two bodies that pursue the goals of a plan
files       A whole simulated data set on disk
plan        What each animal does in each frame
tasks       Simulated sequences with the labels of CalMS21's three tasks, in memory
tracker     What a pose estimator would make of the true points
"""
