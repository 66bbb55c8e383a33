"""The gRPC surface: thin servicers (parse, call, convert), the caller's identity, and who may call which RPC."""
