"""The backbones that all methods share: ResNets, vision transformers and their registry."""
