"""The pipeline: a batch between the log and the commit. No driver, no SQL, no YAML."""
