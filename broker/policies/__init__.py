"""IAM documents as pure code: what refusals quote, and what `tollbridge iam print` prints.

statements.py   the permissions that logging in needs, with the ARNs of one database
catalog.py      every statement of every product, and what stops without it
targets.py      registered databases as ARNs, with the users that rules let in
documents.py    the policies of identity, role, trust, boundary       plan.py   those of a whole configuration
sizes.py        IAM's limits, and how a policy becomes several        render.py JSON, Terraform, CloudFormation
"""
