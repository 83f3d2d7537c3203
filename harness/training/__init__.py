"""Training: the loop, one step, optimisers, schedules and checkpoints."""
