"""Configuration files: reading, checking, secrets, and the models that every other part reads."""
