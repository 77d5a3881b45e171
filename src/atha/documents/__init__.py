"""What reports and tables are made of: tables, escaping, words, figures and pages."""
