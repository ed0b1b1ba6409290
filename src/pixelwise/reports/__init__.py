"""HTML reports of checks, training runs and cross-validation."""
