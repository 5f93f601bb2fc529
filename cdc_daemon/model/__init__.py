"""The words every part shares: errors, positions, changes, entities, ports; stdlib only."""
