"""Coverage-guided fuzzing of everything that reads a file of somebody else's."""
