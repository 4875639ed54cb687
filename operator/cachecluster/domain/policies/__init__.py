"""The ordered questions that the planner asks of a snapshot. One policy, one function; no I/O, no clock."""
