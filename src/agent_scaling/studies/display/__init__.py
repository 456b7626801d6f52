"""A study on the terminal: its plan with warnings, and its sweep, read from the runs' folders."""
