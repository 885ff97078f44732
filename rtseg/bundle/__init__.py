"""The folder that passes from training to serving, and what is in it.

architecture  What every kind of model has: `Architecture`
bundle        The bundle, written and read: `Bundle`, `save_bundle`, `load_bundle`, `add_derived_file`
limits        What a bundle may ask for, checked before it is built: `check_description`, `check_architecture` ...
model_card    A bundle's model card: `write_card`, `model_card`
network       Sizes of the network, and name and shape of every weight: `NetworkSpec`, `Cell`
provenance    Which recordings a bundle was trained on, by their content: `check_unseen`, `poses_hash`
trees         Sizes of boosted trees, and every tensor's name, type and shape: `TreesSpec`
weights       A bundle's tensors out of safetensors' bytes: `parse_tensors`
"""
