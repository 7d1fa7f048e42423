"""Starts the two servers that every benchmark needs: the mock upstream and nginx."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

NGINX_CONF = """
daemon off; master_process off; pid {dir}/nginx.pid; error_log {dir}/nginx.log warn;
events {{ worker_connections 20000; multi_accept on; }}
http {{
  access_log off; server_tokens off; tcp_nodelay on;
  client_header_buffer_size 4k; proxy_buffer_size 16k; proxy_buffers 8 32k; proxy_busy_buffers_size 64k;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  keepalive_requests 1000000000; keepalive_timeout 3600s;
  upstream mock {{ server {upstream}; keepalive 512; keepalive_requests 1000000000; }}
  map_hash_bucket_size 256;
  map $http_authorization $known {{ default 0; "Bearer {gateway_key}" 1; }}
  server {{
    listen {listen} backlog=4096;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host {upstream};
    proxy_set_header Authorization "Bearer {managed_key}";
    proxy_read_timeout 3600s; proxy_send_timeout 3600s;
    location /openai/ {{
      if ($known = 0) {{ return 401; }}
      proxy_pass http://mock/;
    }}
    location = /openai/v1/chat/completions {{
      if ($known = 0) {{ return 401; }}
      proxy_buffering off;
      proxy_pass http://mock/v1/chat/completions;
    }}
    location = /openai/v1/audio/transcriptions {{
      if ($known = 0) {{ return 401; }}
      client_max_body_size 0; proxy_request_buffering off;
      proxy_pass http://mock/v1/audio/transcriptions;
    }}
  }}
}}
"""


def get(url, headers=None, patience=5):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=patience) as answer:
        return answer.read().decode()


def post_status(url, headers, body):
    request = urllib.request.Request(url, headers=headers, data=body.encode())
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A child process that is stopped, by its own pid, when the block ends."""

    def __init__(self, command, cpu=None, log=None, environment=None):
        if cpu is not None:
            command = ["taskset", "-c", str(cpu), *command]
        output = open(log, "w") if log else subprocess.DEVNULL
        self.process = subprocess.Popen(list(map(str, command)), stdout=output, stderr=output, env=environment)
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def wait_until_listening(self, address, patience=10):
        host, port = address.split(":")
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"server on {address} ended with {self.process.returncode}")
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"nothing listens on {address}")


class Mock:
    """The mock upstream's control interface."""

    def __init__(self, address):
        self.address = address

    def stats(self):
        return json.loads(get(f"http://{self.address}/__stats"))

    def set(self, **timing):
        get(f"http://{self.address}/__set?" + "&".join(f"{name}={value}" for name, value in timing.items()))


def require(tools, binaries):
    """Ends the program when a tool or one of the binaries of mock-upstream is missing."""
    missing = [name for name in tools if not shutil.which(name)]
    missing += [str(binaries / name) for name in ("mock-upstream", "load-client") if not (binaries / name).exists()]
    if missing:
        sys.exit(f"missing: {', '.join(missing)}; see benches/load/README.md")


def ensure_mock(stack, binaries, address, managed_key, cpu):
    """Uses the mock that listens on the address, or starts one for as long as `stack` is open."""
    mock = Mock(address)
    try:
        mock.stats()
    except OSError:
        server = Server([binaries / "mock-upstream", "--listen", address, "--key", managed_key], cpu=cpu)
        stack.enter_context(server).wait_until_listening(address)
    return mock


def nginx_command(work_dir, upstream, gateway_key, managed_key):
    """Writes the reference configuration; returns the command that serves it and its base URL."""
    directory = Path(work_dir) / "nginx"
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o755)
    listen = f"127.0.0.1:{free_port()}"
    conf = directory / "nginx.conf"
    conf.write_text(NGINX_CONF.format(dir=directory, upstream=upstream, listen=listen,
                                      gateway_key=gateway_key, managed_key=managed_key))
    return ["nginx", "-p", directory, "-c", conf, "-e", directory / "nginx.log"], f"http://{listen}/openai/v1"


def start_nginx(work_dir, upstream, gateway_key, managed_key, cpu):
    command, url = nginx_command(work_dir, upstream, gateway_key, managed_key)
    server = Server(command, cpu=cpu)
    server.wait_until_listening(urlsplit(url).netloc)
    return server, url
