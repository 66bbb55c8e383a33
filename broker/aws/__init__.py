"""The only importer of boto3 and botocore. Everything else receives it through the Protocols in `broker.model`."""
