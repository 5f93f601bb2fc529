"""Adapters that read one kind of database in commit order; independent of each other."""
