"""A fitted model on disk: its files, record, model card and support pictures."""
