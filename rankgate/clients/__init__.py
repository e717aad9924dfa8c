"""Everything that talks to the outside: issuers, policy engines, Redis, files."""
