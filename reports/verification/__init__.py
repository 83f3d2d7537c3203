"""`twinbench verify`: the integrity of a bundle, and the levels render and aggregate."""
