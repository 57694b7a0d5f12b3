"""The only importer of boto3: table, bucket, bus and secrets, each behind the calls we need."""
