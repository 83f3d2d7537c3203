"""`twinbench verify`: the integrity of a bundle and the levels above it."""
