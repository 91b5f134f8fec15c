{
  "target_defaults": {
    "include_dirs": ["<!@(node -p \"require('node-addon-api').include\")", "bpf"],
    "cflags_cc": ["-std=c++20", "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"],
    "cflags_cc!": ["-fno-exceptions"],
    "defines": ["NAPI_CPP_EXCEPTIONS", "NAPI_VERSION=8"]
  },
  "targets": [
    { "target_name": "bpf", "sources": ["<!@(ls bpf/binding/*.cc)"], "libraries": ["-lbpf", "-lelf", "-lz"] },
    { "target_name": "tcp", "sources": ["<!@(ls agent/native/*.cc)"] }
  ]
}
