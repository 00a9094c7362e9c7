"""The `tileup` command: words, progress, exit codes."""
