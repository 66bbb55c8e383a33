"""Who may enter what: rules and proxy rows (`model`), the pure decision (`evaluate`), and loading them (`load`)."""
