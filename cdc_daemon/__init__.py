"""Committed row changes of ERP, CRM and HR databases as canonical entities, exactly once."""

__version__ = "0.1.0"
