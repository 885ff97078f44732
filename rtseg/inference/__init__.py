"""From a frame to an answer: the only way, live and offline.

abstention   Which heads are not sure enough to be taken at their word
annotate     Offline annotation
classifier   What a user puts into their own loop
decoding     From probabilities to bouts
predictions  What a model answers
session      One stream's state and its step
stages       What is computed about frames before and after the network, for all slots of one model
"""
