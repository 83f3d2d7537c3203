"""From claims and rules to verdicts, with what would settle an open question."""
