package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A limit of tasks binds the command from its first instruction, and not the threads
// of ours that make it.
func TestRuntimePidsLimit(t *testing.T) {
	for _, limit := range []int64{0, 1, 2, 3} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			b := newBundle(t, "echo begun; (true); (sleep 1 & sleep 1); true")
			b.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &limit}}
			b.write()
			for range 5 {
				out, err := b.try("run", "--bundle", b.dir, "c")
				if !strings.HasPrefix(out, "begun\n") {
					t.Fatalf("%v: %s", err, out)
				}
				if bound := strings.Contains(out, "can't fork"); bound != (limit == 1 || limit == 2) {
					t.Fatalf("%v: %s", err, out)
				}
			}
		})
	}
}

// So it is with a command that joins. It and the process that has it there are two.
func TestRuntimePidsLimitExec(t *testing.T) {
	b := newBundle(t, "exec sleep 1000")
	b.Linux.Resources = &specs.LinuxResources{Pids: &specs.LinuxPids{Limit: new(int64)}}
	b.start()
	for _, limit := range []string{"3", "4"} {
		b.ok("update", "--pids-limit", limit, "c")
		for range 10 {
			b.expect(b.ok("exec", "c", "echo", "in"), "in")
		}
		if out, err := b.try("exec", "c", "sh", "-c", "(sleep 1 & sleep 1 & sleep 1); true"); !strings.Contains(out, "can't fork") {
			t.Errorf("with %s: %v %s", limit, err, out)
		}
	}
	b.ok("delete", "-f", "c")
}
