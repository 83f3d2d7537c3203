"""How fast this machine trains, and what a plan will cost."""
