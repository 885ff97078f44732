"""The folder that passes from training to serving, and what stands in it.

bundle      The bundle
model_card  A bundle's model card
network     The shape of the network that a bundle holds
provenance  Which recordings a bundle was trained on, by their content
"""
