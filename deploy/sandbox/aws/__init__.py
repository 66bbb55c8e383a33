"""The AWS of the sandbox: ministack in-process, with what AWS refuses and ministack lets through added in front.

Runs as ``python -m aws`` in ministack's own virtual environment with ``deploy/sandbox`` on the path, so it imports
nothing of the rest of the project; the rest imports from here only what is pure (``strict``, ``faults``, ``calls``).
``emulator`` is the only importer of ministack. With that folder on the path its files can be imported by their bare
names: none may be called as a module of the standard library or of ministack's dependencies.
"""
