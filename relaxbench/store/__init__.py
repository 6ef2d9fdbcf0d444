"""The database: tables, claims, opening it."""
