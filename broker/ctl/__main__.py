"""`tollbridge`: argv in, exit code out. `tollbridge --help` says the rest."""

from __future__ import annotations

import click

from broker.ctl.access import explain_, rules
from broker.ctl.completion import completion
from broker.ctl.discovering import discovery
from broker.ctl.doctor import doctor
from broker.ctl.failure import EXIT_MEANINGS
from broker.ctl.iam import iam
from broker.ctl.resources import create, forget, get, ls, rm
from broker.ctl.token import token

_EPILOG = "\b\nExit codes:\n" + "\n".join(f"  {code.value:>2}  {meaning}" for code, meaning in EXIT_MEANINGS.items())


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}, epilog=_EPILOG)
@click.version_option(package_name="tollbridge", prog_name="tollbridge")
def main() -> None:
    """See, explain and prepare everything about tollbridge's databases.

    \b
    How the broker is found, first of:
      flags        COMMAND --broker HOST:PORT --cert FILE --key FILE --ca FILE
      environment  TOLLBRIDGE_BROKER, TOLLBRIDGE_CERT_FILE, TOLLBRIDGE_KEY_FILE, TOLLBRIDGE_CA_FILE
      a file       ~/.config/tollbridge/config.yaml, or the one that TOLLBRIDGE_CONFIG names:
                   broker: {address: HOST:PORT, tls: {cert_file: FILE, key_file: FILE, ca_file: FILE}}
    `explain --config`, `rules test` and `iam` need none.
    """


for command in (create, get, ls, rm, forget, doctor, token, explain_, rules, discovery, iam, completion):
    main.add_command(command)


if __name__ == "__main__":
    main()
