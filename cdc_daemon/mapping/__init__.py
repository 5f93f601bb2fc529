"""From source rows to entity rows: pure, no socket, no clock, no driver."""
