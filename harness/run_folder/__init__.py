"""A run folder: its layout, leases on trials, heartbeats and progress."""
