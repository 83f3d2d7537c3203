"""`twinbench check --table`: trace each number of a paper's table to its records."""
