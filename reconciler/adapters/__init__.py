"""The ways in: today the command line. Arguments become calls of the engine, its values text and exit codes."""
