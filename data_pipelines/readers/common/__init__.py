"""What readers share: items, tables, tars, fields."""
