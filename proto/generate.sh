#!/usr/bin/env bash
# Makes proto/gen/record.{js,d.ts} from the .proto files: static code for the hot path (records). gRPC uses the .proto
# files themselves.
set -euo pipefail
cd "$(dirname "$0")/.."
export NPM_CONFIG_LOGLEVEL=error

out=proto/gen
mkdir -p $out
node_modules/.bin/pbjs -t static-module -w es6 -r baton --dependency protobufjs/minimal.js -p proto \
  --force-number --no-create --no-verify --no-convert --no-delimited --no-typeurl --no-service \
  -o $out/record.js proto/baton/v1/record.proto
node_modules/.bin/pbts -o $out/record.d.ts $out/record.js

# protobufjs is CommonJS: only its default export is there for ESM. No field needs Long (--force-number).
sed -i 's|^import \* as \$protobuf from|import $protobuf from|' $out/record.js
sed -i -e 's|^import \* as \$protobuf from "protobufjs";|import type $protobuf from "protobufjs";|' \
  -e '/^import Long = require/d' $out/record.d.ts
