"""PostgreSQL 14 to 18 as a source: logical decoding with pgoutput over COPY BOTH."""
