"""What is observed, what should be done about it, and what to report. Pure: no I/O, no clock, no randomness."""
