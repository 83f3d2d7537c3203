"""From claims and rules to verdicts, and what would settle an open question."""
