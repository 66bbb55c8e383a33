"""IAM documents as pure code: what refusals quote, so that it can be pasted.

statements.py   the permissions that logging in needs, per product
"""
