package top

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
)

func TestChoose(t *testing.T) {
	for _, test := range []struct {
		ask  []string
		want string // headers
	}{
		{nil, "USER PID PPID %CPU ELAPSED TTY TIME COMMAND"},
		{[]string{"pid,comm", "hpid"}, "PID COMMAND HPID"},
		{[]string{"%p", "%C", "%U", "%z"}, "PID %CPU USER VSZ"},
		{[]string{"%CPU"}, "%CPU"},
	} {
		cols, err := Choose(test.ask)
		var got []string
		for _, c := range cols {
			got = append(got, c.header)
		}
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%q: %q, %v, want %q", test.ask, got, err, test.want)
		}
	}
	for _, bad := range []string{"", "aux", "pid,", "COMMAND"} {
		if _, err := Choose([]string{bad}); !cove.Is(err, cove.Invalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Every column of our own process.
func TestSelf(t *testing.T) {
	p, ok := readProcess(os.Getpid())
	if !ok {
		t.Fatal("cannot read the test's own process")
	}
	time.Sleep(time.Second / procfs.UserHZ) // the start is told in these
	table := newTable(os.Getpid())
	table.processes = []*process{p}
	got := map[string]string{}
	for _, c := range all() {
		got[c.name] = c.show(table, p)
	}
	for name, want := range map[string]string{
		"hpid": strconv.Itoa(os.Getpid()), "pgid": strconv.Itoa(unix.Getpgrp()), "ppid": "0",
		"args": strings.Join(os.Args, " "), "huser": nameOr(hostAccounts("/etc/passwd"), uint32(os.Geteuid())),
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	for name, text := range got {
		if text == "" && name != "groups" && name != "hgroups" {
			t.Errorf("%s is empty", name)
		}
	}
	if rss, _ := strconv.Atoi(got["rss"]); rss < 1000 || rss > 1<<22 {
		t.Errorf("rss %q is not in KiB", got["rss"])
	}
	if e := table.elapsed(p); e <= 0 || e.Hours() > 1 {
		t.Errorf("elapsed %v", e)
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{"0": "?", "34816": "pts/0", "34821": "pts/5", "1025": "tty1", "1088": "ttyS0", "x": "?"} {
		if got := ttyName(in); got != want {
			t.Errorf("terminal %s: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"0000000000000000": "none", "ffffffffffffffff": "full", "0000000000000003": "CHOWN,DAC_OVERRIDE", "?": "?"} {
		if got := capText(in); got != want {
			t.Errorf("capabilities %s: %q, want %q", in, got, want)
		}
	}
	if got := Printable("a\x1b[2Jb\u009bc\nü"); got != "a?[2Jb?c?ü" {
		t.Errorf("printable %q", got)
	}
}

// The container chooses what its passwd is: a link out of its root, a device,
// a FIFO, a file without end.
func TestReadInRoot(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(dir, "outside"), "secret")
	root := filepath.Join(dir, "root")
	write(filepath.Join(root, "etc/passwd"), "root:x:0:0::/:/bin/sh\nroot2:x:0:0::/:/\nbad\napp:x:1000:1000::/:\n")
	write(filepath.Join(root, "big"), strings.Repeat("x", 5000))
	for name, target := range map[string]string{"up": "../outside", "abs": filepath.Join(dir, "outside"), "in": "/etc/passwd", "magic": "/proc/self/exe"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(root, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for _, bad := range []string{"up", "abs", "fifo", "etc", "missing", "magic"} {
		if data, err := readInRoot(fd, bad, 100); err == nil {
			t.Errorf("%s gave %q", bad, data)
		}
	}
	data, err := readInRoot(fd, "in", 1000)
	names := parseAccounts(data)
	if err != nil || names[0] != "root" || names[1000] != "app" || len(names) != 2 {
		t.Errorf("accounts %v, %v", names, err)
	}
	if data, err := readInRoot(fd, "big", 100); err != nil || len(data) != 100 {
		t.Errorf("%d bytes, %v, want 100", len(data), err)
	}
}
