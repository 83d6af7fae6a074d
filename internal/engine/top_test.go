package engine

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

func TestTopColumns(t *testing.T) {
	for _, test := range []struct {
		ask  []string
		want string // headers
	}{
		{nil, "USER PID PPID %CPU ELAPSED TTY TIME COMMAND"},
		{[]string{"pid,comm", "hpid"}, "PID COMMAND HPID"},
		{[]string{"%p", "%C", "%U", "%z"}, "PID %CPU USER VSZ"},
		{[]string{"%CPU"}, "%CPU"},
	} {
		cols, err := chooseColumns(test.ask)
		var got []string
		for _, c := range cols {
			got = append(got, c.header)
		}
		if err != nil || strings.Join(got, " ") != test.want {
			t.Errorf("%q: %q, %v, want %q", test.ask, got, err, test.want)
		}
	}
	for _, bad := range []string{"", "aux", "pid,", "COMMAND"} {
		_, err := chooseColumns([]string{bad})
		wantKind(t, err, cove.Invalid, "unknown descriptor")
	}
}

// Every column of our own process.
func TestTopSelf(t *testing.T) {
	p, ok := readTopProcess(os.Getpid())
	if !ok {
		t.Fatal("cannot read the test's own process")
	}
	table := newTopTable(os.Getpid())
	table.processes = []*topProcess{p}
	got := map[string]string{}
	for _, c := range topColumns() {
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

func TestTopText(t *testing.T) {
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
	if got := printable("a\x1b[2Jb\u009bc\nü"); got != "a?[2Jb?c?ü" {
		t.Errorf("printable %q", got)
	}
	rows := psRows("PID CMD\n  1 sleep 10 20\n 12 sh\n")
	if want := [][]string{{"PID", "CMD"}, {"1", "sleep 10 20"}, {"12", "sh"}}; !reflect.DeepEqual(rows, want) {
		t.Errorf("ps %q", rows)
	}
	ranges := parseIDMap([]byte("         0     100000      65536\n     70000       5000          2\n"))
	for host, want := range map[uint32]uint32{100000: 0, 100999: 999, 5001: 70001, 0: 65534, 165536: 65534} {
		if got := mapID(ranges, host); got != want {
			t.Errorf("ID %d: %d, want %d", host, got, want)
		}
	}
	got := parseNetDev([]byte("Inter-|   Receive  | Transmit\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 200 2 0 0 0 0 0 0\neth1:5 1 0 0 0 0 0 0 7 2 0 0 0 0 0 0\n"))
	want := map[string]InterfaceStats{"eth0": {RxBytes: 100, RxPackets: 1, TxBytes: 200, TxPackets: 2}, "eth1": {RxBytes: 5, RxPackets: 1, TxBytes: 7, TxPackets: 2}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("interfaces %v", got)
	}
}

// The container chooses what its passwd is: a link out of its root, a device,
// a FIFO, a file without end.
func TestReadInRoot(t *testing.T) {
	dir := t.TempDir()
	mustWrite(t, filepath.Join(dir, "outside"), "secret")
	root := filepath.Join(dir, "root")
	mustWrite(t, filepath.Join(root, "etc/passwd"), "root:x:0:0::/:/bin/sh\nroot2:x:0:0::/:/\nbad\napp:x:1000:1000::/:\n")
	mustWrite(t, filepath.Join(root, "big"), strings.Repeat("x", 5000))
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

func TestTopAndStatsOfEnded(t *testing.T) {
	e, _ := engineWith(t)
	c := stored(t, e, "a", nil)
	_, err := e.Top(t.Context(), "a", nil)
	wantKind(t, err, cove.WrongStatus, "top can only be used on running containers")
	list, err := e.Stats(t.Context(), []string{"a"}, false)
	if err != nil || len(list) != 1 || list[0].ID != c.ID || list[0].MemUsage != 0 || list[0].SystemNano == 0 {
		t.Errorf("stats %+v, %v", list, err)
	}
	for all, want := range map[bool]int{false: 0, true: 1} {
		if list, err := e.Stats(t.Context(), nil, all); err != nil || len(list) != want {
			t.Errorf("all %v: %d, %v", all, len(list), err)
		}
	}
	if !slices.ContainsFunc(cpuTicks(), func(n uint64) bool { return n > 0 }) {
		t.Error("no time has passed since boot")
	}
}
