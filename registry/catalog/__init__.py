"""The catalog: tables, transactions and queries. Rows never leave this package; results do."""
