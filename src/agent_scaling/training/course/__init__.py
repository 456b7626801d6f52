"""The course of a run: its stops, its resumes and its branches."""
