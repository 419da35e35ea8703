"""The proof that no crash, pause, cut or race buys twice, loses or deletes: docs/testing.md says how it works."""
