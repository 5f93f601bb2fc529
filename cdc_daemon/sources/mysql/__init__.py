"""The source adapter for MySQL and MariaDB: binlog decoding, catalogue, preflight, snapshot."""
