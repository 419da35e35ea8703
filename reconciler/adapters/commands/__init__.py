"""One module for each command, named like it and loaded only when it is given.

A module imports click and `options` at its top and everything else inside the command: completion loads the module to
learn its options, and must not wait for a YAML parser or an HTTP client.
"""
