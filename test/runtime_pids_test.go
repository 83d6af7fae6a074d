package test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A limit of tasks binds the command from its first instruction, and not the threads
// of ours that make it.
func TestRuntimePidsLimit(t *testing.T) {
	for _, row := range []struct {
		version string
		limit   int64
		bound   bool
	}{
		{"1.2.1", 0, false}, {"1.3.0", 0, true}, {"1.10.0", 0, true}, {"1.3.0", 1, true}, {"1.2.1", 2, true}, {"1.3.0", 3, false}, {"1.3.0", -1, false},
	} {
		t.Run(fmt.Sprint(row), func(t *testing.T) {
			b := newBundle(t, "echo begun; (true); (sleep 1 & sleep 1); true")
			b.Version = row.version
			b.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &row.limit}}
			b.write()
			for range 5 {
				out, err := b.try("run", "--bundle", b.dir, "c")
				if !strings.HasPrefix(out, "begun\n") {
					t.Fatalf("%v: %s", err, out)
				}
				if bound := strings.Contains(out, "can't fork"); bound != row.bound {
					t.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}

// So it is with a command that joins; it and the process that has it there are two.
// A cgroup of version 2, which takes whole processes, has room for ours or says no.
func TestRuntimePidsLimitExec(t *testing.T) {
	b := newBundle(t, "exec sleep 1000")
	b.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64)}}
	b.start()
	enough := []string{"3", "4"}
	if unified() {
		enough = []string{"9"}
		b.ok("update", "--pids-limit", "8", "c")
		if out, err := b.try("exec", "c", "echo", "in"); err == nil || strings.Contains(out, "goroutine") || !strings.Contains(out, "resource temporarily unavailable: the limit of tasks") {
			t.Errorf("with 8: %v %s", err, out)
		}
	}
	for _, limit := range enough {
		b.ok("update", "--pids-limit", limit, "c")
		for range 10 {
			b.expect(b.ok("exec", "c", "echo", "in"), "in")
		}
		if out, err := b.try("exec", "c", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; true"); !strings.Contains(out, "can't fork") {
			t.Errorf("with %s: %v %s", limit, err, out)
		}
	}
	b.ok("delete", "-f", "c")
}

func TestRuntimePidsLimitUpdate(t *testing.T) {
	for version, want := range map[string]string{"1.0.2-dev": "max", "1.3.0": "1"} {
		b := newBundle(t, "sleep 60")
		b.Version = version
		b.start()
		b.ok("update", "--pids-limit", "50", "c")
		b.ok("update", "--pids-limit", "0", "c")
		found := 0
		for _, d := range cgroupsAt(b.Linux.CgroupsPath) {
			if text, err := os.ReadFile(d + "/pids.max"); err == nil {
				b.expect(string(text), want)
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d limits", found)
		}
	}
}
