"""The controller over HTTP: its health, its figures, its pages. Reads what looks left behind; decides nothing.

Each module here has a `routes` function, and `app` puts them together behind one door.
"""
