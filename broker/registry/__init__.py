"""Which databases exist: an immutable snapshot, merged from where they were registered, and the news of its changes."""
