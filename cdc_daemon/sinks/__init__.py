"""Control databases: units of work, the ledger, the failure queue and the entity tables."""
