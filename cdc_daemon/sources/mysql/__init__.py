"""MySQL and MariaDB as a source: what their binlogs say."""
