"""`tollbridge completion bash|zsh|fish`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_VARIABLE = "_TOLLBRIDGE_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash   tollbridge completion bash > /etc/bash_completion.d/tollbridge
    zsh    tollbridge completion zsh > "${fpath[1]}/_tollbridge"
    fish   tollbridge completion fish > ~/.config/fish/completions/tollbridge.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    root = click.get_current_context().find_root().command
    made = kind(root, {}, "tollbridge", _VARIABLE)
    # Not `source()`: for bash that runs bash to ask for its version.
    click.echo(made.source_template % made.source_vars())
