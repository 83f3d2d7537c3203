"""Layers that methods share: the projector and exponential moving averages."""
