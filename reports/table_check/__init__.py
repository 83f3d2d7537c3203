"""`twinbench check --table`: each number of an author's table, traced to records."""
