"""HTML reports, each one offline file."""
