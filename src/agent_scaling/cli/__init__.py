"""The command line: verbs, help, completion and the doctor."""
