# shellcheck shell=bash source=/dev/null
# Sourced on a node of cluster.yaml, before `ray start` and before Serve's commands: the
# environment that Serve needs, and the keys, which are in SSM and in no file.
# One chain, so that what is sourced in vain fails: nothing may start with half of it.
serve_env=$(python -c 'from serve_app.packaged_files import PROJECT; print(PROJECT / "configs/serve.env")') &&
  set -a &&
  . "$serve_env" &&
  set +a &&
  RAY_SERVE_HAPROXY_BINARY_PATH=$(command -v fingerpost-haproxy) && # without splicing: docs/operate/environment.md
  export RAY_SERVE_HAPROXY_BINARY_PATH &&
  export RAY_USAGE_STATS_ENABLED=0 &&
  export RAY_AUTH_MODE=token && # serve.env's is for one machine; the token is RAY_AUTH_TOKEN, a key
  keys=$(python ~/fingerpost/node/keys.py /fingerpost/) &&
  eval "$keys"
