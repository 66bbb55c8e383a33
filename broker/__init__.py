"""The broker: decides who may enter which database, and issues credentials that live for minutes.

    __main__.py   argv only                      app.py     composition root: the only place that constructs things
    settings.py   the YAML                       running.py what it does once it is put together
    inforce.py    what the YAML says now         reload.py  follows the file
    audit.py      one JSON line per decision and change
    grants.py     THE use case: locate -> authorize -> session -> issue -> audit
    model.py errors.py                           frozen values; refusals

    access/       who may: rules, evaluation (pure), loading; operators
    registry/     which databases exist: snapshot, merge of sources; dynamic ones: documents, stores, registrar
    discovery/    what there is in AWS: observers per service (pure), the sweep, registered ones compared with AWS
    sessions/     account sessions: chain key, freshness (pure), keeper (one chain, single flight), pool
    issuers/      one module per way AWS lets you in, and a table product -> issuer
    policies/     IAM documents as pure code
    aws/          the only importer of boto3/botocore
    api/          gRPC servicers (thin), interceptors, who may call what

A broker holds its account sessions in memory only. Several brokers are replicas that share nothing but AWS and, where
databases are registered or discovered, a store.
"""
