#!/usr/bin/env bash
# Copyright 2026 The dealiot-connect authors.
# SPDX-License-Identifier: Apache-2.0
#
# Writes the secrets that docker-compose.yml names, with random values.
#
#   deploy/compose/make-secrets.sh [DIR]     default: secrets/ beside docker-compose.yml
#
# Files that are there already stay as they are, so it may run again at any time.
# Only you may enter the folder (mode 700). The files in it are readable (644),
# because a container reads them as a user of its own, not as you.

set -euo pipefail
umask 077

dir=${1:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/secrets}
mkdir -p "$dir"
chmod 700 "$dir"

random() { head -c 20 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; } # 160 bits in hexadecimal

# write FILE: puts standard input into the file, whole or not at all.
write() {
  local part
  part=$(mktemp "$dir/.part.XXXXXX")
  cat >"$part"
  chmod 644 "$part"
  mv "$part" "$dir/$1"
  printf 'wrote %s\n' "$dir/$1"
}

for name in mqtt_password timescaledb_password s3_access_key s3_secret_key; do
  [ -s "$dir/$name.txt" ] || random | write "$name.txt"
done

# SeaweedFS reads its users in this form. Change a key: delete this file, run again.
[ -s "$dir/seaweedfs_s3.json" ] || write seaweedfs_s3.json <<JSON
{
  "identities": [
    {
      "name": "dealiot",
      "credentials": [{ "accessKey": "$(cat "$dir/s3_access_key.txt")", "secretKey": "$(cat "$dir/s3_secret_key.txt")" }],
      "actions": ["Admin", "Read", "List", "Tagging", "Write"]
    }
  ]
}
JSON
