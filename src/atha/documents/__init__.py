"""What reports and tables are made of: tables, escaping, figures and pages."""
