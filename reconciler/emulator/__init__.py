"""The far side of the wire: a local stand-in for the service's fine-tuning endpoints, where nothing is bought.

Written from the service's documentation (docs/contract.md) and from nothing of ours, so that client and server cannot
share a mistake; the catalogue is read as data. `server.py` starts it; importing this package loads nothing.
"""
