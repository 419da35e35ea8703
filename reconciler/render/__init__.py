"""The only place that words things: values in, text or plain data out.

Nothing here prints, asks or decides. Every string that came from a manifest, a file name, data or the service passes
`words.clean` before it is part of a line. Styles are click's and vanish where the output is no terminal.
"""
