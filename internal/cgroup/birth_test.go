package cgroup

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestBorn: the child is in every cgroup of the set from its first
// instruction, and the caller is where it was.
func TestBorn(t *testing.T) {
	l, parent := live(t)
	set, _, err := l.Set(parent, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Make(); err != nil {
		t.Fatal(err)
	}
	membership := func() string {
		b, err := os.ReadFile("/proc/thread-self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	before := membership()
	var born strings.Builder
	rest, err := l.Born(set, func(unified int) error {
		c := exec.Command("cat", "/proc/self/cgroup")
		c.Stdout = &born
		c.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: unified >= 0, CgroupFD: unified}
		return c.Run()
	})
	if err != nil || len(rest) > 0 {
		t.Fatalf("to be joined: %v, error %v", rest, err)
	}
	if n := strings.Count(born.String(), parent+"\n"); n != len(set.Dirs) {
		t.Errorf("born in %d of %d cgroups:\n%s", n, len(set.Dirs), born.String())
	}
	if after := membership(); after != before {
		t.Errorf("the caller was in\n%sand is in\n%s", before, after)
	}
}

// TestBornFailed: what f has to say comes back, and so does the thread.
func TestBornFailed(t *testing.T) {
	l, parent := live(t)
	set, _, err := l.Set(parent, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Make(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Born(set, func(int) error { return unix.ENOEXEC }); err != unix.ENOEXEC {
		t.Errorf("error %v, want the fork's", err)
	}
	if b, _ := os.ReadFile("/proc/thread-self/cgroup"); strings.Contains(string(b), parent) {
		t.Errorf("the caller has stayed in %s:\n%s", parent, b)
	}
}
