"""Other servers under the same game load. `make bench-peers`; what and why: README.md here."""
