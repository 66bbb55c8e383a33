"""What can go wrong while a sandbox starts."""


class SandboxError(Exception):
    """A part of the sandbox did not start; the message names the part and where its log is."""


class MissingEngine(SandboxError):
    """Software is not installed: tests turn it into a skip. The message ends with the exact line that installs it."""
