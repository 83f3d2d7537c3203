"""Backbones that every method shares: ResNets, vision transformers and their registry."""
