"""How tollbridge is deployed and tried out: images, manifests, configuration examples and the sandbox."""
