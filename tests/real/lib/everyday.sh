#!/bin/bash
# What a system does all day: everyday.sh OUT WORK runs each of these in the folder WORK, made anew for each, and leaves
# what it said and its exit status in OUT/NAME. Every command says the same in every run.
set -u
out=$1 work=$2 here=$(dirname "$(realpath "$0")")
export LC_ALL=C.UTF-8 TZ=UTC HOME=/nonexistent TERM=xterm PATH=/usr/bin:/bin:/usr/sbin:/sbin
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE='@1700000000 +0000' GIT_COMMITTER_DATE='@1700000000 +0000'

try() { # NAME PROGRAM COMMAND: a line of shell
  command -v "$2" > /dev/null || return
  rm -rf "$work"
  mkdir -p "$work"
  cd "$work" || exit 1
  cp "$here"/* .
  touch -d @1700000000 ./*
  timeout -k 1 30 bash -c "$3" > "$out/$1" 2>&1 < /dev/null
  echo "status $?" >> "$out/$1"
}

serve=': > log; python3 -u -m http.server --bind 127.0.0.1 PORT > log 2>&1 & server=$!; until grep -q Serving log; do sleep 0.02; done'
serve_on() { echo "${serve//PORT/$1}"; }
stop='kill $server; wait $server 2> /dev/null; :'
nobody='setpriv --reuid 65534 --regid 65534 --clear-groups'

try ls ls 'ls -l --time-style=+%s'
try files cp 'mkdir to; cp -a *.* to && mv to copy && ls copy && rm -r copy; stat -c "%n %s %A" *'
try sums sha256sum 'sha256sum *; md5sum *; cksum *'
try dd dd 'dd if=/dev/zero bs=1000 count=1000 status=none | tee file | wc -c; truncate -s 5 file; od -c file'
try sort sort 'cat * | sort | uniq -c | sort -rn | head -20; cut -c1-5 * | tr a-z A-Z | paste - - | tail -3'
try find find 'find . -type f -print0 | xargs -0 -P2 -n1 wc -c | sort; find / -maxdepth 1 -name etc'
try text awk 'awk "{ n += NF } END { print n }" *; sed -n "s/socket/SOCKET/p" *; grep -c the *'
try diff diff 'diff -u case.sh everyday.sh > d; patch -p0 -o out case.sh d; cmp out everyday.sh; wc -l d'
try bash bash 'for i in {1..50}; do echo $i | cat; done | while read -r x; do ((n += x)); echo $n; done | tail -1; cat <(echo a) <(echo b); exec 9< case.sh; read -ru9 x; echo "$x"; exec 9<&-'
try bash-tcp bash "$(serve_on 8001); "'exec 5<> /dev/tcp/127.0.0.1/8001; printf "GET /case.sh HTTP/1.0\r\n\r\n" >&5; cat <&5 | tail -n 5; exec 5>&-; '"$stop"
try dash dash 'dash -c "trap \"echo bye\" EXIT; (exit 3); echo \$?; sleep 0.01 & wait; echo \$(seq 1 5)"'
try tar tar 'tar -cf - --sort=name . 2> /dev/null | tar -tf -; tar -czf a.tgz *.sh; tar -xzf a.tgz -O case.sh | md5sum'
try zip gzip 'for z in gzip bzip2 xz zstd; do command -v $z > /dev/null && cat * | $z -c | $z -dc | md5sum; done'
try cpio cpio 'find . | sort | cpio -o --quiet | cpio -it --quiet'
try rsync rsync 'mkdir to; rsync -a --exclude to . to; rsync -ain --exclude to . to; ls to | wc -l'
try git git 'git init -q -b main; git add .; git commit -qm one; git log --format="%H %an %s"; git gc -q; git clone -q . clone; git -C clone fsck; git -C clone status -s'
try perl perl 'perl -MSocket -e "socketpair(A, B, AF_UNIX, SOCK_STREAM, 0); syswrite A, q(over); close A; print <B>, qq(\n); print join(q( ), map { \$_ ** 2 } 1 .. 9), qq(\n); system q(echo child); print \$? . qq(\n)"'
try python python3 'python3 - <<< "import subprocess, multiprocessing as m, socket, ssl, sqlite3, concurrent.futures as f
print(subprocess.check_output([\"echo\", \"child\"]), sum(f.ThreadPoolExecutor(4).map(len, [\"a\"] * 100)))
a, b = socket.socketpair(); a.sendall(b\"over\"); a.close(); print(b.recv(10), b.recv(10))
if __name__ == \"__main__\": print(m.get_context(\"fork\").Pool(2).map(abs, range(-5, 5)))"'
try curl curl "$(serve_on 8002); "'for i in 1 2 3; do curl -s http://127.0.0.1:8002/case.sh | md5sum; done; curl -s http://127.0.0.1:8002/no | tail -n 3; curl -s http://127.0.0.1:1/; echo $?; '"$stop"
try wget wget "$(serve_on 8003); "'wget -q -O - http://127.0.0.1:8003/case.sh | md5sum; '"$stop"
# It closes its socket twice, and is told so.
try netcat nc 'export PRECLOSE_LOG=none; nc -l 127.0.0.1 8004 > got & until ss -Hltn | grep -q :8004; do sleep 0.02; done; md5sum < case.sh; nc -N 127.0.0.1 8004 < case.sh; wait; md5sum < got'
try socat socat 'echo over | socat - SYSTEM:"tr a-z A-Z"; echo over | socat -t1 - EXEC:cat,pty,echo=0'
try openssl openssl 'openssl dgst -sha256 *; openssl req -x509 -newkey rsa:2048 -nodes -keyout key -out cert -days 1 -subj /CN=localhost 2> /dev/null
  openssl s_server -quiet -accept 127.0.0.1:8005 -key key -cert cert -WWW > log 2>&1 & server=$!; until ss -Hltn | grep -q :8005; do sleep 0.02; done
  printf "GET /case.sh HTTP/1.0\r\n\r\n" | openssl s_client -quiet -verify_quiet -connect 127.0.0.1:8005 2> /dev/null | tail -n +5 | md5sum; '"$stop"
try gpg gpg 'mkdir -m 700 home; export GNUPGHOME=$PWD/home; gpg="gpg --batch --quiet --pinentry-mode loopback --passphrase secret"; $gpg -c -o x case.sh; $gpg -d x | md5sum; gpgconf --kill all'
try ssh ssh 'ssh -V; ssh -G -F none host | sort | head -30; ssh -o ConnectTimeout=2 -F none -p 1 127.0.0.1; ssh-keygen -q -t ed25519 -N "" -f key; ssh-keygen -y -f key | cut -c1-11'
try ssh-agent ssh-agent 'ssh-keygen -q -t ed25519 -N "" -C me -f key; ssh-agent sh -c "ssh-add -q key; ssh-add -l | cut -d\" \" -f1,3-"'
try sshd sshd 'mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N "" -f key; "$(command -v sshd)" -t -f /dev/null -h "$PWD/key"; "$(command -v sshd)" -T -f /dev/null -h "$PWD/key" -C user=root | sort | head -20'
try su su "su -s /bin/sh nobody -c 'id -u; echo over | cat'; $nobody su --version; $nobody su root -c id"
try sudo sudo "sudo -n id -u; sudo -V | head -1; $nobody sudo -n id"
try setuid mount "$nobody mount --version; $nobody mount -t tmpfs x /media; $nobody chage -l nobody; $nobody umount /proc"
try login runuser 'runuser -u nobody -- id -un; runuser -u nobody -- sh -c "kill -0 1"; newgrp --help | head -1'
try who id 'id; getent passwd root; getent hosts localhost; hostname > /dev/null && echo named'
try network ip 'ip -o addr show lo | head -1; ss -Hltn; ip route show table local dev lo | head -1'
try ps ps 'ps -o comm= -p $$; sleep 5 & p=$!; until ps -o stat=,comm= -p $p | grep "^S .*sleep"; do :; done; kill $p; wait $p; echo $?; pgrep -P $$ -c sleep'
try gcc gcc 'echo "int puts(const char *); int main(void) { puts(\"compiled\"); return 7; }" > a.c; gcc -O2 -g -pipe -o a a.c; ./a; echo $?; nm a | grep -c " T main"; size a > /dev/null; strip a; ./a; ldd ./a | grep -c libc.so'
try make make 'printf "all: a b c\n%%:\n\t@sleep 0.02; echo \$@ | cat\n" > Makefile; make -s -j3 -O | sort'
try gdb gdb 'echo "int f(int x) { return x * 2; } int main(void) { return f(21); }" > a.c; gcc -g -O0 -o a a.c; gdb -nx -q -batch -ex "break f" -ex run -ex "print x" -ex finish -ex kill ./a 2>&1 | grep -E "^\\$|Value"'
try strace strace 'strace -f -e trace=pipe2,socket -o log sh -c "echo over | cat" ; grep -c AF_INET log; strace -qq -e trace=none true; echo $?'
try perf perf 'perf --version; perf list sw 2> /dev/null | grep -c cpu-clock'
try sqlite sqlite3 'sqlite3 db "create table t (a); insert into t values (1), (2); select sum(a) from t; pragma integrity_check"; sqlite3 db .dump'
try tmux tmux 'tmux="tmux -S socket -f /dev/null"; $tmux new-session -d "echo in tmux; $tmux wait-for -S done; exec cat"; timeout 10 $tmux wait-for done; $tmux capture-pane -p | head -1; $tmux list-windows -F "#{window_panes}"; $tmux kill-server'
try script script 'script -qec "echo on a terminal; tty > /dev/null && echo yes" /dev/null'
try apt apt-get 'apt-get --version | head -1; apt-config dump | sort | md5sum; apt-cache policy bash | head -3; apt-get -s -o Debug::NoLocking=1 install bash | tail -1'
try dpkg dpkg 'dpkg -s bash | head -3; dpkg -L bash | sort | md5sum; dpkg -S /bin/bash; dpkg-deb --version | head -1'
try apache apache2ctl 'mkdir -p /var/run/apache2; apache2ctl -t 2>&1 | tail -1; apache2ctl -M 2> /dev/null | sort | head -5'
try nginx nginx 'nginx -t -e stderr 2>&1 | tail -1; nginx -V 2>&1 | md5sum'
try postgres psql 'psql --version; psql -h 127.0.0.1 -p 1 -c "select 1"; psql -h "$PWD" -c "select 1"'
try redis redis-server 'redis-server --port 8006 --bind 127.0.0.1 --save "" --daemonize no > log 2>&1 & server=$!; until redis-cli -p 8006 ping 2> /dev/null; do sleep 0.02; done; redis-cli -p 8006 set a b; redis-cli -p 8006 get a; redis-cli -p 8006 shutdown nosave; wait $server; echo $?'
try postfix postconf 'postconf -d | grep -v "mydomain\|myhostname\|process_id\|mynetworks" | md5sum'
try man man 'man -w bash > /dev/null 2>&1; echo ".TH X 1" > x.1; MANWIDTH=60 man -l x.1 | cat'
try ruby ruby 'ruby -rsocket -e "a, b = UNIXSocket.pair; a << :over; a.close; puts b.read; puts \`echo child\`; puts (1..5).map { |i| Thread.new { i * i } }.map(&:value).sum"'
try node node 'node -e "const n = require(\"net\"); const s = n.createServer(c => c.end(\"over\")).listen(0, () => n.connect(s.address().port).on(\"data\", d => console.log(String(d))).on(\"end\", () => s.close())); console.log(require(\"child_process\").execSync(\"echo child\") + \"\")"'
try php php 'php -n -r "echo array_sum(range(1, 10)), PHP_EOL, shell_exec(\"echo child\"); [\$a, \$b] = stream_socket_pair(1, 1, 0); fwrite(\$a, \"over\"); fclose(\$a); echo fgets(\$b), PHP_EOL;"'
try java java 'java -version; echo "class A { public static void main(String[] a) { System.out.println(6 * 7); } }" > A.java; java -Xshare:auto A.java'
try tcl tclsh 'echo "puts [expr 6*7]; puts [exec echo child]" | tclsh'
try systemd systemctl 'systemctl --version | head -1; systemd-analyze --version | head -1; systemctl is-active nothing'
try edit ed 'printf "1,3p\n2d\nw out\nq\n" | ed -s case.sh; wc -c out'
try vim vim 'vim -Nu NONE -es -c "%s/the/THE/g" -c "wq! out" case.sh; md5sum out'
try less less 'less case.sh | md5sum'
try busybox busybox 'busybox ls; busybox sh -c "echo a | busybox cat"; busybox nslookup localhost 127.0.0.1 2>&1 | tail -1'
try xml xmllint 'echo "<a><b/></a>" | xmllint --format -'
try jq jq 'echo "{\"a\": [1, 2]}" | jq -c "{b: .a}"'
try bc bc 'echo "2 ^ 100" | bc'
try file file 'file case.sh *.py | sort'
try lock flock 'flock lock sh -c "flock -n lock echo held || echo not held"'
try loader ldd 'ldconfig -p > /dev/null; ldd /bin/ls | grep -c libc.so; getconf PAGE_SIZE; locale'
rm -rf "$work"
