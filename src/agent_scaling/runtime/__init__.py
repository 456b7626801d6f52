"""Files, locks, processes, ranks and the terminal."""
