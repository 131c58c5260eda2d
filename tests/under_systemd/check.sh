#!/usr/bin/env bash
# Inside a booted Debian: installs the service as docs/service.md has it, and sees whether it does what that promises.
set -euo pipefail
python=/opt/tweetboard/bin/python
failed=0
says() { if [ "$2" = "$3" ]; then echo "ok      $1: $2"; else echo "FAILED  $1: $2, not $3"; failed=1; fi; }
shown() { systemctl show -p "$1" --value tweetboard; }
logged() { journalctl --no-pager -o cat -u tweetboard | grep -c "$1" || true; }
has_logged() { [ "$(logged "$1")" != 0 ]; }
until_it() { for _ in $(seq 300); do if "$@" >/dev/null 2>&1; then return 0; fi; sleep 0.2; done; return 1; }
stream() { curl -sf http://127.0.0.1:8080/langs | grep -q '"en"'; }
another() { [ "$(shown MainPID)" != "$1" ] && [ "$(shown MainPID)" != 0 ]; }

systemctl --version | head -1
set -a && . /opt/project/pip.env && set +a
/usr/bin/python3 -m venv /opt/tweetboard && /opt/tweetboard/bin/pip install -q --force-reinstall /opt/project
systemctl stop tweetboard.socket tweetboard 2>/dev/null || true
rm -rf /etc/tweetboard /etc/credstore /etc/systemd/system/tweetboard.* /var/lib/private/tweetboard
mkdir -p /etc/tweetboard /etc/credstore
(umask 077 && echo a-very-secret-token >/etc/credstore/stream-token)
cat >/etc/tweetboard/config.toml <<'X'
[stream]
url = "http://127.0.0.1:18123/stream"
[boards.langs]
field = ".lang"
X
cat >/root/upstream.py <<'X'
import http.server
import json
import time


class Stream(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.headers["Authorization"], flush=True)
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(json.dumps({"username": "ann", "hashtags": ["tea"], "lang": "en"}).encode() + b"\n")
            time.sleep(0.01)


http.server.ThreadingHTTPServer(("127.0.0.1", 18123), Stream).serve_forever()
X
python3 /root/upstream.py >/root/upstream.log 2>/dev/null &
trap 'kill %1' EXIT

$python -m tweetboard unit >/etc/systemd/system/tweetboard.service
systemctl daemon-reload && systemctl enable -q --now tweetboard
says "active" "$(systemctl is-active tweetboard)" active
until_it stream
says "the token from the credential store" "$(head -1 /root/upstream.log)" "Bearer a-very-secret-token"
says "user of its own" "$([ "$(awk '/^Uid/ {print $2}' "/proc/$(shown MainPID)/status")" != 0 ] && echo yes)" yes
echo "        open files: $(awk '/open files/ {print $4}' "/proc/$(shown MainPID)/limits")"
systemd-analyze security --no-pager --threshold=12 tweetboard >/dev/null && says "exposure at most 1.2" yes yes || failed=1

printf '[boards.usernames]\nwindows = ["1m"]\n' >>/etc/tweetboard/config.toml
systemctl reload tweetboard && until_it has_logged 'from now on: boards.usernames.windows'
says "reload" "$(logged 'from now on: boards.usernames.windows')" 1
says "connections of the stream behind it" "$(wc -l </root/upstream.log)" 1
echo 'nonsense = 1' >>/etc/tweetboard/config.toml
systemctl reload tweetboard && until_it has_logged 'nonsense: unknown key'
says "reload of wrong settings" "$(systemctl is-active tweetboard), $(logged 'nonsense: unknown key')" "active, 1"
systemctl restart tweetboard 2>/dev/null || sleep 6
says "start with wrong settings" "$(shown SubState) $(shown ExecMainStatus) $(shown NRestarts)" "failed 2 0"
sed -i /nonsense/d /etc/tweetboard/config.toml
systemctl reset-failed tweetboard && systemctl start tweetboard

killed=$(shown MainPID) && kill -9 "$killed" && until_it another "$killed"
says "kill -9: restarts" "$(shown NRestarts)" 1
until_it stream
stopped=$(shown MainPID) && kill -STOP "$stopped" && began=$SECONDS && { until_it another "$stopped" || until_it another "$stopped"; }
says "a daemon that stands still: restarts" "$(shown NRestarts)" 2
echo "        after $((SECONDS - began)) s"

$python -m tweetboard unit --socket >/etc/systemd/system/tweetboard.socket
systemctl daemon-reload && systemctl stop tweetboard && says "stop" "$(shown Result)" success
systemctl enable -q --now tweetboard.socket tweetboard
(while [ ! -e /run/enough ]; do curl -s -m 20 -o /dev/null -w '%{http_code}\n' http://127.0.0.1:8080/healthz; done) >/run/answers &
for _ in 1 2 3 4 5; do systemctl restart tweetboard; done
touch /run/enough && wait %2
says "answers that are none, over five restarts behind the socket" "$(grep -vc 200 /run/answers || true)" 0
echo "        of $(wc -l </run/answers)"
says "the token in the journal" "$(journalctl --no-pager | grep -c a-very-secret-token || true)" 0
says "warnings as such" "$([ "$(journalctl -q --no-pager -o cat -u tweetboard -p warning | grep -vc level=info)" -gt 0 ] && echo yes)" yes
systemctl disable -q --now tweetboard.socket tweetboard 2>/dev/null
exit $failed
