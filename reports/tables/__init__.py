"""From records to tables: sections, cells, data frames and published numbers."""
