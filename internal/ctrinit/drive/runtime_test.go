package drive

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// program writes a runtime.
func program(t *testing.T, script string) (runtime []string, dir string) {
	t.Helper()
	dir = t.TempDir()
	name := filepath.Join(dir, "rt")
	// Another test's child that had it open for writing would make it busy.
	syscall.ForkLock.RLock()
	err := os.WriteFile(name, []byte("#!/bin/sh\n"+script+"\n"), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	return []string{name, "--root", dir}, dir
}

// A runtime that hangs is killed with what it has started, and has its say.
func TestHangs(t *testing.T) {
	for _, command := range []string{"create", "start", "exec", "kill", "delete"} {
		t.Run(command, func(t *testing.T) {
			t.Parallel()
			runtime, dir := program(t, `echo "waits in $5" >&2; sleep 1000 & echo $! > "$2/child"; wait`)
			var text []byte
			for limit := time.Second; len(text) == 0; limit *= 4 { // until that is enough for a shell to come to it
				if limit > 2*time.Minute {
					t.Fatal("it has not begun")
				}
				r := request{runtime: runtime, dir: dir, name: command, args: []string{"id"}, limit: limit}
				begun := time.Now()
				f := r.do()
				if took := time.Since(begun); took > limit+time.Minute {
					t.Errorf("it took %v", took)
				}
				text, _ = os.ReadFile(filepath.Join(dir, "child"))
				want := fmt.Sprintf("it has not ended after %s and was killed; it said: waits in %s", limit, command)
				if len(text) > 0 && (f == nil || f.Step != "rt "+command || f.Text != want) {
					t.Errorf("%v", f)
				}
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			awaitDeath(t, pid)
		})
	}
}

// One that ends well without having made anything has its say, too.
func TestMadeNothing(t *testing.T) {
	runtime, dir := program(t, `echo "no room" >&2`)
	r := request{runtime: runtime, dir: dir, name: "create", args: []string{"id"}, limit: time.Minute, makes: filepath.Join(dir, "pid")}
	want := "it has ended without an error, and has written no pid file; it said: no room"
	if f := r.do(); f == nil || f.Step != "rt create" || f.Text != want {
		t.Errorf("%v, want %q", f, want)
	}
	if err := os.WriteFile(r.makes, []byte("7"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := r.do(); f != nil {
		t.Error(f)
	}
}

// One that is called off is killed at once.
func TestCalledOff(t *testing.T) {
	runtime, dir := program(t, "exec sleep 1000")
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(p[0])
	time.AfterFunc(100*time.Millisecond, func() { _ = unix.Close(p[1]) })
	r := request{runtime: runtime, dir: dir, name: "create", limit: time.Hour, until: []unix.PollFd{{Fd: int32(p[0]), Events: unix.POLLIN}}}
	if f := r.do(); f == nil || f.Text != "it was stopped before it had started" {
		t.Errorf("%v", f)
	}
}

// awaitDeath waits until a process is gone or a zombie of whoever reaps orphans.
func awaitDeath(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
	}
	t.Errorf("process %d of the runtime lives on", pid)
}

// What a runtime says is its log's last error, or else the end of its standard
// error, wherever that goes.
func TestWords(t *testing.T) {
	long := strings.Repeat("x", 1000)
	for name, c := range map[string]struct{ script, want string }{
		"log first":     {`echo noise >&2; echo '{"level":"error","msg":"of the log"}' > "$4"; exit 1`, "of the log"},
		"crun's":        {`printf 'fork: no room\nfail startup\n' > "$4"; exit 1`, "fork: no room: fail startup"},
		"crun's JSON":   {`printf '{"level":"error","msg":"%s"}\n' 'no room' 'fail startup' > "$4"; exit 1`, "no room: fail startup"},
		"as runc":       {`printf 'level=error msg="%s"\n' 'no room' 'rt start failed: no room' > "$4"; exit 1`, "rt start failed: no room"},
		"warnings only": {`echo words >&2; echo '{"level":"warning","msg":"of the log"}' > "$4"; exit 1`, "words"},
		"lines":         {`printf 'a\tb\n\nc\n' >&2; exit 1`, "a b c"},
		"bytes":         {`printf 'a\377b' >&2; exit 1`, "ab"},
		"long":          {"echo begin " + long + " the end >&2; exit 1", "…" + long[:292] + " the end"},
		"silent":        {"exit 3", "it has failed without a word in its log"},
		"signal":        {"kill -9 $$", "it was ended by a signal: killed"},
	} {
		runtime, dir := program(t, c.script)
		r := request{runtime: runtime, dir: dir, name: "start", limit: time.Minute}
		if f := r.do(); f == nil || f.Text != c.want {
			t.Errorf("%s: %v", name, f)
		}
	}
	// What it leaves running can write, and not fill the memory, nor dies.
	runtime, dir := program(t, `(while test ! -e "$2/end"; do sleep 0.01; done; echo more >&2; echo $? > "$2/code") & exit 1`)
	r := request{runtime: runtime, dir: dir, name: "start", limit: time.Minute}
	if f := r.do(); f == nil || !strings.Contains(f.Text, "without a word") {
		t.Errorf("%v", f)
	}
	if err := os.WriteFile(filepath.Join(dir, "end"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if code, _ := os.ReadFile(filepath.Join(dir, "code")); len(code) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("what was left running has died")
		}
	}
}
