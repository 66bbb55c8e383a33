"""One module per way AWS lets you in."""
