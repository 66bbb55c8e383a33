"""Trust bundles that lie in the package: which certificate authorities sign AWS's database servers.

Data only; `proxy.net.tls` reads it. README.md beside the files says what they hold.
"""
