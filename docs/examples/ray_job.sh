#!/bin/sh
# A whole run as a job of a Ray cluster. The job's driver is the only one that writes the store; workers get texts and
# give vectors. Every machine needs armorm[ray] in the same version; see docs/cluster.md.
#   RAY_API_SERVER_ADDRESS=http://head:8265 ARMORM_CONFIG=/srv/armorm/armorm.toml ./ray_job.sh
set -eu
exec ray job submit \
  --entrypoint-num-cpus 1 \
  --metadata-json '{"what": "armorm run"}' \
  -- env ARMORM_EMBED__ENGINE=ray armorm run --config "$ARMORM_CONFIG"
