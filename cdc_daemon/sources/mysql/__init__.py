"""The binlog of MySQL and MariaDB as a source."""
