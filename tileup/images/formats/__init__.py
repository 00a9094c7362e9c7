"""The picture formats that tileup knows, a file for each."""
