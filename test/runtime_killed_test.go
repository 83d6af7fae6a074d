package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRuntimeKilled kills the runtime at system calls of every verb. Afterwards
// state, list and delete --force work, and nothing is left. By itself it takes some
// of the calls of each, other ones each day; with COVE_TEST_KILLS=all it takes all.
func TestRuntimeKilled(t *testing.T) {
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("needs strace")
	}
	running := []string{"run", "--detach", "--bundle", ".", "c"}
	for _, verb := range []struct {
		command []string
		before  [][]string
	}{
		{[]string{"create", "--bundle", ".", "c"}, nil},
		{[]string{"run", "--detach", "--bundle", ".", "c"}, nil},
		{[]string{"start", "c"}, [][]string{{"create", "--bundle", ".", "c"}}},
		{[]string{"exec", "c", "true"}, [][]string{running}},
		{[]string{"kill", "c", "KILL"}, [][]string{running}},
		{[]string{"kill", "--all", "c", "KILL"}, [][]string{running}},
		{[]string{"update", "--pids-limit", "50", "--memory", "64m", "c"}, [][]string{running}},
		{[]string{"pause", "c"}, [][]string{running}},
		{[]string{"resume", "c"}, [][]string{running, {"pause", "c"}}},
		{[]string{"delete", "--force", "c"}, [][]string{running}},
		{[]string{"delete", "c"}, [][]string{running, {"kill", "c", "KILL"}}},
	} {
		t.Run(strings.Join(verb.command, " "), func(t *testing.T) {
			k := killing{bundle: newBundle(t, "sleep 60"), command: verb.command, before: verb.before}
			k.write()
			k.calls()
		})
	}
}

// killing kills one command again and again.
type killing struct {
	*bundle
	command []string
	before  [][]string
}

// innocent are system calls after which nothing is different: Go's scheduler makes
// them whenever it likes.
var innocent = regexp.MustCompile(`^(futex|rt_sig\w+|sigaltstack|madvise|mmap|munmap|execve|exit_group|sched_\w+|arch_prctl|nanosleep|set_robust_list|rseq|brk|getrandom|prctl|epoll_\w+|eventfd2|clock_\w+)$`)

// calls counts the calls of the command's main thread, and kills it at those.
func (k *killing) calls() {
	text := k.traced("-e", "signal=none")
	k.settle("")
	type call struct {
		name string
		nth  int
	}
	var all []call
	nth := map[string]int{}
	for line := range strings.Lines(text) {
		name, _, ok := strings.Cut(line, "(")
		if nth[name]++; ok && !innocent.MatchString(name) && !strings.Contains(name, " ") {
			all = append(all, call{name, nth[name]})
		}
	}
	if len(all) < 50 {
		k.t.Fatalf("%d system calls:\n%s", len(all), text)
	}
	step := 1
	first := 0
	if os.Getenv("COVE_TEST_KILLS") != "all" {
		step = len(all) / 6
		first = time.Now().YearDay() % step
	}
	for i := first; i < len(all) && !k.t.Failed(); i += step {
		c := all[i]
		at := fmt.Sprintf("%s #%d", c.name, c.nth)
		k.traced("-e", "trace="+c.name, "-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", c.name, c.nth))
		k.settle(at)
	}
}

// traced runs the command, and what has to be before, and gives its trace.
func (k *killing) traced(options ...string) string {
	k.t.Helper()
	for _, args := range k.before {
		if out, err := k.in(args...); err != nil {
			k.t.Fatalf("%v: %v %s", args, err, out)
		}
	}
	if k.command[0] == "delete" && k.command[1] != "--force" {
		k.until("it has ended", func() bool { return k.state().Status == "stopped" })
	}
	trace := filepath.Join(k.dir, "trace")
	cmd := k.bundle.command(k.command...)
	cmd.Args = append(append([]string{"strace", "-qq", "-o", trace}, options...), cmd.Args...)
	cmd.Path, _ = exec.LookPath("strace")
	cmd.Dir = k.dir
	_ = cmd.Run()
	text, err := os.ReadFile(trace)
	if err != nil {
		k.t.Fatal(err)
	}
	return string(text)
}

// in calls the runtime in the bundle. What is left running has none of our pipes.
func (k *killing) in(args ...string) (string, error) {
	cmd := k.bundle.command(args...)
	cmd.Dir = k.dir
	out, err := os.Create(filepath.Join(k.dir, "said"))
	if err != nil {
		return "", err
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	return string(text), err
}

// settle looks at what was left and removes it.
func (k *killing) settle(at string) {
	k.t.Helper()
	if out, err := k.in("list"); err != nil {
		k.t.Errorf("killed at %s: list: %v %s", at, err, out)
	}
	if out, err := k.in("state", "c"); err != nil && !strings.Contains(out, "does not exist") {
		k.t.Errorf("killed at %s: state: %v %s", at, err, out)
	}
	if out, err := k.in("delete", "--force", "c"); err != nil {
		k.t.Errorf("killed at %s: delete: %v %s", at, err, out)
	}
	var left []string
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if left = k.left(); len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			break
		}
	}
	k.t.Errorf("killed at %s: left behind: %v", at, left)
}

// left is what there is of the bundle's containers, its own processes included.
func (k *killing) left() []string {
	all := append(cgroupsAt(k.Linux.CgroupsPath), mountsBelow(k.dir, "")...)
	if records, _ := os.ReadDir(k.root); len(records) > 0 {
		for _, r := range records {
			if r.Name() != "@seccomp" {
				all = append(all, r.Name())
			}
		}
	}
	processes, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range processes {
		root, _ := os.Readlink(p + "/root")
		line, _ := os.ReadFile(p + "/cmdline")
		dir, _ := os.Readlink(p + "/cwd")
		if strings.HasPrefix(root, k.dir) || strings.HasPrefix(dir, k.dir) || strings.Contains(string(line), k.root) {
			all = append(all, p+" "+string(line))
		}
	}
	return all
}
